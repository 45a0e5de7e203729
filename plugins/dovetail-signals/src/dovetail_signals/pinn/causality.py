"""Causal weights: later times count only once the equation holds at earlier ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

import attrs
import torch
from attrs import field, frozen
from torch import Tensor, nn

from dovetail_signals.pinn.problems import Problem


@frozen(kw_only=True)
class Causality:
    """Options of the causal weights.

    Attributes:
        bins: number of time slices.
        strictness: values of ε; the next one applies once the current one is satisfied.
        threshold: a strictness is satisfied when the smallest weight is above this, from 0 to 1.
    """

    bins: int = field(default=32)
    strictness: Sequence[float] = field(default=(1e-2, 1e-1, 1.0, 10.0, 100.0))
    threshold: float = field(default=0.99)

    @bins.validator
    def _check_bins(self, _attribute: attrs.Attribute[int], value: int) -> None:
        if value < 2:  # noqa: PLR2004 (a single slice has no earlier one)
            raise ValueError(f"must be at least 2, got {value}")

    @strictness.validator
    def _check_strictness(self, _attribute: attrs.Attribute[Sequence[float]], value: Sequence[float]) -> None:
        if not value or min(value) < 0:
            raise ValueError(f"needs one or more numbers of at least 0, got {list(value)}")

    @threshold.validator
    def _check_threshold(self, _attribute: attrs.Attribute[float], value: float) -> None:
        if not 0 <= value <= 1:
            raise ValueError(f"must be between 0 and 1, got {value:g}")


@final
class CausalWeights(nn.Module):
    """The mean square of a residual with weight ``exp(-ε Σ_{k<i} L_k)`` for time slice i, where L_k is slice k's mean.

    Source: Wang, Sankaran and Perdikaris, «Respecting causality is all you need for training physics-informed neural
    networks», 2022, equations 3.10 to 3.12.

    Args:
        options: slices, strictness and threshold.
        problem: the problem whose time is cut into slices.

    Raises:
        ValueError: the problem has no time.
    """

    smallest: Tensor
    level: Tensor

    def __init__(self, options: Causality, problem: Problem) -> None:
        super().__init__()
        if "t" not in problem.domain:
            raise ValueError("causality: the problem has no time coordinate 't'")
        self._low, self._high = problem.domain["t"]
        self._bins: Final = options.bins
        self._threshold: Final = options.threshold
        self.register_buffer("strictness", torch.tensor(list(options.strictness)), persistent=False)
        self.register_buffer("level", torch.tensor(0))
        self.register_buffer("smallest", torch.tensor(0.0))

    def forward(self, squares: Tensor, holds: Tensor, times: Tensor) -> Tensor:
        """Return the weighted mean.

        Args:
            squares: squared residuals, ``[points]``.
            holds: ``[points]`` bool, whether a point counts.
            times: ``[points]``.
        """
        place = (times.detach() - self._low) / (self._high - self._low) * self._bins
        slices = place.long().clamp(0, self._bins - 1)
        counted = squares.where(holds, 0.0)
        sums = counted.new_zeros(self._bins).index_add(0, slices, counted)
        counts = counted.new_zeros(self._bins).index_add(0, slices, holds.to(counted.dtype))
        losses = sums / counts.clamp(min=1)
        before = losses.detach().cumsum(0) - losses.detach()
        weights = (-self._epsilon() * before).exp()
        if self.training:
            self.smallest.copy_(weights.min())
        filled = (counts > 0).to(losses.dtype)
        return (weights * losses).sum() / filled.sum().clamp(min=1)

    def _epsilon(self) -> Tensor:
        strictness: Tensor = self.get_buffer("strictness")
        return strictness[self.level]

    def advance(self) -> None:
        """Advance to the next strictness if the current one is satisfied."""
        last = len(self.get_buffer("strictness")) - 1
        self.level += ((self.smallest > self._threshold) & (self.level < last)).long()
