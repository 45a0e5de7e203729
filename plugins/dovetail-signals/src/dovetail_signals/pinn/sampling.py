"""Where an equation is looked at: points of a domain, drawn by address.

A point depends on the seed, the round, its number and what it is for, and on nothing that was drawn before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal

import torch
from torch import Tensor

from dovetail.random import uniform

Sampling = Literal["latin_hypercube", "uniform"]


def uniform_points(count: int, dimensions: int, seed: int, stream: str, round: int = 0) -> Tensor:  # noqa: A002 (the word)
    """Return points drawn evenly and independently, ``[count, dimensions]`` float64 in [0, 1)."""
    return uniform(seed, round, torch.arange(count), stream, (dimensions,), dtype=torch.float64)


def latin_hypercube(count: int, dimensions: int, seed: int, stream: str, round: int = 0) -> Tensor:  # noqa: A002 (the word)
    """Return points of which each of ``count`` equal slices of each coordinate holds exactly one.

    Source: McKay, Beckman and Conover, Technometrics 21, 1979.

    Returns:
        ``[count, dimensions]`` float64 in [0, 1).
    """
    within = uniform_points(count, dimensions, seed, stream, round)
    # The order of independent draws is a permutation, every one as likely as any other.
    slices = uniform_points(count, dimensions, seed, f"{stream}.slices", round).argsort(dim=0)
    return (slices + within) / count


SAMPLERS: Final[Mapping[Sampling, Callable[..., Tensor]]] = {
    "latin_hypercube": latin_hypercube,
    "uniform": uniform_points,
}


def weighted_sample(weights: Tensor, count: int, seed: int, stream: str, round: int = 0) -> Tensor:  # noqa: A002 (the word)
    """Return the indices of ``count`` different candidates, each as likely to be among them as its weight says.

    Exponential keys: the candidates with the smallest ``-log(u) / weight`` are a weighted sample without replacement.
    Source: Efraimidis and Spirakis, «Weighted random sampling with a reservoir», 2006.

    Args:
        weights: ``[candidates]``, more than 0.
        count: at most as many as there are candidates.
        seed: the run's seed.
        stream: what the draw is for.
        round: which draw it is.

    Returns:
        ``[count]`` int64, in the order of the candidates.

    Raises:
        ValueError: there are fewer candidates.
    """
    if count > len(weights):
        raise ValueError(f"{count} points cannot be chosen among {len(weights)} candidates")
    drawn = uniform_points(len(weights), 1, seed, stream, round)[:, 0].to(weights.device)
    keys = -torch.log1p(-drawn) / weights.double()
    return keys.topk(count, largest=False).indices.sort().values


def residual_weights(residuals: Tensor, exponent: float, offset: float) -> Tensor:
    """Return how likely each candidate is to become a point: ``|r|^k / mean |r|^k + c``.

    Source: Wu, Zhu, Tan, Kartha and Lu, «A comprehensive study of non-adaptive and residual-based adaptive sampling
    for physics-informed neural networks», 2023, equation 2 (RAD).

    Args:
        residuals: ``[candidates, equations]``.
        exponent: k ≥ 0; 0 takes no notice of the residual.
        offset: c ≥ 0; a large one neither.

    Returns:
        ``[candidates]`` float64, more than 0.
    """
    size = residuals.double().square().sum(1).sqrt().pow(exponent)
    tiny = torch.finfo(torch.float64).tiny
    return size / size.mean().clamp(min=tiny) + max(offset, 1e-12)
