"""Collators of samples of any task, by stacking or by padding, and the helpers that all collators share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, final

import numpy as np
import torch
from attrs import frozen

from dovetail.data.batch import Batch, as_batch
from dovetail.data.errors import DataError
from dovetail.spec import Provided

_PAIR = 2


@final
class DefaultCollator:
    """Stacks samples whose values have equal shapes.

    A sample is ``(input, target)``, an input alone, or a dict with ``inputs`` and optionally ``targets`` and ``mask``.
    Every other key of the dict, and everything under its ``meta``, goes into the batch's ``meta``. Inputs may be a dict
    of values. A dict with ``labels`` instead of ``inputs`` is read as Hugging Face's.

    Tensors and arrays keep their dtype. Python numbers become int64, the default float dtype, or bool. Text and other
    objects become lists, in ``meta`` only.
    """

    #: Draws no random numbers.
    deterministic: ClassVar[bool] = True

    def __call__(self, samples: list[Any]) -> Batch:
        """Return the batch of ``samples``, in their order.

        Raises:
            DataError: there are no samples, or they differ in form, keys or shape.
        """
        fields = collect_fields(samples)
        batch = Batch()
        for name, values in fields.items():
            if name == "meta":
                batch["meta"] = {key: collate_meta(items) for key, items in values.items()}
            elif name == "inputs":
                batch["inputs"] = _stack_inputs(values)
            else:
                batch[name] = stack(values, name)  # type: ignore[literal-required] # targets or mask
        return batch


def collect_fields(samples: Sequence[Any]) -> dict[str, Any]:
    """Return the samples' values by field: a list for each field, and under ``meta`` a dict of lists.

    Raises:
        DataError: there are no samples, or they differ in form or keys.
    """
    if not samples:
        raise DataError("the collator got no samples")
    read = [_as_dict(sample) for sample in samples]
    first = read[0]
    for number, sample in enumerate(read):
        if sample.keys() != first.keys() or sample["meta"].keys() != first["meta"].keys():
            raise DataError(
                f"samples 0 and {number} of a batch have different fields: {_fields(first)} and {_fields(sample)}"
            )
    fields: dict[str, Any] = {name: [sample[name] for sample in read] for name in first if name != "meta"}
    if first["meta"]:
        fields["meta"] = {key: [sample["meta"][key] for sample in read] for key in first["meta"]}
    return fields


def _as_dict(sample: Any) -> dict[str, Any]:
    if isinstance(sample, Mapping):
        if "inputs" not in sample and "labels" in sample:
            return {**as_batch(sample), "meta": {}}
        if "inputs" not in sample:
            raise DataError(f"a sample has the keys {sorted(map(str, sample))}, none of them 'inputs' or 'labels'")
        meta = dict(sample.get("meta", {}))
        meta |= {key: value for key, value in sample.items() if key not in {"inputs", "targets", "mask", "meta"}}
        return {key: sample[key] for key in ("inputs", "targets", "mask") if key in sample} | {"meta": meta}
    if isinstance(sample, tuple | list):
        if len(sample) != _PAIR:
            kind = type(sample).__name__
            raise DataError(f"a sample is a {kind} of {len(sample)}; (input, target) or a dict is needed")
        return {"inputs": sample[0], "targets": sample[1], "meta": {}}
    return {"inputs": sample, "meta": {}}


def _fields(sample: dict[str, Any]) -> str:
    return ", ".join([*(name for name in sample if name != "meta"), *map(str, sample["meta"])])


def _stack_inputs(values: list[Any]) -> torch.Tensor | dict[str, torch.Tensor]:
    if not isinstance(values[0], Mapping):
        return stack(values, "inputs")
    for number, value in enumerate(values):
        if not isinstance(value, Mapping) or value.keys() != values[0].keys():
            raise DataError(f"samples 0 and {number} of a batch have different keys in their inputs")
    return {key: stack([value[key] for value in values], f"inputs '{key}'") for key in values[0]}


def stack(values: Sequence[Any], name: str) -> torch.Tensor:
    """Return the values of one field as a tensor ``[samples, …]``.

    Raises:
        DataError: the values differ in shape, or are neither tensors, arrays nor numbers.
    """
    first = values[0]
    if isinstance(first, bool | int | float) and all(type(value) is type(first) for value in values):
        return torch.tensor(values)
    tensors = [as_tensor(value, name) for value in values]
    for number, tensor in enumerate(tensors):
        if tensor.shape != tensors[0].shape:
            raise DataError(
                f"samples 0 and {number} of a batch have {name} of shapes {tuple(tensors[0].shape)} and "
                f"{tuple(tensor.shape)}; the default collator needs equal shapes, collator type 'classification' pads"
            )
    return torch.stack(tensors)


def as_tensor(value: Any, name: str) -> torch.Tensor:
    """Return a tensor, array or number as a tensor.

    Raises:
        DataError: the value is something else; the message starts with ``name``.
    """
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return torch.from_numpy(value if value.flags.writeable else value.copy())
    if isinstance(value, bool | int | float):
        return torch.tensor(value)
    if isinstance(value, np.generic) and value.dtype.kind in "biufc":
        return torch.from_numpy(np.asarray(value).copy())
    raise DataError(f"{name}: cannot convert {type(value).__name__} {value!r:.60} to a tensor")


def collate_meta(values: Sequence[Any]) -> torch.Tensor | list[Any]:
    """Return the values of a meta field as one tensor if they are numbers or tensors of one shape, else as a list."""
    if all(isinstance(value, torch.Tensor | np.ndarray | np.generic | bool | int | float) for value in values):
        try:
            return stack(values, "meta")
        except DataError:
            return list(values)
    return list(values)


@final
@frozen
class ClassificationCollator:
    """Pads inputs on the right to the batch's longest, with a mask; targets become int64 class indices.

    The batch has ``inputs`` ``[batch, …]``, ``mask`` ``[batch, longest]`` (bool, True where an input is real),
    ``targets`` ``[batch]`` int64, and ``meta`` as from the default collator.
    """

    #: Draws no random numbers.
    deterministic: ClassVar[bool] = True

    #: Fills the inputs after the end of a sample; a model that takes a mask never sees it.
    pad_value: float = 0.0
    #: The dimension of a sample that varies: 0 for ``[time]`` and ``[time, features]``, -1 for ``[channels, time]``.
    pad_dim: int = 0
    #: Number of classes, to check targets; None skips the check.
    num_classes: Annotated[int | None, Provided] = None

    def __call__(self, samples: list[Any]) -> Batch:
        """Return the batch of ``samples``, in their order.

        Raises:
            DataError: inputs differ in a dimension other than ``pad_dim``, or a target is not a class index.
        """
        fields = collect_fields(samples)
        inputs = [as_tensor(value, "inputs") for value in fields["inputs"]]
        lengths = self._lengths(inputs)
        padded = self._pad(inputs, lengths)
        mask = torch.arange(padded.shape[self._dim(padded.ndim - 1) + 1]) < torch.tensor(lengths)[:, None]
        for row, own in enumerate(fields.get("mask", ())):
            if len(own) != lengths[row]:
                raise DataError(f"sample {row} of a batch has a mask of {len(own)} for an input of {lengths[row]}")
            mask[row, : lengths[row]] &= as_tensor(own, "mask").bool()
        batch = Batch(inputs=padded, mask=mask)
        if "targets" in fields:
            batch["targets"] = self._targets(fields["targets"])
        if "meta" in fields:
            batch["meta"] = {key: collate_meta(values) for key, values in fields["meta"].items()}
        return batch

    def _dim(self, ndim: int) -> int:
        if not -ndim <= self.pad_dim < ndim:
            raise DataError(f"pad_dim = {self.pad_dim}, but a sample's input has {ndim} dimensions")
        return self.pad_dim % ndim

    def _lengths(self, inputs: Sequence[torch.Tensor]) -> list[int]:
        first = inputs[0]
        dim = self._dim(first.ndim)
        fixed = [size for place, size in enumerate(first.shape) if place != dim]
        for number, tensor in enumerate(inputs):
            if tensor.ndim != first.ndim or [size for place, size in enumerate(tensor.shape) if place != dim] != fixed:
                raise DataError(
                    f"samples 0 and {number} of a batch have inputs of shapes {tuple(first.shape)} and "
                    f"{tuple(tensor.shape)}: only dimension {dim} may differ (collator.pad_dim)"
                )
        return [tensor.shape[dim] for tensor in inputs]

    def _pad(self, inputs: Sequence[torch.Tensor], lengths: Sequence[int]) -> torch.Tensor:
        longest = max(lengths)
        if min(lengths) == longest:
            return torch.stack(tuple(inputs))
        dim = self._dim(inputs[0].ndim)
        shape = list(inputs[0].shape)
        shape[dim] = longest
        padded = torch.full((len(inputs), *shape), self.pad_value, dtype=inputs[0].dtype)
        for row, tensor in enumerate(inputs):
            padded[row].narrow(dim, 0, lengths[row]).copy_(tensor)
        return padded

    def _targets(self, values: Sequence[Any]) -> torch.Tensor:
        targets = stack(values, "targets")
        if targets.is_floating_point() or targets.is_complex():
            raise DataError(f"targets must be class indices, got {str(targets.dtype).removeprefix('torch.')} values")
        targets = targets.long()
        if targets.ndim == 1 and self.num_classes is not None:
            wrong = torch.nonzero((targets < 0) | (targets >= self.num_classes)).flatten()
            if len(wrong):
                row = int(wrong[0])
                raise DataError(
                    f"sample {row} of a batch has the target {int(targets[row])}; "
                    f"with {self.num_classes} classes it must be between 0 and {self.num_classes - 1}"
                )
        return targets
