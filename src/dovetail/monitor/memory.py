"""Memory: how much a run has taken, and stopping before it takes more than it may."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch
from attrs import frozen

#: Share of a limit that is kept free: between two looks a run may still take a little more.
_SLACK: Final = 0.05
_SECONDS_BETWEEN_LOOKS: Final = 1.0
_STATM: Final = Path("/proc/self/statm")
#: macOS counts ru_maxrss in bytes, everybody else in KiB.
_MAXRSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024


def host_memory() -> int:
    """Return the bytes of main memory that this process has now; where the system does not say, its peak."""
    try:
        pages = int(_STATM.read_text().split()[1])
    except OSError:
        return host_peak()
    return pages * resource.getpagesize()


def host_peak() -> int:
    """Return the most bytes of main memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT


def memory_peaks(device: torch.device) -> dict[str, int]:
    """Return the most bytes that the process has had: ``main``, and ``gpu`` where ``device`` is a CUDA device.

    On the GPU it is what torch has reserved, in use or not.
    """
    peaks = {"main": host_peak()}
    if device.type == "cuda":
        peaks["gpu"] = torch.cuda.max_memory_reserved(device)
    return peaks


@frozen
class Excess:
    """A limit that is all but reached."""

    #: The setting, ``"budget.memory"`` or ``"budget.gpu_memory"``.
    setting: str
    #: Both in bytes.
    used: int
    limit: int


class MemoryBudget:
    """Looks once a second, and says when a run must stop to stay within its limits."""

    def __init__(self, device: torch.device, *, main: int | None = None, gpu: int | None = None) -> None:
        """Watch what has a limit, in bytes.

        A limit on a CUDA device also holds in torch's allocator from now on: what asks for more gets torch's
        out-of-memory error and not the memory.
        """
        self._device, self._main = device, main
        self._gpu = gpu if device.type == "cuda" else None
        if self._gpu is not None:
            total = torch.cuda.get_device_properties(device).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, self._gpu / total), device)
        watches = self._main is not None or self._gpu is not None
        #: ``time.monotonic()`` from which on to look; never where nothing has a limit.
        self.due_at = time.monotonic() if watches else float("inf")

    def look(self) -> Excess | None:
        """Return the limit of which less than 5 % is left, if it is time to look and there is one."""
        if time.monotonic() < self.due_at:
            return None
        self.due_at = time.monotonic() + _SECONDS_BETWEEN_LOOKS
        return next((one for one in self._used() if one.used >= one.limit * (1 - _SLACK)), None)

    def _used(self) -> Iterator[Excess]:
        if self._main is not None:
            yield Excess("budget.memory", host_memory(), self._main)
        if self._gpu is not None:
            yield Excess("budget.gpu_memory", torch.cuda.memory_reserved(self._device), self._gpu)
