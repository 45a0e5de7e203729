"""The augmentations as transforms."""

from __future__ import annotations

import pytest
import torch

from dovetail import Config
from dovetail.main import run
from dovetail.random import Draws
from dovetail_signals.augment.transforms import CutMix, Mixup, PatchAugment, SpecAugment


def draws(count=4, seed=0):
    """Return the draws of a batch."""
    return Draws(seed, 1, torch.arange(count), "test")


def signals(count=4, channels=2, length=50, seed=0):
    """Return a batch of noise."""
    return torch.randn(count, channels, length, generator=torch.Generator().manual_seed(seed))


def test_spec_augment_masks_every_spectrogram_of_a_dict():
    """Each gets its own masks; a spectrum without time does not change."""
    batch = {"a": torch.ones(3, 1, 20, 30), "b": torch.ones(3, 1, 20, 30), "c": torch.ones(3, 1, 20)}
    found = SpecAugment(time_mask_param=10, freq_mask_param=8).transform_batch({"inputs": batch}, draws(3))["inputs"]

    assert (found["a"] == 0).any()
    assert not torch.equal(found["a"], found["b"])
    assert torch.equal(found["c"], batch["c"])


def test_spec_augment_of_signals_raises():
    """A signal has a single row, which a frequency mask would cover completely."""
    with pytest.raises(ValueError, match=r"needs spectrograms.*got signals \[3, 1, 64\]: put signals\.stft"):
        SpecAugment().transform_batch({"inputs": torch.ones(3, 1, 64)}, draws(3))


def test_the_remainder_after_patches_does_not_change():
    """If patches do not fill a signal, its end is kept; a signal shorter than a patch raises."""
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
    """With mixing, a run trains with every loss that takes soft labels and validates on unmixed samples."""
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
    """A dict of inputs raises, as does a transform without the number of classes."""
    with pytest.raises(ValueError, match="one floating-point tensor"):
        Mixup().transform_batch({"inputs": {"a": torch.zeros(2, 3)}, "targets": torch.zeros(2)}, draws(2))
    with pytest.raises(ValueError, match="set num_classes"):
        CutMix().transform_batch({"inputs": torch.zeros(2, 1, 3), "targets": torch.zeros(2).long()}, draws(2))
