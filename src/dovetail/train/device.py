"""Which device a run trains on, and the settings of torch that hold for one run only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


class DeviceError(ValueError):
    """The device that was asked for is not there."""


def resolve_device(name: str = "auto") -> torch.device:
    """Return the device that ``name`` means.

    Args:
        name: ``"auto"`` (a CUDA device if there is one, else Apple's, else the CPU), ``"cpu"``, ``"cuda"``,
            ``"cuda:1"`` or ``"mps"``.

    Raises:
        DeviceError: there is no such device here. An explicit choice never falls back.
    """
    if name == "auto":
        best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(best)
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(f"'{name}' is no device; there is 'auto', 'cpu', 'cuda', 'cuda:1' and 'mps'") from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            have = f"this machine has {count} CUDA device{'s' * (count > 1)}" if count else _why_no_cuda()
            raise DeviceError(f"'{name}' is not there: {have}; 'auto' takes what there is")
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("'mps' is not there: it needs an Apple GPU; 'auto' takes what there is")
    elif device.type not in {"cpu", "cuda", "mps"}:
        raise DeviceError(f"'{name}': only 'cpu', 'cuda' and 'mps' devices are supported")
    return device


def _why_no_cuda() -> str:
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    return "no CUDA device was found"


@contextlib.contextmanager
def torch_settings(*, threads: int | None = None, tf32: bool = False) -> Iterator[None]:
    """Set torch's process-wide switches for the length of one run, and put them back.

    Args:
        threads: CPU threads of an operation; None leaves them.
        tf32: let CUDA multiply float32 matrices, and convolve, in TensorFloat-32.
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
