"""Precision: every one learns, and torch's settings are put back."""

from __future__ import annotations

import pytest
import torch

from dovetail.checkpoint.format import read_checkpoint
from dovetail.main import run
from small_runs import Keep, small


@pytest.mark.parametrize("precision", ["bf16", "fp16", "tf32"])
def test_every_precision_learns_and_leaves_nothing_behind(tmp_path, precision):
    """Autocast, the scaler and TF32 work with accumulation, clipping and a schedule, and end with the run."""
    keep = Keep()
    before = torch.backends.cuda.matmul.fp32_precision
    config = small(
        tmp_path,
        optimizer={"type": "adamw", "lr": 0.05},
        training={"max_epochs": 4, "precision": precision, "accumulate": 2},
        scheduler={"type": "warmup_cosine"},
        callbacks={"keep": keep},
    )
    outcome = run(config).check()

    assert outcome.test_metrics["test_accuracy"] > 0.9
    assert (keep.run.parts.scaler is not None) == (precision == "fp16")
    assert all(one.dtype == torch.float32 for one in keep.run.parts.model.parameters())
    assert torch.backends.cuda.matmul.fp32_precision == before
    assert not torch.is_autocast_enabled("cpu")


def test_the_scale_of_half_precision_is_part_of_a_checkpoint(tmp_path):
    """So is how many updates it has been there for."""
    keep = Keep()
    run(small(tmp_path, training={"precision": "fp16", "test": False}, callbacks={"keep": keep})).check()
    saved = read_checkpoint(keep.run.checkpoints.latest().path)["scaler"]

    assert saved == keep.run.parts.scaler.state_dict()
    assert saved["_growth_tracker"] > 0
