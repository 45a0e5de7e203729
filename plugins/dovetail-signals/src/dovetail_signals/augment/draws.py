"""Helpers of all augmentations: addressed random numbers, partners within a batch, and mixing of samples."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import torch
from torch import Tensor

from dovetail.random import Draws

_STEPS: Final = 1 << 14  # entries of the table of a quantile function


def draws_or_fresh(draws: Draws | None, samples: Tensor) -> Draws:
    """Return ``draws``, or if it is None, draws for these samples with a seed from torch's global generator."""
    if draws is not None:
        return draws
    seed = int(torch.randint(2**62, ()))
    return Draws(seed, 0, torch.arange(len(samples), device=samples.device))


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """Reshape values [N] so that they broadcast over ``like`` [N, …]."""
    return values.reshape(-1, *(1,) * (like.ndim - 1))


def beta(draws: Draws, name: str, alpha: float) -> Tensor:
    """Draw [N] numbers from Beta(alpha, alpha) by its quantile function, accurate to about 1e-4.

    Raises:
        ValueError: ``alpha`` is not positive.
    """
    if alpha <= 0:
        raise ValueError(f"alpha must be above 0, got {alpha:g}")
    drawn = draws.uniform(name)
    table = _quantiles(alpha).to(drawn.device)
    place = drawn * _STEPS
    low = place.floor().long()
    return torch.lerp(table[low], table[low + 1], place - low)


@lru_cache(maxsize=16)
def _quantiles(alpha: float) -> Tensor:
    from scipy.special import betaincinv

    at = torch.linspace(0, 1, _STEPS + 1, dtype=torch.float64)
    return torch.from_numpy(betaincinv(alpha, alpha, at.numpy())).float()


def partners(draws: Draws) -> Tensor:
    """Return for each sample the row of its partner: the next sample in a random cyclic order of the batch."""
    order = draws.uniform("partner").argsort()
    found = torch.empty_like(order)
    found[order] = order.roll(-1)
    return found


def to_probabilities(labels: Tensor, num_classes: int | None) -> Tensor:
    """Return class indices [N] as one-hot probabilities [N, C], and floating-point labels unchanged.

    Raises:
        ValueError: labels are class indices and ``num_classes`` is None.
    """
    if labels.is_floating_point():
        return labels
    if num_classes is None:
        raise ValueError("labels are class indices: set num_classes to mix them")
    return torch.nn.functional.one_hot(labels.long(), num_classes).to(torch.get_default_dtype())


def mix(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    """Return ``weight · first + (1 - weight) · second``, with a weight [N] for values [N, …]."""
    return torch.lerp(second, first, per_sample(weight, first).to(first.dtype))
