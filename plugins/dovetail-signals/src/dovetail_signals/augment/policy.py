"""AutoAugment for signals: a random sub-policy for each sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

from dovetail.random import Draws
from dovetail_signals.augment import functional
from dovetail_signals.augment.draws import draws_or_fresh, per_sample

#: Name of an operation, probability of applying it, and its magnitude from 0 to 10.
Step = tuple[str, float, float]
_MAX_MAGNITUDE: Final = 10.0


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


#: The operations of a policy. At magnitude 10: noise of 0.3 of the signal's root mean square, a scale of 0.5 to 1.5,
#: a shift of up to half the signal, a mask of up to a quarter. ``invert`` has no magnitude.
OPERATIONS: Final[Mapping[str, Callable[[Tensor, float, Draws], Tensor]]] = {
    "noise": _noise,
    "scale": _scale,
    "shift": _shift,
    "mask": _mask,
    "invert": _invert,
}

#: Chosen by hand so that a bearing's fault remains audible, not learned from data.
POLICY: Final[tuple[tuple[Step, ...], ...]] = (
    (("shift", 0.9, 10.0), ("noise", 0.5, 2.0)),
    (("shift", 0.9, 10.0), ("scale", 0.8, 5.0)),
    (("invert", 0.5, 0.0), ("noise", 0.8, 4.0)),
    (("mask", 0.8, 4.0), ("scale", 0.5, 3.0)),
    (("shift", 0.9, 10.0), ("mask", 0.5, 6.0)),
)


class RandomPolicy:
    """Apply a random sub-policy to each signal; all are equally likely.

    Args:
        policy: sub-policies, each a list of steps (operation, probability, magnitude from 0 to 10); ``POLICY`` by
            default.

    Raises:
        ValueError: there is no sub-policy, an unknown operation, or a number out of range.

    Source:
        Cubuk et al., AutoAugment: learning augmentation policies from data (CVPR 2019), without the search.
    """

    def __init__(self, policy: Sequence[Sequence[Step]] | None = None) -> None:
        self.policy = tuple(map(tuple, POLICY if policy is None else policy))
        if not self.policy:
            raise ValueError("the policy is empty: it needs at least one list of steps")
        for name, probability, magnitude in (step for recipe in self.policy for step in recipe):
            if name not in OPERATIONS:
                raise ValueError(f"the policy has an unknown operation '{name}'; use one of {', '.join(OPERATIONS)}")
            if not (0 <= probability <= 1 and 0 <= magnitude <= _MAX_MAGNITUDE):
                raise ValueError(
                    f"'{name}' needs a probability from 0 to 1 and a magnitude from 0 to 10, "
                    f"got {probability:g} and {magnitude:g}"
                )

    def __call__(self, signals: Tensor, *, draws: Draws | None = None) -> Tensor:
        """Return signals [N, channels, time], each augmented by a random sub-policy."""
        own = draws_or_fresh(draws, signals)
        chosen = (own.uniform("recipe") * len(self.policy)).long()
        found = signals
        for number, recipe in enumerate(self.policy):
            for place, (name, probability, magnitude) in enumerate(recipe):
                step = own.of(f"{number}.{place}")
                applies = (chosen == number) & (step.uniform("applies") < probability)
                changed = OPERATIONS[name](found, magnitude / _MAX_MAGNITUDE, step)
                found = torch.where(per_sample(applies, found), changed, found)
        return found
