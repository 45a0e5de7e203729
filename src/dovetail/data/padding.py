"""From a list of samples of different lengths to a batch, by padding on the right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, final

import torch
from attrs import frozen

from dovetail.data.batch import Batch
from dovetail.data.collators import as_tensor, by_field, gather, stack
from dovetail.data.errors import DataError
from dovetail.kernel.kind import Provided


@final
@frozen
class ClassificationCollator:
    """Right-pads inputs to the batch's longest and marks what is real; targets become int64 class indices.

    The batch has ``inputs`` ``[batch, …]``, ``mask`` ``[batch, longest]`` (bool, True where real), ``targets``
    ``[batch]`` int64, and ``meta`` as the default collator makes it.
    """

    #: Draws no random numbers.
    deterministic: ClassVar[bool] = True

    #: What is put where a sample has ended; a model that takes a mask never sees it.
    pad_value: float = 0.0
    #: The dimension of a sample that varies: 0 for ``[time]`` and ``[time, features]``, -1 for ``[channels, time]``.
    pad_dim: int = 0
    #: Number of classes, to check targets; None does not check.
    num_classes: Annotated[int | None, Provided] = None

    def __call__(self, samples: list[Any]) -> Batch:
        """Return the batch of ``samples``, in their order.

        Raises:
            DataError: inputs differ in another dimension than ``pad_dim``, or a target is no class index.
        """
        fields = by_field(samples)
        inputs = [as_tensor(value, "inputs") for value in fields["inputs"]]
        lengths = self._lengths(inputs)
        padded = self._padded(inputs, lengths)
        mask = torch.arange(padded.shape[self._dim(padded.ndim - 1) + 1]) < torch.tensor(lengths)[:, None]
        for row, own in enumerate(fields.get("mask", ())):
            if len(own) != lengths[row]:
                raise DataError(f"sample {row} of a batch has a mask of {len(own)} for an input of {lengths[row]}")
            mask[row, : lengths[row]] &= as_tensor(own, "mask").bool()
        batch = Batch(inputs=padded, mask=mask)
        if "targets" in fields:
            batch["targets"] = self._targets(fields["targets"])
        if "meta" in fields:
            batch["meta"] = {key: gather(values) for key, values in fields["meta"].items()}
        return batch

    def _dim(self, ndim: int) -> int:
        if not -ndim <= self.pad_dim < ndim:
            raise DataError(f"pad_dim = {self.pad_dim}, but a sample's input has {ndim} dimensions")
        return self.pad_dim % ndim

    def _lengths(self, inputs: Sequence[torch.Tensor]) -> list[int]:
        first = inputs[0]
        dim = self._dim(first.ndim)
        for number, one in enumerate(inputs):
            rest = [size for place, size in enumerate(one.shape) if place != dim]
            if one.ndim != first.ndim or rest != [size for place, size in enumerate(first.shape) if place != dim]:
                raise DataError(
                    f"samples 0 and {number} of a batch have inputs of shapes {tuple(first.shape)} and "
                    f"{tuple(one.shape)}: "
                    f"only dimension {dim} may differ (collator.pad_dim)"
                )
        return [one.shape[dim] for one in inputs]

    def _padded(self, inputs: Sequence[torch.Tensor], lengths: Sequence[int]) -> torch.Tensor:
        longest = max(lengths)
        if min(lengths) == longest:
            return torch.stack(tuple(inputs))
        dim = self._dim(inputs[0].ndim)
        shape = list(inputs[0].shape)
        shape[dim] = longest
        padded = torch.full((len(inputs), *shape), self.pad_value, dtype=inputs[0].dtype)
        for row, one in enumerate(inputs):
            padded[row].narrow(dim, 0, lengths[row]).copy_(one)
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
