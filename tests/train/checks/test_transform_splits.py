"""Which splits a transform applies to, and the alert where validation sees other inputs than training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dovetail import check, run
from small_runs import only_run, small

ALL = ["train", "validation", "test"]


class Flip:
    """Reverse the features: no augmentation, but it does not say so."""

    def __call__(self, sample: Any) -> Any:
        """Return the sample with its features in reverse order."""
        return (sample[0].flip(0), sample[1])


class SaidFlip(Flip):
    """The same, which says so."""

    deterministic = True


class FlipBatch:
    """The same for whole batches."""

    def transform_batch(self, batch: Any, draws: Any) -> Any:
        """Return the batch with its features in reverse order."""
        return {**batch, "inputs": batch["inputs"].flip(1)}


class Noise:
    """An augmentation that acts on some samples only."""

    def __call__(self, sample: Any) -> Any:
        """Return the sample, sometimes with noise."""
        return (sample[0] + 0.1 * torch.randn(4) if torch.rand(()) < 0.5 else sample[0], sample[1])


def accuracy(output: Path, transform: Any) -> float:
    """Return the validation accuracy of a run with a transform."""
    training = {"max_epochs": 8, "test": False}
    outcome = run(small(output, transforms={"own": transform}, training=training)).check()
    return float(outcome.metrics["val_accuracy"])


@pytest.mark.parametrize("transform", [SaidFlip(), {"type": Flip(), "splits": ALL}])
def test_a_deterministic_transform_applies_to_every_split(tmp_path: Path, transform: Any) -> None:
    """The model sees in validation what it saw in training, and nothing is suspect."""
    assert accuracy(tmp_path, transform) > 0.9
    assert not (only_run(tmp_path) / "alerts.jsonl").exists()


@pytest.mark.parametrize("transform", [Flip(), FlipBatch(), {"type": SaidFlip(), "splits": ["train"]}])
def test_a_preprocessing_for_training_only_raises_an_alert(tmp_path: Path, transform: Any) -> None:
    """Before the first step, also in a dry run; the advice helps."""
    found = check(small(tmp_path / "dry", transforms={"noise": Noise(), "own": transform}))
    accuracy(tmp_path / "run", transform)
    (alert,) = map(json.loads, (only_run(tmp_path / "run") / "alerts.jsonl").read_text().splitlines())
    own = transform["type"] if isinstance(transform, dict) else transform

    assert found.alerts == (alert["message"],)
    assert (alert["type"], alert["step"]) == ("training_only_transform", 0)
    assert alert["message"].startswith("transforms.own changes each sample in the same way every time")
    assert check(small(tmp_path / "advice", transforms={"own": {"type": own, "splits": ALL}})).alerts == ()


@pytest.mark.parametrize("transform", [Noise(), {"type": Flip(), "splits": ["train"]}])
def test_an_augmentation_raises_none(tmp_path: Path, transform: Any) -> None:
    """Neither one that draws random numbers, nor one whose splits the run file names."""
    assert check(small(tmp_path, transforms={"own": transform})).alerts == ()


def test_the_trial_changes_nothing(tmp_path: Path) -> None:
    """Training continues with the same random numbers."""
    weights = [
        run(small(tmp_path / str(number), transforms={"own": transform}, training={"test": False})).check().metrics
        for number, transform in enumerate([Noise(), {"type": Noise(), "splits": ["train"]}])
    ]

    assert weights[0]["train_loss"] == weights[1]["train_loss"]
