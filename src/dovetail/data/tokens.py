"""Reading and padding sequences of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dovetail.data.collators import as_tensor
from dovetail.data.errors import DataError


def read_tokens(values: Sequence[Any], what: str) -> list[Tensor]:
    """Return each sample's tokens as int64 ``[length]``.

    Args:
        values: tensors, arrays or lists of integers.
        what: the field's name, for messages.

    Raises:
        DataError: a sample's are no integers, or not one sequence.
    """
    found = []
    for number, value in enumerate(values):
        tokens = _tensor(value, what)
        if tokens.ndim != 1 or tokens.is_floating_point() or tokens.is_complex() or tokens.dtype is torch.bool:
            kind = str(tokens.dtype).removeprefix("torch.")
            raise DataError(
                f"sample {number} of a batch has {what} of {kind} and shape {tuple(tokens.shape)}; "
                "tokens are integers in one sequence"
            )
        found.append(tokens.long())
    return found


def _tensor(value: Any, what: str) -> Tensor:
    if isinstance(value, list) and all(isinstance(one, int) for one in value):
        return torch.tensor(value, dtype=torch.int64)
    return as_tensor(value, what)


def pad_tokens(sequences: Sequence[Tensor], pad: int, length: int | None = None) -> Tensor:
    """Return the sequences as one int64 tensor ``[samples, length]``, ``pad`` where one has ended.

    Args:
        sequences: int64 tensors ``[length]``, none longer than ``length``.
        pad: what is put behind them.
        length: by default that of the longest.
    """
    longest = max(map(len, sequences)) if length is None else length
    padded = torch.full((len(sequences), longest), pad, dtype=torch.int64)
    for row, one in enumerate(sequences):
        padded[row, : len(one)] = one
    return padded


def real(sequences: Sequence[Tensor], length: int) -> Tensor:
    """Return which positions are real: bool ``[samples, length]``."""
    return torch.arange(length) < torch.tensor([len(one) for one in sequences])[:, None]
