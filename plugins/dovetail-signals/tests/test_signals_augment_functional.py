"""Augmentation of signals as functions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dovetail.random import Draws
from dovetail_signals.augment import functional as augment
from dovetail_signals.augment.policy import RandomPolicy


def draws(count=4, seed=0):
    """Return the draws of a batch."""
    return Draws(seed, 1, torch.arange(count), "test")


def signals(count=4, channels=2, length=50, seed=0):
    """Return a batch of noise."""
    return torch.randn(count, channels, length, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=30)
@given(st.integers(1, 60), st.integers(0, 80), st.integers(0, 99))
def test_a_shift_is_circular(length, most, seed):
    """Values are rolled by at most the maximum, equally in all channels."""
    batch = signals(3, 2, length, seed)
    shifted = augment.time_shift(batch, most, draws=draws(3, seed))

    for before, after in zip(batch, shifted, strict=True):
        assert any(
            torch.equal(before.roll(shift, -1), after) for shift in range(-min(most, length), min(most, length) + 1)
        )


def test_shifts_are_uniform_in_both_directions():
    """Each of the 2 · 3 + 1 shifts is equally frequent."""
    ramp = torch.arange(20.0).repeat(7000, 1, 1)
    first = augment.time_shift(ramp, 3, draws=draws(7000))[:, 0, 0]
    counts = torch.bincount(((-first + 10) % 20).long() - 7)

    assert len(counts) == 7
    assert (counts - 1000).abs().max() < 150


def test_noise_and_scale():
    """Noise has the given deviation; factors are in their range and equal for all channels."""
    batch = signals(500, 2, 40)
    noise = augment.gaussian_noise_augmentation(batch, 0.3, draws=draws(500)) - batch
    factors = augment.amplitude_scaling(batch, (0.5, 2.0), draws=draws(500)) / batch

    assert float(noise.std()) == pytest.approx(0.3, rel=0.02)
    assert float(factors.std((1, 2)).max()) < 1e-4
    assert 0.5 - 1e-5 <= float(factors.min()) < 0.55
    assert 1.95 < float(factors.max()) <= 2.0 + 1e-5


def test_masks_are_spans_of_zero():
    """One span of zeros, no longer than the maximum and equal for all channels; other values do not change."""
    batch = signals(200, 2, 60)
    masked = augment.time_masking(batch, 10, 1, draws=draws(200))
    hit = masked == 0
    changes = (hit[:, 0].int().diff(prepend=torch.zeros(200, 1), append=torch.zeros(200, 1)) != 0).sum(1)

    assert torch.equal(hit[:, 0], hit[:, 1])
    assert int(hit[:, 0].sum(1).max()) == 10
    assert int(changes.max()) <= 2
    assert torch.equal(masked[~hit], batch[~hit])


@pytest.mark.parametrize("mix", [augment.mixup_batch, augment.cutmix_batch])
def test_labels_are_mixed_as_the_signals_are(mix):
    """If signals encode their class, the mixed signals contain each class with the weight in the mixed label."""
    labels = torch.arange(6)
    batch = nn.functional.one_hot(labels, 6).float()[:, :, None].expand(6, 6, 200).contiguous()
    mixed, soft = mix(batch, labels, 1.0, num_classes=6, draws=draws(6))

    torch.testing.assert_close(mixed.mean(-1), soft)
    torch.testing.assert_close(soft.sum(1), torch.ones(6))
    assert (soft.max(1).values < 1).any()
    with pytest.raises(ValueError, match="set num_classes"):
        mix(batch, labels)


def test_cutmix_pastes_one_span_with_its_probability():
    """With probability 0 nothing changes; a span is contiguous; regression targets are mixed in proportion."""
    batch = torch.zeros(300, 1, 100) + torch.arange(300.0)[:, None, None]
    values = torch.arange(300.0)[:, None]
    same, hard = augment.cutmix_batch(batch, values, prob=0.0, draws=draws(300))
    mixed, soft = augment.cutmix_batch(batch, values, prob=1.0, draws=draws(300))
    borders = (mixed[:, 0].diff(dim=1) != 0).sum(1)

    assert torch.equal(same, batch)
    assert torch.equal(hard, values)
    assert int(borders.max()) == 2
    torch.testing.assert_close(mixed.mean((1, 2))[:, None], soft)


def test_cutmix_of_two_signals():
    """The label has the fraction of the second signal that was pasted into the first."""
    mixed, label = augment.cutmix(
        torch.zeros(2, 80), torch.ones(2, 80), torch.tensor(0), torch.tensor(1), num_classes=3, draws=draws(1, 3)
    )

    assert float(label[1]) == pytest.approx(float(mixed.mean()))
    assert float(label.sum()) == pytest.approx(1)


def test_fgsm_increases_the_loss_within_its_bound():
    """Values change by at most epsilon, the loss rises, and parameters get no gradient."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(100, 3))
    batch, labels = signals(8), torch.arange(8) % 3
    changed = augment.adversarial_augmentation(model, batch, labels, epsilon=0.05)

    assert float((changed - batch).abs().max()) == pytest.approx(0.05, rel=1e-4)
    assert nn.functional.cross_entropy(model(changed), labels) > nn.functional.cross_entropy(model(batch), labels) + 0.1
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not changed.requires_grad


@pytest.mark.parametrize(
    "change",
    [
        augment.gaussian_noise_augmentation,
        augment.amplitude_scaling,
        lambda signal, draws=None: augment.time_shift(signal, 20, draws=draws),
        lambda signal, draws=None: augment.time_masking(signal, 20, draws=draws),
        lambda signal, draws=None: RandomPolicy()(signal.reshape(-1, 2, 50), draws=draws).reshape(signal.shape),
    ],
)
def test_single_signals_and_global_seeds(change):
    """With an address, a signal alone equals itself in its batch; without one, the global seed decides."""
    batch = signals()
    together = change(batch, draws=draws())
    alone = change(batch[2:3], draws=Draws(0, 1, torch.tensor([2]), "test"))
    torch.manual_seed(1)
    first, second = change(batch), change(batch)
    torch.manual_seed(1)

    torch.testing.assert_close(together[2:3], alone)
    assert torch.equal(first, change(batch))
    assert not torch.equal(first, second)
    assert change(batch[0]).shape == (2, 50)
