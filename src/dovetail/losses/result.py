"""What a loss returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class LossResult(NamedTuple):
    """A mean, its named parts, and how much it is a mean of.

    ``total * weight`` is a sum, so batches of different sizes add up exactly: over several batches the mean
    is ``Σ total·weight / Σ weight``, whatever their shapes.
    """

    #: The scalar to minimise, a mean over ``weight`` units.
    total: Tensor
    #: The terms that make up ``total``, as scalars, for logs. Empty where there is only one.
    parts: dict[str, Tensor]
    #: How many units ``total`` is a mean over: samples, elements, counted tokens, or class weight. ≥ 0; where
    #: it is 0, ``total`` is 0 too. A tensor where a number would cost a device sync.
    weight: Tensor | float


def mean_of(summed: Tensor, weight: Tensor) -> Tensor:
    """Return ``summed / weight``, a sum over nothing staying 0 with a gradient of 0."""
    return summed / weight.where(weight > 0, 1)
