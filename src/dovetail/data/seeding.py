"""Randomness by address: orders, keys and seeds that depend only on what names them.

Orders and keys use SplitMix64 (Steele, Lea and Flood, OOPSLA 2014). It is integer arithmetic, so every machine and
every library version gives the same result. torch and NumPy do not promise that of their permutations.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import torch

from dovetail.random import derive_seed

if TYPE_CHECKING:
    import numpy.typing as npt

_GOLDEN: Final = 0x9E3779B97F4A7C15
_FIRST: Final = 0xBF58476D1CE4E5B9
_SECOND: Final = 0x94D049BB133111EB

Keys: TypeAlias = "npt.NDArray[np.uint64]"


def mix_array(state: Keys | int, words: npt.NDArray[Any]) -> Keys:
    """Return a 64-bit hash of each element of an integer array.

    Args:
        state: mixed into the hash: one state for all elements, or an array with one state each.
        words: integers.
    """
    mixed = words.astype(np.uint64) ^ np.asarray(state, dtype=np.uint64)
    mixed += np.uint64(_GOLDEN)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(_FIRST)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(_SECOND)
    return mixed ^ (mixed >> np.uint64(31))


def permutation(length: int, seed: int, *parts: int | str) -> npt.NDArray[np.int64]:
    """Return a permutation of ``0 … length - 1`` that depends only on ``length``, ``seed`` and ``parts``."""
    keys = mix_array(derive_seed(seed, *parts), np.arange(length, dtype=np.uint64))
    return np.argsort(keys, kind="stable").astype(np.int64, copy=False)


def content_keys(*arrays: npt.NDArray[Any]) -> Keys:
    """Return a 64-bit hash of each row's content, over arrays ``[rows, …]`` of numbers."""
    keys = np.zeros(len(arrays[0]), dtype=np.uint64)
    for array in arrays:
        width = math.prod(array.shape[1:])
        rows = np.ascontiguousarray(array).reshape(len(array), width).view(np.uint8)
        padding = -rows.shape[1] % 8
        words = np.ascontiguousarray(np.pad(rows, ((0, 0), (0, padding)))).view(np.uint64)
        for column in range(words.shape[1]):
            keys = mix_array(keys, words[:, column])
    return keys


def text_keys(texts: list[bytes]) -> Keys:
    """Return a 64-bit hash of each text's content."""
    digests = b"".join(hashlib.blake2b(text, digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, dtype=np.uint64)


def seed_global_rngs(seed: int, *parts: int | str) -> None:
    """Seed the global generators of Python, NumPy and torch (CPU) from ``seed`` and ``parts``."""
    seed = derive_seed(seed, *parts)
    random.seed(seed)
    np.random.seed(seed & 0xFFFF_FFFF)  # noqa: NPY002 (the global generator is what third-party transforms draw from)
    # Not torch.manual_seed, which would also reset every GPU's generator, and with it the model's dropout.
    torch.default_generator.manual_seed(seed)


@contextmanager
def preserve_rngs() -> Iterator[None]:
    """Restore the global generators of Python, NumPy and torch (CPU) on exit."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.default_generator.get_state()  # noqa: NPY002 (as above)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002 (as above)
        torch.default_generator.set_state(cpu)
