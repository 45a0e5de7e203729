"""Mixed precision: what is wrapped around the forward pass, and the scaler that half precision needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import torch

_Function = TypeVar("_Function", bound=Callable[..., Any])
_DTYPES: Final = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocasting(function: _Function, precision: str, device: torch.device) -> _Function:
    """Return ``function`` run under autocast for ``"bf16"`` and ``"fp16"``, and ``function`` itself for the others.

    The context is entered per call and not per epoch, because leaving it is what drops the cached casts of weights that
    the optimizer has changed since.
    """
    dtype = _DTYPES.get(precision)
    if dtype is None:
        return function
    wrapped: _Function = torch.autocast(device.type, dtype=dtype)(function)
    return wrapped


def make_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler | None:
    """Return the gradient scaler that ``"fp16"`` needs, None for every other precision."""
    return torch.amp.GradScaler(device.type) if precision == "fp16" else None
