"""From a list of samples to a batch, by stacking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

import numpy as np
import torch

from dovetail.data.batch import Batch, as_batch
from dovetail.data.errors import DataError

_PAIR = 2


@final
class DefaultCollator:
    """Stacks samples whose values have equal shapes.

    A sample is ``(input, target)``, an input alone, or a dict with ``inputs`` and perhaps ``targets`` and ``mask``;
    whatever else the dict has, and what is under its ``meta``, becomes the batch's ``meta``. Inputs may be a dict of
    values.

    Tensors and arrays keep their dtype; Python's numbers become int64, the default float dtype, or bool; text and other
    objects become lists, in ``meta`` only.
    """

    #: Draws no random numbers.
    deterministic: ClassVar[bool] = True

    def __call__(self, samples: list[Any]) -> Batch:
        """Return the batch of ``samples``, in their order.

        Raises:
            DataError: the samples differ in form, in keys or in shape, or there are none.
        """
        fields = by_field(samples)
        batch = Batch()
        for name, values in fields.items():
            if name == "meta":
                batch["meta"] = {key: gather(items) for key, items in values.items()}
            elif name == "inputs":
                batch["inputs"] = _inputs(values)
            else:
                batch[name] = stack(values, name)  # type: ignore[literal-required] # targets or mask
        return batch


def by_field(samples: Sequence[Any]) -> dict[str, Any]:
    """Return the samples' values by field: a list for each, and under ``meta`` a dict of lists.

    Raises:
        DataError: the samples differ in form or in keys, or there are none.
    """
    if not samples:
        raise DataError("a collator was given no samples")
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


def _inputs(values: list[Any]) -> torch.Tensor | dict[str, torch.Tensor]:
    if not isinstance(values[0], Mapping):
        return stack(values, "inputs")
    for number, value in enumerate(values):
        if not isinstance(value, Mapping) or value.keys() != values[0].keys():
            raise DataError(f"samples 0 and {number} of a batch have different keys in their inputs")
    return {key: stack([value[key] for value in values], f"inputs '{key}'") for key in values[0]}


def stack(values: Sequence[Any], name: str) -> torch.Tensor:
    """Return the values of one field as one tensor ``[samples, …]``.

    Raises:
        DataError: the values have different shapes, or are neither tensors, arrays nor numbers.
    """
    first = values[0]
    if isinstance(first, bool | int | float) and all(type(value) is type(first) for value in values):
        return torch.tensor(values)
    tensors = [as_tensor(value, name) for value in values]
    for number, tensor in enumerate(tensors):
        if tensor.shape != tensors[0].shape:
            raise DataError(
                f"samples 0 and {number} of a batch have {name} of shapes {tuple(tensors[0].shape)} and "
                f"{tuple(tensor.shape)}; the default collator needs equal ones, collator type 'classification' pads"
            )
    return torch.stack(tensors)


def as_tensor(value: Any, name: str) -> torch.Tensor:
    """Return a tensor, array or number as a tensor.

    Raises:
        DataError: it is something else.
    """
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return torch.from_numpy(value if value.flags.writeable else value.copy())
    if isinstance(value, bool | int | float):
        return torch.tensor(value)
    if isinstance(value, np.generic) and value.dtype.kind in "biufc":
        return torch.from_numpy(np.asarray(value).copy())
    raise DataError(f"{name}: cannot make a tensor of {type(value).__name__} {value!r:.60}")


def gather(values: Sequence[Any]) -> torch.Tensor | list[Any]:
    """Return the values of a meta field: one tensor where all are numbers, or tensors of one shape, else a list."""
    if all(isinstance(value, torch.Tensor | np.ndarray | np.generic | bool | int | float) for value in values):
        try:
            return stack(values, "meta")
        except DataError:
            return list(values)
    return list(values)
