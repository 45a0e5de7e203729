"""Mixed precision: what is wrapped around the forward pass, and the scaler that half precision needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, TypeVar

import torch

#: What the forward pass computes in; the last two are mixed precision.
Precision = Literal["fp32", "bf16", "fp16"]

_Function = TypeVar("_Function", bound=Callable[..., Any])
_TENSOR_CORES: Final = (7, 0)
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


def enable_mixed_precision() -> None:
    """Let CUDA multiply float32 matrices, and convolve, in TensorFloat-32, which Ampere GPUs and later have.

    It holds for the whole process. A run does it for itself with ``training.precision = "tf32"``.
    """
    cudnn: Any = torch.backends.cudnn  # its own types do not know conv
    torch.backends.cuda.matmul.fp32_precision = cudnn.conv.fp32_precision = "tf32"


def check_mixed_precision_support(device: torch.device | str = "cuda") -> bool:
    """Say whether ``device`` computes fast in half precision: a CUDA device with tensor cores, Volta or later."""
    where = torch.device(device)
    if where.type != "cuda" or not torch.cuda.is_available():
        return False
    return torch.cuda.get_device_capability(where) >= _TENSOR_CORES
