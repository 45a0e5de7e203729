"""What the tests of the native ops have in common: devices, dtypes, threads and memory."""

from __future__ import annotations

import gc
import os
import resource
from collections.abc import Callable
from typing import Any

import pytest
import torch

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]

needs_native = pytest.mark.skipif(os.environ.get("DOVETAIL_NATIVE") == "0", reason="native ops are disabled")


def by_number_of_threads(compute: Callable[[], Any]) -> list[Any]:
    """Return the results of ``compute`` with one, two, three and five threads."""
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3, 5):
            torch.set_num_threads(count)
            results.append(compute())
    finally:
        torch.set_num_threads(threads)
    return results


def memory_growth(call: Callable[[], object]) -> int:
    """Return by how many KiB the peak memory of the process grows over 10,000 calls, after 1,000 to warm up."""

    def peak_after(calls: int) -> int:
        for _ in range(calls):
            call()
        gc.collect()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    warm = peak_after(1000)
    return peak_after(10_000) - warm
