"""Augmentation of patches."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dovetail.random import Draws
from dovetail_signals.augment import patches as augment


def draws(count, seed=0):
    """Return the draws of a batch."""
    return Draws(seed, 1, torch.arange(count), "test")


def tokens(count=3, patches=12, width=4):
    """Return patches whose values are their numbers."""
    return torch.arange(1.0, patches + 1).reshape(1, -1, 1).expand(count, patches, width).contiguous()


def test_dropout_has_its_probability():
    """Whole patches become 0, a tenth of them, and none outside training."""
    found = augment.patch_dropout(tokens(2000), 0.1, draws=draws(2000))
    dropped = (found == 0).all(-1)

    assert torch.equal((found == 0).any(-1), dropped)
    assert float(dropped.float().mean()) == pytest.approx(0.1, abs=0.01)
    assert augment.patch_dropout(tokens(), 0.9, training=False).min() == 1


@given(st.integers(1, 12), st.integers(0, 15), st.integers(0, 50))
def test_a_shift_moves_patches(count, most, seed):
    """A circular shift keeps every patch; otherwise patches leave and zeros enter."""
    batch = tokens(2, count)
    around = augment.temporal_shift_patches(batch, most, draws=draws(2, seed))
    out = augment.temporal_shift_patches(batch, most, circular=False, draws=draws(2, seed))

    for row in range(2):
        assert any(torch.equal(batch[row].roll(shift, 0), around[row]) for shift in range(count))
    kept = out != 0
    assert torch.equal(out[kept], around[kept])
    assert int((~kept[..., 0]).sum(1).max()) <= most


@given(st.integers(1, 20), st.integers(0, 4), st.integers(1, 6), st.integers(0, 50))
def test_cutout_makes_holes(count, holes, size, seed):
    """No more patches become 0 than the holes cover, and at least one whole hole is there."""
    found = augment.patch_cutout(tokens(2, count), holes, size, draws=draws(2, seed))
    missing = (found[..., 0] == 0).sum(1)

    assert (missing <= holes * min(size, count)).all()
    assert (missing >= (min(size, count) if holes else 0)).all()


@given(st.integers(1, 20), st.floats(0, 1), st.integers(0, 50))
def test_permutation_keeps_every_patch(count, probability, seed):
    """The patches are a permutation; with probability 0 their order does not change."""
    batch = tokens(2, count)
    found = augment.patch_permutation(batch, probability, draws=draws(2, seed))

    assert torch.equal(found.sort(1).values, batch)
    assert probability > 0 or torch.equal(found, batch)


def test_permutation_has_its_probability():
    """Of 40 patches with probability 1/2, about 20 take part, and nearly all of these move."""
    batch = tokens(500, 40)
    moved = (augment.patch_permutation(batch, 0.5, draws=draws(500)) != batch)[..., 0].float().sum(1)

    assert float(moved.mean()) == pytest.approx(19, abs=0.5)


def test_jitter_and_mixup():
    """Noise has the given deviation; patches and labels are mixed with the same weight."""
    batch = tokens(500)
    noise = augment.patch_jitter(batch, 0.2, draws=draws(500)) - batch
    mixed, labels = augment.patch_mixup(
        torch.zeros(9, 5, 2),
        torch.ones(9, 5, 2),
        torch.zeros(9).long(),
        torch.ones(9).long(),
        num_classes=2,
        draws=draws(9),
    )

    assert float(noise.std()) == pytest.approx(0.2, rel=0.03)
    torch.testing.assert_close(mixed.mean((1, 2)), labels[:, 1])


@pytest.mark.parametrize(
    "pipeline", [augment.get_light_augmentation, augment.get_medium_augmentation, augment.get_heavy_augmentation]
)
def test_pipelines_draw_by_address(pipeline):
    """A sample alone equals itself in its batch; a single sample without an address keeps its shape."""
    batch = torch.randn(4, 20, 8, generator=torch.Generator().manual_seed(0))
    together = pipeline()(batch, draws=draws(4))
    alone = pipeline()(batch[3:], draws=Draws(0, 1, torch.tensor([3]), "test"))

    torch.testing.assert_close(together[3:], alone)
    assert not torch.equal(together, batch)
    assert pipeline()(batch[0]).shape == (20, 8)


def test_heavier_pipelines_change_more():
    """The change increases from light to heavy."""
    batch = torch.randn(300, 30, 8, generator=torch.Generator().manual_seed(0))
    kept = [
        float((pipeline()(batch, draws=draws(300)) - batch).abs().lt(0.2).float().mean())
        for pipeline in (
            augment.get_light_augmentation,
            augment.get_medium_augmentation,
            augment.get_heavy_augmentation,
        )
    ]

    assert kept == sorted(kept, reverse=True)
    assert torch.equal(
        augment.PatchAugmentation(use_dropout=False, use_shift=False, use_cutout=False, use_jitter=False)(batch), batch
    )
