"""The result of a loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class LossResult(NamedTuple):
    """A mean loss, its named terms, and the weight of the mean.

    ``total * weight`` is a sum, so batches of different sizes add up exactly: the mean over several batches is
    ``Σ total·weight / Σ weight``, whatever their shapes.
    """

    #: The scalar to minimise: a mean over ``weight`` units.
    total: Tensor
    #: The terms of ``total`` as scalars, for logging. Empty if there is only one.
    parts: dict[str, Tensor]
    #: How many units ``total`` averages over: samples, elements, tokens that count, or class weight. ≥ 0; if it is 0,
    #: ``total`` is 0 too. A tensor where a number would cost a device sync.
    weight: Tensor | float


def safe_mean(summed: Tensor, weight: Tensor) -> Tensor:
    """Return ``summed / weight``. A sum over nothing stays 0, with a gradient of 0."""
    return summed / weight.where(weight > 0, 1)
