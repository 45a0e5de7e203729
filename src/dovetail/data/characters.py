"""A text as a dataset for next-character prediction."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, ClassVar, Final, final

import numpy as np
import torch
from attrs import frozen

from dovetail.data.batch import Batch
from dovetail.data.errors import DataError, count, existing_file
from dovetail.data.samples import Indices
from dovetail.data.split import Splits
from dovetail.spec.limits import AtLeast, Between

_LARGEST: Final = 1 << 30  # bytes of text; it takes about six times as much memory while it is being read


def characters(
    path: Path,
    *,
    window: Annotated[int, AtLeast(1)] = 128,
    stride: Annotated[int | None, AtLeast(1)] = None,
    train: Annotated[float, Between(0, 1)] = 0.9,
) -> Splits:
    """Return a text cut into windows: inputs and targets are int64 ``[window]``, a target being the next character.

    The text is split by position, so that nothing of the validation text is ever trained on: its beginning trains,
    its end validates, and there is no test split. Classes are the characters of the whole text, in the order of
    their code points.

    Args:
        path: the text, UTF-8.
        window: characters in an input.
        stride: characters from one window to the next; by default ``window``, so that none overlap.
        train: the fraction of the text that trains; 1 makes no validation split.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: it is no UTF-8 text, larger than 1 GiB, or too short for one window of each split.
    """
    path = existing_file(Path(path))
    if path.stat().st_size > _LARGEST:
        raise DataError.at(path, "the text is larger than 1 GiB")
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError.at(path, f"this is not UTF-8 (byte 0x{raw[error.start]:02x})", line=line) from None
    points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    known, codes = np.unique(points, return_inverse=True)
    ids = torch.from_numpy(codes.astype(np.int32))
    names = tuple(map(chr, known.tolist()))
    digest = hashlib.sha256(raw).hexdigest()
    cut = round(len(ids) * train)
    parts = {"train": ids[:cut], "validation": ids[cut:]}
    splits = {}
    for name, part in parts.items():
        if name == "validation" and train == 1:
            continue
        if len(part) <= window:
            found = count(len(part), "character")
            raise DataError.at(path, f"{found} for {name} are too few for a window of {window} and its next character")
        splits[name] = CharacterWindows(part, window, stride or window, names, digest)
    return Splits(**splits)


@final
@frozen(eq=False, repr=False)
class CharacterWindows:
    """A part of a text, as windows."""

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
        """Number of different characters."""
        return len(self.class_names)

    @property
    def vocab_size(self) -> int:
        """Number of different characters."""
        return len(self.class_names)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """``(window,)``."""
        return (self.window,)

    def __len__(self) -> int:
        """Return the number of whole windows that have a next character."""
        return (len(self.ids) - self.window - 1) // self.stride + 1

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        start = index * self.stride
        one = self.ids[start : start + self.window + 1].long()
        return one[:-1], one[1:]

    def get_batch(self, indices: Indices) -> Batch:
        """Return what the default collator would make of the windows at ``indices``, all at once."""
        places = torch.from_numpy(indices)[:, None] * self.stride + torch.arange(self.window + 1)
        chosen = self.ids[places].long()
        return Batch(inputs=chosen[:, :-1].contiguous(), targets=chosen[:, 1:].contiguous())
