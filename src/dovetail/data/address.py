"""Random orders that depend on what names them only, and keys that depend on the content of rows only.

The mixing is SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): integer arithmetic, hence the same on every machine and
with every version of every library, which the permutations of torch and NumPy do not promise.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from dovetail.random import derive_seed

if TYPE_CHECKING:
    import numpy.typing as npt

_GOLDEN: Final = 0x9E3779B97F4A7C15
_FIRST: Final = 0xBF58476D1CE4E5B9
_SECOND: Final = 0x94D049BB133111EB

Keys: TypeAlias = "npt.NDArray[np.uint64]"


def mix_array(state: Keys | int, words: npt.NDArray[Any]) -> Keys:
    """Return 64 bits for every word of an integer array that depend on it and on the state, one for all or one each."""
    mixed = words.astype(np.uint64) ^ np.asarray(state, dtype=np.uint64)
    mixed += np.uint64(_GOLDEN)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(_FIRST)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(_SECOND)
    return mixed ^ (mixed >> np.uint64(31))


def permutation(length: int, seed: int, *parts: int | str) -> npt.NDArray[np.int64]:
    """Return an order of ``0 … length - 1`` that depends only on ``length`` and on what is named."""
    keys = mix_array(derive_seed(seed, *parts), np.arange(length, dtype=np.uint64))
    return np.argsort(keys, kind="stable").astype(np.int64, copy=False)


def content_keys(*arrays: npt.NDArray[Any]) -> Keys:
    """Return 64 bits for each row that depend on the row's content only, over arrays ``[rows, …]`` of plain numbers."""
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
    """Return 64 bits for each text that depend on its content only."""
    digests = b"".join(hashlib.blake2b(text, digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, dtype=np.uint64)
