"""Samples held in memory as tensors: what small files become, and what the loader reads without a Python loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias, final

import numpy as np
import torch
from attrs import evolve, field, frozen

from dovetail.data.address import Keys, content_keys
from dovetail.data.batch import Batch
from dovetail.data.errors import listing

if TYPE_CHECKING:
    import numpy.typing as npt

Array: TypeAlias = "npt.NDArray[Any]"
Indices: TypeAlias = "npt.NDArray[np.int64]"


@final
@frozen(eq=False, repr=False)
class TensorSamples:
    """A dataset whose inputs and targets are two tensors.

    A sample is ``(input, target)``, or a dict with ``inputs``, ``targets`` and the values of ``meta`` where there
    are any.
    """

    #: Reading draws no random numbers, so the loader need not seed the global generators around it.
    deterministic: ClassVar[bool] = True

    #: ``[samples, …]``.
    inputs: torch.Tensor
    #: ``[samples]`` int64 class indices, or ``[samples, 1]`` float32 values of a regression.
    target_values: torch.Tensor
    #: Names of the classes in the order of their indices; None for a regression.
    class_names: tuple[str, ...] | None
    #: SHA-256 of the content that the samples come from.
    fingerprint: str
    #: Everything that can be split by, by name: one value a sample.
    columns: Mapping[str, Array] = field(factory=dict)
    #: Names of the columns that travel with each sample.
    meta: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int | None:
        """Number of classes; None for a regression."""
        return None if self.class_names is None else len(self.class_names)

    @property
    def num_outputs(self) -> int | None:
        """Numbers to predict for a sample of a regression; None where there are classes."""
        return self.target_values.shape[-1] if self.class_names is None else None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample's input."""
        return tuple(self.inputs.shape[1:])

    @property
    def targets(self) -> Array:
        """The targets as a 1-d array: class indices, or the values of a regression."""
        return self.target_values.reshape(len(self)).numpy()

    def column(self, name: str) -> Array:
        """Return one value for each sample.

        Raises:
            KeyError: there is no such column; the message lists those that are.
        """
        if name not in self.columns:
            raise KeyError(f"no column '{name}'; there are {listing(sorted(self.columns)) or 'none'}")
        return self.columns[name]

    def row_keys(self) -> Keys:
        """Return 64 bits for each sample that depend on its content, so that a split can ignore the order of rows."""
        return content_keys(self.inputs.numpy(), self.target_values.numpy())

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor] | dict[str, Any]:
        if not self.meta:
            return self.inputs[index], self.target_values[index]
        values = {name: plain(self.columns[name][index]) for name in self.meta}
        return {"inputs": self.inputs[index], "targets": self.target_values[index], **values}

    def get_batch(self, indices: Indices) -> Batch:
        """Return what the default collator would make of the samples at ``indices``, all at once."""
        chosen = torch.from_numpy(indices)
        batch = Batch(
            inputs=torch.index_select(self.inputs, 0, chosen),
            targets=torch.index_select(self.target_values, 0, chosen),
        )
        if self.meta:
            batch["meta"] = {name: as_meta(self.columns[name][indices]) for name in self.meta}
        return batch

    def subset(self, indices: Indices) -> Self:
        """Return a dataset of the samples at ``indices``, in that order."""
        chosen = torch.from_numpy(indices)
        return evolve(
            self,
            inputs=torch.index_select(self.inputs, 0, chosen),
            target_values=torch.index_select(self.target_values, 0, chosen),
            columns={name: values[indices] for name, values in self.columns.items()},
        )


def as_meta(values: Array) -> torch.Tensor | list[Any]:
    """Return a column's values as a batch's meta holds them: bool, int64 or float32 numbers, or a list of strings."""
    number = {"b": np.bool_, "i": np.int64, "u": np.int64, "f": np.float32}.get(values.dtype.kind)
    return [str(value) for value in values] if number is None else torch.from_numpy(values.astype(number))


def plain(value: Any) -> Any:
    """Return a column's value as Python's own number or string."""
    return value.item() if isinstance(value, np.generic) else value


@final
@frozen(eq=False, repr=False)
class Subset:
    """Some samples of any map-style dataset, with what the dataset tells about itself cut to them."""

    dataset: Any
    indices: Indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.indices[index])]

    def column(self, name: str) -> Array:
        """Return the dataset's column ``name`` at these samples; KeyError where it has none."""
        column = getattr(self.dataset, "column", None)
        if column is None:
            raise KeyError(f"no column '{name}'; a {type(self.dataset).__name__} has no columns")
        return np.asarray(column(name))[self.indices]

    def __getattr__(self, name: str) -> Any:
        # Only what a subset has in common with the whole, or can be cut to it. Private names are never handed on:
        # pickling asks for them before there is a dataset.
        if name in {"num_classes", "class_names", "input_shape", "vocab_size", "fingerprint", "deterministic"}:
            return getattr(self.dataset, name)
        if name in {"targets", "groups", "spans"} and (known := getattr(self.dataset, name, None)) is not None:
            return np.asarray(known)[self.indices]
        if name == "get_batch":
            whole = self.dataset.get_batch
            return lambda indices: whole(self.indices[indices])
        if name == "row_keys":
            keys = self.dataset.row_keys
            return lambda: keys()[self.indices]
        raise AttributeError(name)


def subset(dataset: Any, indices: Sequence[int] | Indices) -> Any:
    """Return the samples at ``indices``: by the dataset's own ``subset`` where it has one, else a :class:`Subset`."""
    chosen = np.ascontiguousarray(indices, dtype=np.int64)
    own = getattr(dataset, "subset", None)
    return own(chosen) if own is not None else Subset(dataset, chosen)
