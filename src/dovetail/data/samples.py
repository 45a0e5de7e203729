"""Datasets held in memory, and subsets of any dataset. The loader reads tensors a batch at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, TypeAlias, final

import numpy as np
import torch
from attrs import evolve, field, frozen

from dovetail.data.batch import Batch
from dovetail.data.errors import listing
from dovetail.data.seeding import Keys, content_keys, text_keys

if TYPE_CHECKING:
    import numpy.typing as npt

Array: TypeAlias = "npt.NDArray[Any]"
Indices: TypeAlias = "npt.NDArray[np.int64]"

#: Size of the vocabulary of :class:`TextSamples`: the 256 byte values, and 0 for padding.
VOCAB_SIZE: Final = 257


class LabelledSamples:
    """Base of datasets that hold the targets and the columns of their samples in memory.

    A sample is ``(input, target)``. If ``meta`` names columns, it is a dict with ``inputs``, ``targets`` and the
    values of those columns.
    """

    __slots__ = ()

    #: Reading draws no random numbers, so the loader need not seed the global generators around it.
    deterministic: ClassVar[bool] = True

    #: ``[samples]`` int64 class indices, or ``[samples, 1]`` float32 values of a regression.
    target_values: torch.Tensor
    #: The names of the classes in the order of their indices; None for a regression.
    class_names: tuple[str, ...] | None
    #: Everything that can be split by, by name: one value per sample.
    columns: Mapping[str, Array]
    #: The names of the columns that travel with each sample.
    meta: tuple[str, ...]

    @property
    def num_classes(self) -> int | None:
        """Number of classes; None for a regression."""
        return None if self.class_names is None else len(self.class_names)

    @property
    def num_outputs(self) -> int | None:
        """Numbers to predict per sample of a regression; None for a classification."""
        return self.target_values.shape[-1] if self.class_names is None else None

    @property
    def targets(self) -> Array:
        """The targets as a 1-d array: class indices, or the values of a regression."""
        return self.target_values.reshape(len(self.target_values)).numpy()

    def column(self, name: str) -> Array:
        """Return a column: one value per sample.

        Raises:
            KeyError: there is no such column; the message lists the columns.
        """
        if name not in self.columns:
            raise KeyError(f"no column '{name}'; there are {listing(sorted(self.columns)) or 'none'}")
        return self.columns[name]

    def _sample(self, index: int, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | dict[str, Any]:
        target = self.target_values[index]
        if not self.meta:
            return inputs, target
        values = {name: _to_python(self.columns[name][index]) for name in self.meta}
        return {"inputs": inputs, "targets": target, **values}

    def _select(self, indices: Indices) -> dict[str, Any]:
        """Return the targets and columns at ``indices``, as keyword arguments of ``evolve``."""
        return {
            "target_values": torch.index_select(self.target_values, 0, torch.from_numpy(indices)),
            "columns": {name: values[indices] for name, values in self.columns.items()},
        }


def _to_python(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


@final
@frozen(eq=False, repr=False)
class TensorSamples(LabelledSamples):
    """A dataset whose inputs and targets are two tensors."""

    #: ``[samples, …]``.
    inputs: torch.Tensor
    #: ``[samples]`` int64 class indices, or ``[samples, 1]`` float32 values of a regression.
    target_values: torch.Tensor
    #: The names of the classes in the order of their indices; None for a regression.
    class_names: tuple[str, ...] | None
    #: SHA-256 of the content that the samples come from.
    fingerprint: str
    #: Everything that can be split by, by name: one value per sample.
    columns: Mapping[str, Array] = field(factory=dict)
    #: The names of the columns that travel with each sample.
    meta: tuple[str, ...] = ()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample's input."""
        return tuple(self.inputs.shape[1:])

    def row_keys(self) -> Keys:
        """Return a 64-bit hash of each sample's content, so that a split can ignore the order of the rows."""
        return content_keys(self.inputs.numpy(), self.target_values.numpy())

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor] | dict[str, Any]:
        return self._sample(index, self.inputs[index])

    def get_batch(self, indices: Indices) -> Batch:
        """Return the samples at ``indices`` as the default collator would collate them, all at once."""
        chosen = torch.from_numpy(indices)
        batch = Batch(
            inputs=torch.index_select(self.inputs, 0, chosen),
            targets=torch.index_select(self.target_values, 0, chosen),
        )
        if self.meta:
            batch["meta"] = {name: _collate_column(self.columns[name][indices]) for name in self.meta}
        return batch

    def subset(self, indices: Indices) -> Self:
        """Return a dataset of the samples at ``indices``, in that order."""
        inputs = torch.index_select(self.inputs, 0, torch.from_numpy(indices))
        return evolve(self, inputs=inputs, **self._select(indices))


def _collate_column(values: Array) -> torch.Tensor | list[Any]:
    """Return a column's values as a batch's meta holds them: bool, int64 or float32 numbers, or a list of strings."""
    number = {"b": np.bool_, "i": np.int64, "u": np.int64, "f": np.float32}.get(values.dtype.kind)
    return [str(value) for value in values] if number is None else torch.from_numpy(values.astype(number))


@final
@frozen(eq=False, repr=False)
class TextSamples(LabelledSamples):
    """A dataset of texts, encoded as bytes: any language works, and there is no vocabulary to keep.

    An input is int64 ``[length]``: a text's UTF-8 bytes, each plus 1, so that 0 is free for padding. Lengths vary, so
    batches need a collator that pads.
    """

    vocab_size: ClassVar[int] = VOCAB_SIZE

    #: The bytes of all texts, end to end.
    content: npt.NDArray[np.uint8]
    #: ``[samples, 2]``: the start and end of each text in ``content``.
    places: npt.NDArray[np.int64]
    target_values: torch.Tensor
    class_names: tuple[str, ...] | None
    #: SHA-256 of the content that the samples come from.
    fingerprint: str
    columns: Mapping[str, Array]
    meta: tuple[str, ...] = ()

    @classmethod
    def encode(cls, texts: Sequence[str], max_length: int, **others: Any) -> Self:
        """Return the dataset of ``texts``, each cut to ``max_length`` bytes; ``others`` are the remaining fields."""
        encoded = [text.encode()[:max_length] for text in texts]
        ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
        places = np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1)
        return cls(np.frombuffer(b"".join(encoded), dtype=np.uint8), places, **others)

    def row_keys(self) -> Keys:
        """Return a 64-bit hash of each text, so that a split can ignore the order of the rows."""
        return text_keys([self.content[start:end].tobytes() for start, end in self.places])

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor] | dict[str, Any]:
        start, end = self.places[index]
        return self._sample(index, torch.from_numpy(self.content[start:end].astype(np.int64) + 1))

    def subset(self, indices: Indices) -> Self:
        """Return a dataset of the samples at ``indices``, in that order."""
        return evolve(self, places=self.places[indices], **self._select(indices))


#: Attributes that a subset has in common with its dataset.
_SHARED: Final = frozenset(
    {"num_classes", "num_outputs", "class_names", "input_shape", "vocab_size", "fingerprint", "deterministic"}
)
#: Attributes with one value per sample.
_PER_SAMPLE: Final = frozenset({"targets", "groups", "spans"})


@final
@frozen(eq=False, repr=False)
class Subset:
    """The samples at ``indices`` of any map-style dataset, with the dataset's attributes restricted to them."""

    dataset: Any
    indices: Indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.indices[index])]

    def column(self, name: str) -> Array:
        """Return the dataset's column ``name`` at these samples.

        Raises:
            KeyError: the dataset has no such column.
        """
        column = getattr(self.dataset, "column", None)
        if column is None:
            raise KeyError(f"no column '{name}'; a {type(self.dataset).__name__} has no columns")
        return np.asarray(column(name))[self.indices]

    def __getattr__(self, name: str) -> Any:
        # Forward known names only. pickle asks for private names before `dataset` is set.
        if name in _SHARED:
            return getattr(self.dataset, name)
        if name in _PER_SAMPLE and (values := getattr(self.dataset, name, None)) is not None:
            return np.asarray(values)[self.indices]
        if name == "get_batch":
            whole = self.dataset.get_batch
            return lambda indices: whole(self.indices[indices])
        if name == "row_keys":
            keys = self.dataset.row_keys
            return lambda: keys()[self.indices]
        raise AttributeError(name)


def subset(dataset: Any, indices: Sequence[int] | Indices) -> Any:
    """Return the samples at ``indices``, from the dataset's own ``subset`` method if it has one, else a Subset."""
    chosen = np.ascontiguousarray(indices, dtype=np.int64)
    own = getattr(dataset, "subset", None)
    return own(chosen) if own is not None else Subset(dataset, chosen)
