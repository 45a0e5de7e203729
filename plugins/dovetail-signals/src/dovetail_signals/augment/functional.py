"""Augmentation of signals as functions: [time] or [channels, time] is one signal, [N, channels, time] a batch.

Each takes ``draws``: the random numbers of the batch's samples by address (:class:`dovetail.random.Draws`). Without,
they are begun from torch's global generator.
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
    """Apply a change of [N, channels, time] to a signal or a batch of them."""
    if not signal.is_floating_point() or signal.ndim == 0:
        raise ValueError(f"a signal has floating-point values along time, got {signal.dtype} {tuple(signal.shape)}")
    batch = signal if signal.ndim == _BATCHED else signal.reshape(1, -1, signal.shape[-1])
    return change(batch, draws_or_fresh(draws, batch)).reshape(signal.shape)


def gaussian_noise_augmentation(signal: Tensor, noise_std: float = 0.01, *, draws: Draws | None = None) -> Tensor:
    """Return the signal with white noise of standard deviation ``noise_std``, in the signal's unit."""

    def change(batch: Tensor, own: Draws) -> Tensor:
        return batch + noise_std * own.normal("noise", tuple(batch.shape[1:])).to(batch.dtype)

    return _apply(signal, draws, change)


def amplitude_scaling(
    signal: Tensor, scale_range: tuple[float, float] = (0.8, 1.2), *, draws: Draws | None = None
) -> Tensor:
    """Return the signal times a factor drawn evenly between the two of ``scale_range``."""
    low, high = scale_range

    def change(batch: Tensor, own: Draws) -> Tensor:
        return batch * per_sample(low + (high - low) * own.uniform("scale"), batch).to(batch.dtype)

    return _apply(signal, draws, change)


def time_shift(signal: Tensor, shift_max: int = 1000, *, draws: Draws | None = None) -> Tensor:
    """Return the signal moved in time by up to ``shift_max`` steps; what leaves one end enters at the other."""

    def change(batch: Tensor, own: Draws) -> Tensor:
        length = batch.shape[-1]
        shift = (own.uniform("shift") * (2 * shift_max + 1)).floor().long() - shift_max
        # Every turned signal is a stretch of the signal after itself, which is faster than to gather value by value.
        stretches = torch.cat([batch, batch], dim=-1).unfold(-1, length, 1)
        return stretches[torch.arange(len(batch), device=batch.device), :, -shift % max(1, length)]

    return _apply(signal, draws, change)


def time_masking(signal: Tensor, mask_param: int = 1000, num_masks: int = 1, *, draws: Draws | None = None) -> Tensor:
    """Return the signal with ``num_masks`` stretches of up to ``mask_param`` steps set to 0, by the fused op."""

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
    """Return each sample mixed with another of the batch, and its label mixed alike.

    Args:
        signals: [N, …], any floating-point inputs.
        labels: [N] class indices, or [N, …] probabilities or values.
        alpha: the share is drawn from Beta(alpha, alpha).
        num_classes: needed where labels are class indices.
        draws: of the batch's samples.

    Returns:
        The mixed signals, and labels [N, …] in floating point.

    Source:
        Zhang et al., mixup: beyond empirical risk minimization (ICLR 2018).
    """
    own = draws_or_fresh(draws, signals)
    other, share = partners(own), beta(own, "share", alpha)
    soft = to_probabilities(labels, num_classes)
    return mix(signals, signals[other], share), mix(soft, soft[other], share)


def cutmix_batch(
    signals: Tensor,
    labels: Tensor,
    alpha: float = 1.0,
    prob: float = 0.5,
    *,
    num_classes: int | None = None,
    draws: Draws | None = None,
) -> tuple[Tensor, Tensor]:
    """Return each sample with a stretch of another pasted in, its label mixed by how much of each there is.

    Args:
        signals: [N, …, time], any floating-point inputs.
        labels: [N] class indices, or [N, …] probabilities or values.
        alpha: the share that is kept is drawn from Beta(alpha, alpha).
        prob: probability with which a sample is changed at all.
        num_classes: needed where labels are class indices.
        draws: of the batch's samples.

    Returns:
        The mixed signals, and labels [N, …] in floating point.

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
    """Return the first signal with a stretch of the second pasted in, and the label mixed by how much of each there is.

    Args:
        signal1: [time] or [channels, time].
        signal2: of the same shape.
        label1: its class index, or its probabilities.
        label2: likewise.
        alpha: the share of the first is drawn from Beta(alpha, alpha).
        num_classes: needed where labels are class indices.
        draws: of one sample.
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
    """Mixes the samples of a batch in pairs.

    Args:
        alpha: the share is drawn from Beta(alpha, alpha).
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def __call__(
        self, signals: Tensor, labels: Tensor, *, num_classes: int | None = None, draws: Draws | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return what :func:`mixup_batch` does."""
        return mixup_batch(signals, labels, self.alpha, num_classes=num_classes, draws=draws)


def adversarial_augmentation(
    model: nn.Module, signal: Tensor, label: Tensor, epsilon: float = 0.01, criterion: Any = None
) -> Tensor:
    """Return signals changed by ``epsilon`` in every value, in the direction that raises the loss most.

    The model's parameters get no gradient, and it stays in the mode it is in.

    Args:
        model: maps signals to class scores.
        signal: [N, …], what the model takes.
        label: [N] class indices, or whatever the criterion takes.
        epsilon: how far, in the signals' unit.
        criterion: (outputs, labels) -> loss; cross-entropy by default.

    Source:
        Goodfellow, Shlens and Szegedy, Explaining and harnessing adversarial examples (ICLR 2015): the fast gradient
        sign method.
    """
    probe = signal.detach().requires_grad_()
    with torch.enable_grad():
        loss = (criterion or nn.functional.cross_entropy)(model(probe), label)
        (gradient,) = torch.autograd.grad(loss, probe)
    return signal.detach() + epsilon * gradient.sign()
