"""Inputs for collators and transforms: samples as datasets return them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from hypothesis import strategies as st
from torch import Tensor

from dovetail.testkit.provide import NUM_CLASSES

#: The shapes of one sample's input that the kit tries with collators and transforms.
SHAPES: Final = ((1, 32), (8,), (3, 8, 8))
#: The same for samples of different lengths; None is the dimension that varies.
RAGGED_SHAPES: Final = ((None,), (None, 3), (1, None))


def _input(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pair(shape: tuple[int, ...], seed: int) -> tuple[Tensor, int]:
    """Return an input and a class index."""
    return _input(shape, seed), seed % NUM_CLASSES


def value_pair(shape: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor]:
    """Return an input and a float target."""
    return _input(shape, seed), torch.tensor(float(seed % 100) / 7)


def table(shape: tuple[int, ...], seed: int) -> dict[str, Any]:
    """Return a dict with an input, a class index and one more value, ``rpm``."""
    return {"inputs": _input(shape, seed), "targets": seed % NUM_CLASSES, "rpm": 1700.0 + seed % 100}


def tokens(shape: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor]:
    """Return a sequence of tokens and the same sequence as targets."""
    drawn = torch.randint(NUM_CLASSES, shape[-1:], generator=torch.Generator().manual_seed(seed))
    return drawn, drawn.clone()


#: The forms of a sample, in the order in which the kit tries them.
FORMS: Final[Mapping[str, Callable[[tuple[int, ...], int], Any]]] = {
    "(input, class)": pair,
    "dict": table,
    "(input, value)": value_pair,
    "(tokens, tokens)": tokens,
}


def sample_lists(
    make: Callable[[tuple[int, ...], int], Any],
    shapes: Sequence[tuple[int | None, ...]],
    min_size: int,
    max_size: int = 6,
) -> st.SearchStrategy[list[Any]]:
    """Draw lists of samples of one form with a shape from ``shapes``; None in a shape varies from sample to sample."""

    def made(shape: tuple[int | None, ...], seeds: list[int], lengths: list[int]) -> list[Any]:
        return [make(filled(shape, length), seed) for seed, length in zip(seeds, lengths, strict=False)]

    seeds = st.lists(st.integers(0, 10_000), min_size=min_size, max_size=max_size, unique=True)
    lengths = st.lists(st.integers(1, 9), min_size=max_size, max_size=max_size)
    return st.builds(made, shape=st.sampled_from(shapes), seeds=seeds, lengths=lengths)


def filled(shape: tuple[int | None, ...], length: int) -> tuple[int, ...]:
    """Return ``shape`` with None replaced by ``length``."""
    return tuple(length if size is None else size for size in shape)


def copied(value: Any) -> Any:
    """Return a copy of a sample or batch that shares no memory with it."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, Mapping):
        return {name: copied(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(copied(item) for item in value)
    return value.copy() if hasattr(value, "copy") else value


def same(first: Any, second: Any) -> bool:
    """Return whether two nested values are equal bit for bit; nan equals nan."""
    if isinstance(first, Tensor) or isinstance(second, Tensor):
        return _same_tensors(first, second)
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(same(first[name], second[name]) for name in first)
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    if hasattr(first, "__array__") or hasattr(second, "__array__"):
        return _same_tensors(torch.as_tensor(first), torch.as_tensor(second))
    return bool(first == second) or (first != first and second != second)  # noqa: PLR0124 (nan)


def _same_tensors(first: Any, second: Any) -> bool:
    if not (isinstance(first, Tensor) and isinstance(second, Tensor)):
        return False
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    return bool(((first == second) | ((first != first) & (second != second))).all())  # noqa: PLR0124 (nan)
