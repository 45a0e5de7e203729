"""Torch's dtypes by name."""

from __future__ import annotations

from typing import Final

import torch

#: ``float32`` and so on.
DTYPES: Final = {
    str(value).removeprefix("torch."): value for value in vars(torch).values() if isinstance(value, torch.dtype)
}
