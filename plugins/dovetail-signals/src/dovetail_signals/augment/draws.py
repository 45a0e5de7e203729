"""What all augmentation shares: random numbers by address, partners, shares of a mix, and soft labels."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import torch
from torch import Tensor

from dovetail.random import Draws

_STEPS: Final = 1 << 14  # of the table of a quantile function


def draws_or_fresh(draws: Draws | None, samples: Tensor) -> Draws:
    """Return ``draws``, or new ones for a batch of samples, begun from torch's global generator."""
    if draws is not None:
        return draws
    seed = int(torch.randint(2**62, ()))
    return Draws(seed, 0, torch.arange(len(samples), device=samples.device))


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """Shape [N] values to be broadcast over [N, …]."""
    return values.reshape(-1, *(1,) * (like.ndim - 1))


def beta(draws: Draws, name: str, alpha: float) -> Tensor:
    """Return [N] numbers of the distribution Beta(alpha, alpha), by its quantile function, to about 1e-4.

    Raises:
        ValueError: ``alpha`` is not positive.
    """
    if alpha <= 0:
        raise ValueError(f"alpha must be more than 0, got {alpha:g}")
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
    """Return for each sample the row of another one: the next in a random order of the batch, which is a ring."""
    order = draws.uniform("partner").argsort()
    found = torch.empty_like(order)
    found[order] = order.roll(-1)
    return found


def to_probabilities(labels: Tensor, num_classes: int | None) -> Tensor:
    """Return labels that can be mixed: class indices [N] as rows of probabilities [N, C], anything else as it is.

    Raises:
        ValueError: labels are class indices, and the number of classes is not known.
    """
    if labels.is_floating_point():
        return labels
    if num_classes is None:
        raise ValueError("labels are class indices: say num_classes, so that they can be mixed")
    return torch.nn.functional.one_hot(labels.long(), num_classes).to(torch.get_default_dtype())


def mix(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """Return ``share`` of the first and the rest of the second, ``share`` being [N] for values of [N, …]."""
    return torch.lerp(second, first, per_sample(share, first).to(first.dtype))
