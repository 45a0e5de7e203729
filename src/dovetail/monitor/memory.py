"""Memory: how much a run uses, and when it must stop to stay within its limits."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch
from attrs import frozen

#: Fraction of a limit to keep free, because a run may allocate more between two checks.
_MARGIN: Final = 0.05
_CHECK_INTERVAL: Final = 1.0  # seconds
_STATM: Final = Path("/proc/self/statm")
#: Bytes in a unit of ru_maxrss: macOS counts in bytes, other systems in KiB.
_MAXRSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024


def host_memory() -> int:
    """Return the bytes of main memory that this process uses now, or its peak if the system has no /proc."""
    try:
        pages = int(_STATM.read_text().split()[1])
    except OSError:
        return host_peak()
    return pages * resource.getpagesize()


def host_peak() -> int:
    """Return the peak main memory of this process, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT


def memory_peaks(device: torch.device) -> dict[str, int]:
    """Return the peak memory of the process in bytes: ``main``, and ``gpu`` if ``device`` is a CUDA device.

    The GPU's figure is what torch reserved, in use or not.
    """
    peaks = {"main": host_peak()}
    if device.type == "cuda":
        peaks["gpu"] = torch.cuda.max_memory_reserved(device)
    return peaks


@frozen
class Excess:
    """A memory limit that is nearly reached."""

    #: The setting, ``"budget.memory"`` or ``"budget.gpu_memory"``.
    setting: str
    #: Bytes in use.
    used: int
    #: Bytes allowed.
    limit: int


class MemoryBudget:
    """Checks once a second whether a run must stop to stay within its limits."""

    def __init__(self, device: torch.device, *, main: int | None = None, gpu: int | None = None) -> None:
        """Set the limits, in bytes; None is no limit.

        torch's allocator also enforces a limit on a CUDA device from now on: it raises an out-of-memory error rather
        than exceed the limit.
        """
        self._device, self._main = device, main
        self._gpu = gpu if device.type == "cuda" else None
        if self._gpu is not None:
            total = torch.cuda.get_device_properties(device).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, self._gpu / total), device)
        limited = self._main is not None or self._gpu is not None
        #: The value of ``time.monotonic()`` at which the next check is due; infinite without a limit.
        self.due_at = time.monotonic() if limited else float("inf")

    def check(self) -> Excess | None:
        """Return a limit with less than 5 % left, or None if there is none or no check is due."""
        if time.monotonic() < self.due_at:
            return None
        self.due_at = time.monotonic() + _CHECK_INTERVAL
        return next((usage for usage in self._usage() if usage.used >= usage.limit * (1 - _MARGIN)), None)

    def _usage(self) -> Iterator[Excess]:
        if self._main is not None:
            yield Excess("budget.memory", host_memory(), self._main)
        if self._gpu is not None:
            yield Excess("budget.gpu_memory", torch.cuda.memory_reserved(self._device), self._gpu)
