"""Augmentation of signals as functions. A signal is [time] or [channels, time], a batch [N, channels, time].

Every function takes ``draws``, the addressed random numbers of the batch's samples (:class:`dovetail.random.Draws`).
Without them, random numbers come from torch's global generator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn

from dovetail.ops import spec_augment
from dovetail.random import Draws
from dovetail_signals.augment.draws import beta, draws_or_fresh, mix, partners, per_sample, to_probabilities

_BATCHED: Final = 3  # dimensions of a batch of signals


def _apply(signal: Tensor, draws: Draws | None, change: Callable[[Tensor, Draws], Tensor]) -> Tensor:
    """Apply ``change``, which takes [N, channels, time], to one signal or a batch."""
    if not signal.is_floating_point() or signal.ndim == 0:
        raise ValueError(f"needs a floating-point signal [..., time], got {signal.dtype} {tuple(signal.shape)}")
    batch = signal if signal.ndim == _BATCHED else signal.reshape(1, -1, signal.shape[-1])
    return change(batch, draws_or_fresh(draws, batch)).reshape(signal.shape)


def gaussian_noise_augmentation(signal: Tensor, noise_std: float = 0.01, *, draws: Draws | None = None) -> Tensor:
    """Add white noise of standard deviation ``noise_std``, in the signal's unit."""

    def change(batch: Tensor, own: Draws) -> Tensor:
        return batch + noise_std * own.normal("noise", tuple(batch.shape[1:])).to(batch.dtype)

    return _apply(signal, draws, change)


def amplitude_scaling(
    signal: Tensor, scale_range: tuple[float, float] = (0.8, 1.2), *, draws: Draws | None = None
) -> Tensor:
    """Multiply each signal by a factor drawn uniformly from ``scale_range``."""
    low, high = scale_range

    def change(batch: Tensor, own: Draws) -> Tensor:
        return batch * per_sample(low + (high - low) * own.uniform("scale"), batch).to(batch.dtype)

    return _apply(signal, draws, change)


def time_shift(signal: Tensor, shift_max: int = 1000, *, draws: Draws | None = None) -> Tensor:
    """Shift each signal in time by up to ``shift_max`` steps either way, circularly."""

    def change(batch: Tensor, own: Draws) -> Tensor:
        length = batch.shape[-1]
        shift = (own.uniform("shift") * (2 * shift_max + 1)).floor().long() - shift_max
        # A circular shift is a slice of the signal repeated twice; slicing is faster than gathering values.
        shifts = torch.cat([batch, batch], dim=-1).unfold(-1, length, 1)
        return shifts[torch.arange(len(batch), device=batch.device), :, -shift % max(1, length)]

    return _apply(signal, draws, change)


def time_masking(signal: Tensor, mask_param: int = 1000, num_masks: int = 1, *, draws: Draws | None = None) -> Tensor:
    """Set ``num_masks`` random spans of up to ``mask_param`` steps to 0, by the fused op."""

    def change(batch: Tensor, own: Draws) -> Tensor:
        return spec_augment(
            batch,
            own.uniform("masks", (num_masks, 2)),
            time_mask_param=mask_param,
            num_time_masks=num_masks,
            num_freq_masks=0,
        )

    return _apply(signal, draws, change)


def mixup_batch(
    signals: Tensor,
    labels: Tensor,
    alpha: float = 1.0,
    *,
    num_classes: int | None = None,
    draws: Draws | None = None,
) -> tuple[Tensor, Tensor]:
    """Mix each sample and its label with another of the batch, with the same weight.

    Args:
        signals: [N, …], any floating-point inputs.
        labels: [N] class indices, or [N, …] probabilities or regression targets.
        alpha: the weight is drawn from Beta(alpha, alpha).
        num_classes: required if labels are class indices.
        draws: random numbers of the batch's samples; from torch's global generator if None.

    Returns:
        The mixed signals, and floating-point labels [N, …].

    Source:
        Zhang et al., mixup: beyond empirical risk minimization (ICLR 2018).
    """
    own = draws_or_fresh(draws, signals)
    other, weight = partners(own), beta(own, "share", alpha)
    soft = to_probabilities(labels, num_classes)
    return mix(signals, signals[other], weight), mix(soft, soft[other], weight)


def cutmix_batch(
    signals: Tensor,
    labels: Tensor,
    alpha: float = 1.0,
    prob: float = 0.5,
    *,
    num_classes: int | None = None,
    draws: Draws | None = None,
) -> tuple[Tensor, Tensor]:
    """Paste a span of another sample into each, and mix the labels in proportion.

    Args:
        signals: [N, …, time], any floating-point inputs.
        labels: [N] class indices, or [N, …] probabilities or regression targets.
        alpha: the fraction of a sample to keep is drawn from Beta(alpha, alpha).
        prob: probability that a sample is changed.
        num_classes: required if labels are class indices.
        draws: random numbers of the batch's samples; from torch's global generator if None.

    Returns:
        The mixed signals, and floating-point labels [N, …].

    Source:
        Yun et al., CutMix (ICCV 2019), along time.
    """
    own = draws_or_fresh(draws, signals)
    other, length = partners(own), signals.shape[-1]
    changed = own.uniform("changed") < prob
    cut = torch.where(changed, ((1 - beta(own, "share", alpha)) * length).round(), 0)
    start = (own.uniform("start") * (length - cut + 1)).floor()
    time = torch.arange(length, device=signals.device)
    pasted = (time >= start[:, None]) & (time < (start + cut)[:, None])
    where = pasted.reshape(len(signals), *(1,) * (signals.ndim - 2), length)
    soft = to_probabilities(labels, num_classes)
    return torch.where(where, signals[other], signals), mix(soft, soft[other], 1 - cut / length)


def cutmix(
    signal1: Tensor,
    signal2: Tensor,
    label1: Tensor,
    label2: Tensor,
    alpha: float = 1.0,
    *,
    num_classes: int | None = None,
    draws: Draws | None = None,
) -> tuple[Tensor, Tensor]:
    """Paste a span of the second signal into the first, and mix the labels in proportion.

    Args:
        signal1: [time] or [channels, time].
        signal2: of the same shape.
        label1: its class index, or its probabilities.
        label2: that of the second.
        alpha: the fraction of the first signal to keep is drawn from Beta(alpha, alpha).
        num_classes: required if labels are class indices.
        draws: random numbers of one sample; from torch's global generator if None.
    """
    both = torch.stack([signal1, signal2])
    labels = to_probabilities(torch.stack([torch.as_tensor(label1), torch.as_tensor(label2)]), num_classes)
    own = draws_or_fresh(draws, both[:1])
    length = signal1.shape[-1]
    cut = ((1 - beta(own, "share", alpha)) * length).round()
    start = (own.uniform("start") * (length - cut + 1)).floor()
    time = torch.arange(length, device=both.device)
    pasted = (time >= start) & (time < start + cut)
    return torch.where(pasted, signal2, signal1), mix(labels[:1], labels[1:], 1 - cut / length)[0]


class MixupAugmentation:
    """Mix the samples of a batch in pairs.

    Args:
        alpha: the weight is drawn from Beta(alpha, alpha).
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def __call__(
        self, signals: Tensor, labels: Tensor, *, num_classes: int | None = None, draws: Draws | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the signals and labels mixed by :func:`mixup_batch`."""
        return mixup_batch(signals, labels, self.alpha, num_classes=num_classes, draws=draws)


def adversarial_augmentation(
    model: nn.Module, signal: Tensor, label: Tensor, epsilon: float = 0.01, criterion: Any = None
) -> Tensor:
    """Move every value by ``epsilon`` in the direction that increases the loss most.

    The model's parameters get no gradient, and its training mode does not change.

    Args:
        model: maps signals to class scores.
        signal: [N, …], the model's inputs.
        label: [N] class indices, or the labels that ``criterion`` takes.
        epsilon: size of the change, in the signals' unit.
        criterion: ``(outputs, labels) -> loss``; cross-entropy by default.

    Source:
        Goodfellow, Shlens and Szegedy, Explaining and harnessing adversarial examples (ICLR 2015): the fast gradient
        sign method.
    """
    probe = signal.detach().requires_grad_()
    with torch.enable_grad():
        loss = (criterion or nn.functional.cross_entropy)(model(probe), label)
        (gradient,) = torch.autograd.grad(loss, probe)
    return signal.detach() + epsilon * gradient.sign()
