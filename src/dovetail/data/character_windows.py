"""A text as a dataset for next-character prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, final

import numpy as np
import torch
from attrs import frozen

from dovetail.data.batch import Batch
from dovetail.data.errors import DataError, count
from dovetail.data.samples import Indices
from dovetail.data.splits import Splits
from dovetail.data.table_files import read_text_with_digest
from dovetail.spec import AtLeast, Between


def characters(
    path: Path,
    *,
    window: Annotated[int, AtLeast(1)] = 128,
    stride: Annotated[int | None, AtLeast(1)] = None,
    train: Annotated[float, Between(0, 1)] = 0.9,
) -> Splits:
    """Return a text cut into windows for next-character prediction.

    Inputs and targets are int64 ``[window]``; each target is the next character. The text is split by position, so no
    validation text is ever trained on: its beginning trains, its end validates, and there is no test split. The classes
    are the characters of the whole text, ordered by code point. Reading needs about six times the text's memory.

    Args:
        path: the text, UTF-8, at most 1 GiB.
        window: characters in an input.
        stride: characters from the start of one window to the next; by default ``window``, so that none overlap.
        train: the fraction of the text that trains; with 1 there is no validation split.

    Raises:
        FileNotFoundError: the file does not exist.
        DataError: the file is not UTF-8, larger than 1 GiB, or too short for one window per split.
    """
    path = Path(path).expanduser()
    text, digest = read_text_with_digest(path)
    points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    known, codes = np.unique(points, return_inverse=True)
    ids = torch.from_numpy(codes.astype(np.int32))
    names = tuple(map(chr, known.tolist()))
    cut = round(len(ids) * train)
    parts = {"train": ids[:cut]} if train == 1 else {"train": ids[:cut], "validation": ids[cut:]}
    splits = {}
    for name, part in parts.items():
        if len(part) <= window:
            found = count(len(part), "character")
            raise DataError.at(path, f"{found} for {name} are too few for a window of {window} and its next character")
        splits[name] = CharacterWindows(part, window, stride or window, names, digest)
    return Splits(**splits)


@final
@frozen(eq=False, repr=False)
class CharacterWindows:
    """A part of a text, cut into windows."""

    #: Reading draws no random numbers.
    deterministic: ClassVar[bool] = True

    #: ``[characters]`` int32 indices into ``class_names``.
    ids: torch.Tensor
    window: int
    stride: int
    #: The characters of the whole text.
    class_names: tuple[str, ...]
    #: SHA-256 of the whole text.
    fingerprint: str

    @property
    def num_classes(self) -> int:
        """Number of distinct characters."""
        return len(self.class_names)

    @property
    def vocab_size(self) -> int:
        """Number of distinct characters."""
        return len(self.class_names)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """``(window,)``."""
        return (self.window,)

    def __len__(self) -> int:
        """Return the number of complete windows that have a next character."""
        return (len(self.ids) - self.window - 1) // self.stride + 1

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        start = index * self.stride
        text = self.ids[start : start + self.window + 1].long()
        return text[:-1], text[1:]

    def get_batch(self, indices: Indices) -> Batch:
        """Return the windows at ``indices`` as the default collator would collate them, all at once."""
        places = torch.from_numpy(indices)[:, None] * self.stride + torch.arange(self.window + 1)
        chosen = self.ids[places].long()
        return Batch(inputs=chosen[:, :-1].contiguous(), targets=chosen[:, 1:].contiguous())
