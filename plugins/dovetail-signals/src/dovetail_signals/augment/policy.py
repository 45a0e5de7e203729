"""AutoAugment for signals: each sample draws one of several short recipes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

from dovetail.random import Draws
from dovetail_signals.augment import functional
from dovetail_signals.augment.draws import draws_or_fresh, per_sample

#: An operation's name, the probability with which it is applied, and its magnitude from 0 to 10.
Step = tuple[str, float, float]
_MOST: Final = 10.0


def _noise(signals: Tensor, strength: float, draws: Draws) -> Tensor:
    rms = signals.square().mean((1, 2), keepdim=True).sqrt()
    return signals + 0.3 * strength * rms * draws.normal("noise", tuple(signals.shape[1:])).to(signals.dtype)


def _scale(signals: Tensor, strength: float, draws: Draws) -> Tensor:
    return functional.amplitude_scaling(signals, (1 - 0.5 * strength, 1 + 0.5 * strength), draws=draws)


def _shift(signals: Tensor, strength: float, draws: Draws) -> Tensor:
    return functional.time_shift(signals, int(strength * signals.shape[-1] / 2), draws=draws)


def _mask(signals: Tensor, strength: float, draws: Draws) -> Tensor:
    return functional.time_masking(signals, int(strength * signals.shape[-1] / 4), draws=draws)


def _invert(signals: Tensor, _strength: float, _draws: Draws) -> Tensor:
    return -signals


#: What a policy may name. At magnitude 10: noise of 0.3 of the signal's root mean square, a scale of 0.5 to 1.5, a
#: shift of up to half of the signal, a mask of up to a quarter. The sign has no magnitude.
OPERATIONS: Final[Mapping[str, Callable[[Tensor, float, Draws], Tensor]]] = {
    "noise": _noise,
    "scale": _scale,
    "shift": _shift,
    "mask": _mask,
    "invert": _invert,
}

#: Written by hand, from what leaves a bearing's fault audible. Not learned from data.
POLICY: Final[tuple[tuple[Step, ...], ...]] = (
    (("shift", 0.9, 10.0), ("noise", 0.5, 2.0)),
    (("shift", 0.9, 10.0), ("scale", 0.8, 5.0)),
    (("invert", 0.5, 0.0), ("noise", 0.8, 4.0)),
    (("mask", 0.8, 4.0), ("scale", 0.5, 3.0)),
    (("shift", 0.9, 10.0), ("mask", 0.5, 6.0)),
)


class AutoAugment:
    """Applies to each signal one of several short recipes, drawn evenly.

    Args:
        policy: recipes, each a list of steps (operation, probability, magnitude from 0 to 10); ``POLICY`` by default.

    Raises:
        ValueError: there is no recipe, an unknown operation, or a number out of range.

    Source:
        Cubuk et al., AutoAugment: learning augmentation policies from data (CVPR 2019), whose search is left out.
    """

    def __init__(self, policy: Sequence[Sequence[Step]] | None = None) -> None:
        self.policy = tuple(map(tuple, POLICY if policy is None else policy))
        if not self.policy:
            raise ValueError("the policy has no recipe")
        for name, probability, magnitude in (step for recipe in self.policy for step in recipe):
            if name not in OPERATIONS:
                raise ValueError(f"the policy names '{name}'; there are {', '.join(OPERATIONS)}")
            if not (0 <= probability <= 1 and 0 <= magnitude <= _MOST):
                raise ValueError(f"'{name}' needs a probability of 0 to 1 and a magnitude of 0 to 10")

    def __call__(self, signals: Tensor, *, draws: Draws | None = None) -> Tensor:
        """Return signals [N, channels, time], each changed by a recipe of its own."""
        own = draws_or_fresh(draws, signals)
        chosen = (own.uniform("recipe") * len(self.policy)).long()
        found = signals
        for number, recipe in enumerate(self.policy):
            for place, (name, probability, magnitude) in enumerate(recipe):
                step = own.of(f"{number}.{place}")
                applies = (chosen == number) & (step.uniform("applies") < probability)
                changed = OPERATIONS[name](found, magnitude / _MOST, step)
                found = torch.where(per_sample(applies, found), changed, found)
        return found
