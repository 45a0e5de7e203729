"""Addressed draws of points in a domain.

A point depends only on the seed, the stream, the round and its number, not on earlier draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal

import torch
from torch import Tensor

from dovetail.random import uniform

Sampling = Literal["latin_hypercube", "uniform"]


def uniform_points(count: int, dimensions: int, seed: int, stream: str, round: int = 0) -> Tensor:  # noqa: A002 (the word)
    """Draw points uniformly and independently: ``[count, dimensions]`` float64 in [0, 1)."""
    return uniform(seed, round, torch.arange(count), stream, (dimensions,), dtype=torch.float64)


def latin_hypercube(count: int, dimensions: int, seed: int, stream: str, round: int = 0) -> Tensor:  # noqa: A002 (the word)
    """Draw a Latin hypercube: each of ``count`` equal slices of each coordinate holds exactly one point.

    Source: McKay, Beckman and Conover, Technometrics 21, 1979.

    Returns:
        ``[count, dimensions]`` float64 in [0, 1).
    """
    within = uniform_points(count, dimensions, seed, stream, round)
    # Sorting independent draws gives a uniformly random permutation.
    slices = uniform_points(count, dimensions, seed, f"{stream}.slices", round).argsort(dim=0)
    return (slices + within) / count


SAMPLERS: Final[Mapping[Sampling, Callable[..., Tensor]]] = {
    "latin_hypercube": latin_hypercube,
    "uniform": uniform_points,
}


def weighted_sample(weights: Tensor, count: int, seed: int, stream: str, round: int = 0) -> Tensor:  # noqa: A002 (the word)
    """Draw the indices of ``count`` candidates, weighted and without replacement.

    The candidates with the smallest exponential keys ``-log(u) / weight`` are such a sample.
    Source: Efraimidis and Spirakis, «Weighted random sampling with a reservoir», 2006.

    Args:
        weights: ``[candidates]``, above 0.
        count: at most the number of candidates.
        seed: the run's seed.
        stream: name of the purpose of the draw.
        round: number of the draw.

    Returns:
        ``[count]`` int64, in the order of the candidates.

    Raises:
        ValueError: there are fewer than ``count`` candidates.
    """
    if count > len(weights):
        raise ValueError(f"cannot draw {count} points from {len(weights)} candidates; increase candidates")
    drawn = uniform_points(len(weights), 1, seed, stream, round)[:, 0].to(weights.device)
    keys = -torch.log1p(-drawn) / weights.double()
    return keys.topk(count, largest=False).indices.sort().values


def residual_weights(residuals: Tensor, exponent: float, offset: float) -> Tensor:
    """Return the sampling weight of each candidate, ``|r|^k / mean |r|^k + c``.

    Source: Wu, Zhu, Tan, Kartha and Lu, «A comprehensive study of non-adaptive and residual-based adaptive sampling
    for physics-informed neural networks», 2023, equation 2 (RAD).

    Args:
        residuals: ``[candidates, equations]``.
        exponent: k ≥ 0; 0 ignores the residual.
        offset: c ≥ 0; a large one makes the weights nearly equal.

    Returns:
        ``[candidates]`` float64, above 0.
    """
    size = residuals.double().square().sum(1).sqrt().pow(exponent)
    tiny = torch.finfo(torch.float64).tiny
    return size / size.mean().clamp(min=tiny) + max(offset, 1e-12)
