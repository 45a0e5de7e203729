"""Random numbers for parts that draw from the global generators: seeded by address, and given back as they were."""

from __future__ import annotations

import random
from types import TracebackType
from typing import Any, final

import numpy as np
import torch

from dovetail.random import derive_seed


def seed_globals(seed: int, *parts: int | str) -> None:
    """Seed the global generators of Python, NumPy and torch on the CPU with what is named."""
    seed = derive_seed(seed, *parts)
    random.seed(seed)
    np.random.seed(seed & 0xFFFF_FFFF)  # noqa: NPY002 (the global generator is what third-party transforms draw from)
    # Not torch.manual_seed, which would also reset every GPU's generator, and with it the model's dropout.
    torch.default_generator.manual_seed(seed)


@final
class KeptGlobals:
    """A context that leaves the global generators of Python, NumPy and torch on the CPU as it found them."""

    __slots__ = ("_numpy", "_python", "_torch")

    def __enter__(self) -> None:
        self._python = random.getstate()
        self._numpy: Any = np.random.get_state()  # noqa: NPY002 (as above)
        self._torch = torch.default_generator.get_state()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        random.setstate(self._python)
        np.random.set_state(self._numpy)  # noqa: NPY002 (as above)
        torch.default_generator.set_state(self._torch)
