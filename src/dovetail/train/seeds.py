"""Seeding, saving and restoring the global random generators.

The order of the loader and augmentation do not depend on them: those are addressed by (seed, epoch, index). Initial
weights, dropout and third-party code do.
"""

from __future__ import annotations

import contextlib
import operator
import os
import random
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import torch

_NUMPY_LIMIT: Final = 1 << 32
#: Seeds are below this limit.
SEED_LIMIT: Final = 1 << 64
_CUBLAS: Final = "CUBLAS_WORKSPACE_CONFIG"


def set_random_seed(seed: int, deterministic: bool = False) -> None:  # noqa: FBT001, FBT002 (the field's signature)
    """Seed Python, NumPy and torch on every device; loader workers derive their seeds from the run's.

    Args:
        seed: 0 to 2⁶⁴ − 1.
        deterministic: let torch use only deterministic algorithms, and raise for an operation that has none. Slower on
            a GPU; False lets torch choose the fastest.

    Raises:
        ValueError: the seed is out of range.
        TypeError: the seed is not an integer.
    """
    try:
        seed = operator.index(seed)
    except TypeError:
        raise TypeError(f"seed must be an integer, got {seed!r}") from None
    if not 0 <= seed < SEED_LIMIT:
        raise ValueError(f"seed must be between 0 and 2**64 - 1, got {seed}")
    random.seed(seed)
    # NumPy's legacy seed has 32 bits; a list of words holds larger ones, and small seeds keep their usual meaning.
    np.random.seed(seed if seed < _NUMPY_LIMIT else [seed % _NUMPY_LIMIT, seed // _NUMPY_LIMIT])  # noqa: NPY002 (the global generator is what is being seeded)
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:  # manual_seed would keep tracebacks in memory, for devices that do not exist
        torch.default_generator.manual_seed(seed)
    if deterministic:
        os.environ.setdefault(_CUBLAS, ":4096:8")  # cuBLAS reads it at start-up, and is not deterministic without it
    if torch.are_deterministic_algorithms_enabled() != deterministic:  # the call imports torch's compiler: seconds
        torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = False


def rng_state() -> dict[str, Any]:
    """Return the state of Python's, NumPy's and torch's global generators."""
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002 (as above)
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Restore a state of the global generators from :func:`rng_state`."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002 (as above)
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all(state["cuda"])


@contextlib.contextmanager
def preserve_rng() -> Iterator[None]:
    """Restore the global generators at the end of the context."""
    state = rng_state()
    try:
        yield
    finally:
        set_rng_state(state)
