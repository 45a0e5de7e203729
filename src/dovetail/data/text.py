"""Texts as bytes: the simplest encoding there is, for any language, without a vocabulary to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Self, final

import numpy as np
import numpy.typing as npt
import torch
from attrs import evolve, frozen

from dovetail.data.address import Keys, text_keys
from dovetail.data.errors import listing
from dovetail.data.samples import Array, Indices, plain

#: Number of different tokens: the 256 bytes, and 0 for padding.
VOCAB_SIZE: Final = 257


@final
@frozen(eq=False, repr=False)
class TextSamples:
    """A dataset of texts with targets.

    An input is the int64 tensor ``[length]`` of a text's UTF-8 bytes, each plus 1, so that 0 is free for padding;
    lengths vary, so batches need a collator that pads. Meta columns travel along as in
    :class:`~dovetail.data.samples.TensorSamples`.
    """

    #: Reading draws no random numbers.
    deterministic: ClassVar[bool] = True
    vocab_size: ClassVar[int] = VOCAB_SIZE

    #: The bytes of all texts, end to end.
    content: npt.NDArray[np.uint8]
    #: Where each text begins and ends in ``content``: ``[samples, 2]``.
    places: npt.NDArray[np.int64]
    target_values: torch.Tensor
    class_names: tuple[str, ...] | None
    fingerprint: str
    columns: Mapping[str, Array]
    meta: tuple[str, ...] = ()

    @classmethod
    def of(cls, texts: Sequence[str], max_length: int, **others: Any) -> Self:
        """Return the dataset of ``texts``, each cut to ``max_length`` bytes."""
        encoded = [text.encode()[:max_length] for text in texts]
        ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
        places = np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1)
        return cls(np.frombuffer(b"".join(encoded), dtype=np.uint8), places, **others)

    @property
    def num_classes(self) -> int | None:
        """Number of classes; None for a regression."""
        return None if self.class_names is None else len(self.class_names)

    @property
    def targets(self) -> Array:
        """The targets as a 1-d array."""
        return self.target_values.reshape(len(self)).numpy()

    def column(self, name: str) -> Array:
        """Return one value for each sample; KeyError where there is no such column."""
        if name not in self.columns:
            raise KeyError(f"no column '{name}'; there are {listing(sorted(self.columns))}")
        return self.columns[name]

    def row_keys(self) -> Keys:
        """Return 64 bits for each sample that depend on its text."""
        return text_keys([self.content[start:end].tobytes() for start, end in self.places])

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor] | dict[str, Any]:
        start, end = self.places[index]
        inputs = torch.from_numpy(self.content[start:end].astype(np.int64) + 1)
        if not self.meta:
            return inputs, self.target_values[index]
        values = {name: plain(self.columns[name][index]) for name in self.meta}
        return {"inputs": inputs, "targets": self.target_values[index], **values}

    def subset(self, indices: Indices) -> Self:
        """Return a dataset of the samples at ``indices``, in that order."""
        return evolve(
            self,
            places=self.places[indices],
            target_values=torch.index_select(self.target_values, 0, torch.from_numpy(indices)),
            columns={name: values[indices] for name, values in self.columns.items()},
        )
