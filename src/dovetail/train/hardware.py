"""The device and precision of a run, and torch's process-wide settings while it lasts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import torch

from dovetail.train.seeds import set_random_seed

if TYPE_CHECKING:
    from dovetail.config.schema import RunConfig

#: What the forward pass computes in; the last two are mixed precision.
Precision = Literal["fp32", "bf16", "fp16"]

_Function = TypeVar("_Function", bound=Callable[..., Any])
_TENSOR_CORES: Final = (7, 0)
_DTYPES: Final = {"bf16": torch.bfloat16, "fp16": torch.float16}


class DeviceError(ValueError):
    """The requested device is not available."""


def resolve_device(name: str = "auto") -> torch.device:
    """Return the device that ``name`` stands for.

    Args:
        name: ``"auto"`` (a CUDA device if there is one, else Apple's, else the CPU), ``"cpu"``, ``"cuda"``,
            ``"cuda:1"`` or ``"mps"``.

    Raises:
        DeviceError: the device is not available. An explicit choice never falls back.
    """
    if name == "auto":
        best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(best)
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(f"'{name}' is no device; choose 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'") from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            have = f"this machine has {count} CUDA device{'s' * (count > 1)}" if count else _why_no_cuda()
            raise DeviceError(f"'{name}' is not available: {have}; 'auto' picks an available device")
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("'mps' is not available: it needs an Apple GPU; 'auto' picks an available device")
    elif device.type not in {"cpu", "cuda", "mps"}:
        raise DeviceError(f"'{name}': only 'cpu', 'cuda' and 'mps' devices are supported")
    return device


def _why_no_cuda() -> str:
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    return "no CUDA device was found"


def settings_of(config: RunConfig) -> contextlib.AbstractContextManager[None]:
    """Seed the global generators, and return the context in which torch's settings are those of ``config``."""
    settings = torch_settings(threads=config.hardware.threads, tf32=config.training.precision == "tf32")
    set_random_seed(config.run.seed, config.run.deterministic)
    return settings


@contextlib.contextmanager
def torch_settings(*, threads: int | None = None, tf32: bool = False) -> Iterator[None]:
    """Set torch's process-wide settings, and restore them at the end.

    Args:
        threads: CPU threads per operation; None leaves the setting.
        tf32: allow TensorFloat-32 for float32 matrix products and convolutions on CUDA.
    """
    cudnn: Any = torch.backends.cudnn  # its own types do not know conv
    matmul, conv = torch.backends.cuda.matmul, cudnn.conv
    before = torch.get_num_threads(), matmul.fp32_precision, conv.fp32_precision
    deterministic = torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        if tf32:
            matmul.fp32_precision = conv.fp32_precision = "tf32"
        yield
    finally:
        if threads is not None:
            torch.set_num_threads(before[0])
        if tf32:
            matmul.fp32_precision, conv.fp32_precision = before[1:]
        torch.use_deterministic_algorithms(deterministic[0])
        cudnn.deterministic, cudnn.benchmark = deterministic[1:]


def autocasting(function: _Function, precision: str, device: torch.device) -> _Function:
    """Return ``function`` wrapped in autocast for ``"bf16"`` and ``"fp16"``, or ``function`` itself.

    Autocast is entered per call rather than per epoch, because leaving it drops the cached casts of weights that the
    optimizer has changed since.
    """
    dtype = _DTYPES.get(precision)
    if dtype is None:
        return function
    wrapped: _Function = torch.autocast(device.type, dtype=dtype)(function)
    return wrapped


def make_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler | None:
    """Return the loss scaler that ``"fp16"`` needs, or None for other precisions."""
    return torch.amp.GradScaler(device.type) if precision == "fp16" else None


def enable_mixed_precision() -> None:
    """Allow TensorFloat-32 for float32 matrix products and convolutions on CUDA (Ampere and later).

    The setting holds for the whole process. A run sets it for itself with ``training.precision = "tf32"``.
    """
    cudnn: Any = torch.backends.cudnn  # its own types do not know conv
    torch.backends.cuda.matmul.fp32_precision = cudnn.conv.fp32_precision = "tf32"


def check_mixed_precision_support(device: torch.device | str = "cuda") -> bool:
    """Return whether ``device`` is fast in half precision: a CUDA device with tensor cores (Volta and later)."""
    device = torch.device(device)
    if device.type != "cuda" or not torch.cuda.is_available():
        return False
    return torch.cuda.get_device_capability(device) >= _TENSOR_CORES
