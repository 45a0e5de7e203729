"""Augmentation of signals: what each does, by whose numbers, and that mixed labels reach the loss."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta as beta_distribution
from scipy.stats import kstest
from torch import nn

from dovetail import Config
from dovetail.main import run
from dovetail.random import Draws
from dovetail_signals.augment import functional as augment
from dovetail_signals.augment.draws import beta, partners
from dovetail_signals.augment.policy import OPERATIONS, AutoAugment
from dovetail_signals.augment.transforms import CutMix, Mixup, PatchAugment, SpecAugment


def draws(count=4, seed=0):
    """Return the draws of a batch."""
    return Draws(seed, 1, torch.arange(count), "test")


def signals(count=4, channels=2, length=50, seed=0):
    """Return a batch of noise."""
    return torch.randn(count, channels, length, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("alpha", [0.2, 0.4, 1.0, 5.0])
def test_shares_are_of_the_beta_distribution(alpha):
    """The distribution of twenty thousand is nowhere 0.02 off (float32 makes 1 of what is nearest to it)."""
    drawn = beta(draws(20_000), "share", alpha)

    assert kstest(drawn.numpy(), beta_distribution(alpha, alpha).cdf).statistic < 0.02
    assert 0 <= float(drawn.min()) <= float(drawn.max()) <= 1
    with pytest.raises(ValueError, match="alpha must be above 0"):
        beta(draws(), "share", 0.0)


@given(st.integers(2, 40), st.integers(0, 99))
def test_partners_are_others_and_everybody_is_one(count, seed):
    """Each sample is the partner of exactly one other."""
    found = partners(draws(count, seed))

    assert sorted(found.tolist()) == list(range(count))
    assert (found != torch.arange(count)).all()


@settings(max_examples=30)
@given(st.integers(1, 60), st.integers(0, 80), st.integers(0, 99))
def test_a_shift_turns_the_signal_around(length, most, seed):
    """The values are the same ones, rolled by no more than asked, all channels alike."""
    batch = signals(3, 2, length, seed)
    shifted = augment.time_shift(batch, most, draws=draws(3, seed))

    for before, after in zip(batch, shifted, strict=True):
        assert any(
            torch.equal(before.roll(shift, -1), after) for shift in range(-min(most, length), min(most, length) + 1)
        )


def test_shifts_are_even_and_go_both_ways():
    """Each of the 2 · 3 + 1 shifts comes up as often as the others."""
    ramp = torch.arange(20.0).repeat(7000, 1, 1)
    first = augment.time_shift(ramp, 3, draws=draws(7000))[:, 0, 0]
    counts = torch.bincount(((-first + 10) % 20).long() - 7)

    assert len(counts) == 7
    assert (counts - 1000).abs().max() < 150


def test_noise_and_scale():
    """Noise has the given deviation; factors lie in their range and are one for all channels."""
    batch = signals(500, 2, 40)
    noise = augment.gaussian_noise_augmentation(batch, 0.3, draws=draws(500)) - batch
    factors = augment.amplitude_scaling(batch, (0.5, 2.0), draws=draws(500)) / batch

    assert float(noise.std()) == pytest.approx(0.3, rel=0.02)
    assert float(factors.std((1, 2)).max()) < 1e-4
    assert 0.5 - 1e-5 <= float(factors.min()) < 0.55
    assert 1.95 < float(factors.max()) <= 2.0 + 1e-5


def test_masks_are_stretches_of_zero():
    """One run of zeros, no longer than asked, the same for all channels, and nothing else is changed."""
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
    """Signals that are their own label come out as the share of each class that the labels say."""
    labels = torch.arange(6)
    batch = nn.functional.one_hot(labels, 6).float()[:, :, None].expand(6, 6, 200).contiguous()
    mixed, soft = mix(batch, labels, 1.0, num_classes=6, draws=draws(6))

    torch.testing.assert_close(mixed.mean(-1), soft)
    torch.testing.assert_close(soft.sum(1), torch.ones(6))
    assert (soft.max(1).values < 1).any()
    with pytest.raises(ValueError, match="set num_classes"):
        mix(batch, labels)


def test_cutmix_leaves_what_it_does_not_draw():
    """With probability 0 nothing changes; a stretch is in one piece; values of a regression are mixed alike."""
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
    """A stretch of the second is in the first, and the label says how much."""
    mixed, label = augment.cutmix(
        torch.zeros(2, 80), torch.ones(2, 80), torch.tensor(0), torch.tensor(1), num_classes=3, draws=draws(1, 3)
    )

    assert float(label[1]) == pytest.approx(float(mixed.mean()))
    assert float(label.sum()) == pytest.approx(1)


def test_fgsm_raises_the_loss_within_its_bound():
    """Every value moves by epsilon at most, the loss rises, and the parameters get no gradient."""
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
        lambda signal, draws=None: AutoAugment()(signal.reshape(-1, 2, 50), draws=draws).reshape(signal.shape),
    ],
)
def test_single_signals_and_global_seeds(change):
    """One signal alone is as in its batch by address; without an address the global seed decides, and varies."""
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


def test_a_policy_applies_each_recipe_to_its_share():
    """Two recipes of certain steps: each sample gets one of them, about half of them each."""
    policy = [[("invert", 1.0, 0.0)], [("shift", 0.0, 10.0)]]
    batch = signals(2000, 1, 5)
    found = AutoAugment(policy)(batch, draws=draws(2000))
    inverted = (found == -batch).all(-1).all(-1)

    assert 900 < int(inverted.sum()) < 1100
    assert torch.equal(found[~inverted], batch[~inverted])
    for bad, message in {
        (): "the policy is empty",
        (((("warp", 1.0, 1.0)),),): "use one of noise",
        (((("noise", 2.0, 1.0)),),): "probability from 0 to 1",
    }.items():
        with pytest.raises(ValueError, match=message):
            AutoAugment(bad)
    assert set(OPERATIONS) == {"noise", "scale", "shift", "mask", "invert"}


def test_spec_augment_masks_every_spectrogram_of_a_dict():
    """Each gets masks of its own; a spectrum without time is left alone."""
    batch = {"a": torch.ones(3, 1, 20, 30), "b": torch.ones(3, 1, 20, 30), "c": torch.ones(3, 1, 20)}
    found = SpecAugment(time_mask_param=10, freq_mask_param=8).transform_batch({"inputs": batch}, draws(3))["inputs"]

    assert (found["a"] == 0).any()
    assert not torch.equal(found["a"], found["b"])
    assert torch.equal(found["c"], batch["c"])


def test_spec_augment_refuses_signals():
    """A signal has one row, which a mask over frequencies would take whole."""
    with pytest.raises(ValueError, match=r"needs spectrograms.*got signals \[3, 1, 64\]: put signals\.stft"):
        SpecAugment().transform_batch({"inputs": torch.ones(3, 1, 64)}, draws(3))


def test_patches_of_a_signal_keep_what_is_left_over():
    """A signal that is no whole number of patches keeps its end, and one shorter than a patch is refused."""
    batch = {"inputs": signals(4, 2, 70)}
    found = PatchAugment(patch_size=16, preset="heavy").transform_batch(batch, draws())["inputs"]
    moved = PatchAugment(patch_size=16, steps=["shift"]).transform_batch(batch, draws())["inputs"]

    assert torch.equal(found[..., 64:], batch["inputs"][..., 64:])
    assert not torch.equal(found[..., :64], batch["inputs"][..., :64])
    assert torch.equal(moved.sort(-1).values, batch["inputs"].sort(-1).values)
    with pytest.raises(ValueError, match="longer than the signals"):
        PatchAugment(patch_size=71).transform_batch(batch, draws())


@pytest.mark.parametrize("loss", ["cross_entropy", "focal", "label_smoothing"])
@pytest.mark.parametrize("transform", ["signals.mixup", "signals.cutmix"])
def test_soft_labels_reach_the_loss_of_a_run(loss, transform, tmp_path):
    """A run with mixing trains with every loss that takes soft labels, and validates on whole ones."""
    table = {
        "run": {"name": "mixed"},
        "data": {"type": "signals.simulated_rolling", "recordings": 4, "seconds": 0.3, "split": {"test": 0}},
        "transforms": {"mix": {"type": transform}},
        "model": {"type": "mlp", "hidden_dims": [4]},
        "loss": {"type": loss},
        "optimizer": {"type": "adamw"},
        "metrics": {"accuracy": {"type": "accuracy"}},
        "training": {"max_epochs": 1},
        "report": {"enabled": False},
        "logging": {"console": False},
        "paths": {"output": str(tmp_path)},
    }
    outcome = run(Config.from_dict(table).build())

    assert outcome.status == "completed"
    assert 0 <= outcome.metrics["val_accuracy"] <= 1


def test_mixing_needs_one_tensor():
    """A dict of inputs is refused, as is a transform that does not know the number of classes."""
    with pytest.raises(ValueError, match="one floating-point tensor"):
        Mixup().transform_batch({"inputs": {"a": torch.zeros(2, 3)}, "targets": torch.zeros(2)}, draws(2))
    with pytest.raises(ValueError, match="set num_classes"):
        CutMix().transform_batch({"inputs": torch.zeros(2, 1, 3), "targets": torch.zeros(2).long()}, draws(2))
