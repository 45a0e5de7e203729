"""Loss and its parts over an epoch."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dovetail.losses.result import LossResult
from dovetail.main import run
from dovetail.models.output import ModelOutput
from dovetail.train.loss_log import LossLog
from dovetail.train.trainer import StandardTrainer
from small_runs import small


def test_the_training_loss_is_the_mean_over_samples(tmp_path):
    """A ragged last batch has its own weight: the epoch's loss is Σ loss·samples / Σ samples."""
    losses: list[tuple[float, int]] = []

    class Noting(StandardTrainer):
        def compute_loss(self, run: Any, batch: Any) -> LossResult:
            result = super().compute_loss(run, batch)
            losses.append((result.total.item(), len(batch["targets"])))
            return result

    outcome = run(small(tmp_path, trainer=Noting(), training={"max_epochs": 1})).check()

    expected = sum(loss * size for loss, size in losses) / 100
    assert outcome.metrics["train_loss"] == pytest.approx(expected, rel=1e-12)


def test_parts_of_a_loss_may_come_and_go(tmp_path):
    """Each part is averaged over the batches that have it."""
    count = 0

    def loss(outputs: ModelOutput, batch: Any) -> LossResult:
        nonlocal count
        count += 1
        total = nn.functional.cross_entropy(outputs.logits, batch["targets"])
        parts = {"data": total * 0 + 2, **({"rare": total * 0 + count} if count in {3, 5} else {})}
        return LossResult(total, parts, float(len(batch["targets"])))

    outcome = run(small(tmp_path, loss=loss, training={"max_epochs": 1})).check()

    assert outcome.metrics["train_data"] == outcome.metrics["val_data"] == 2.0
    assert outcome.metrics["train_rare"] == 4.0


@given(
    losses=st.lists(st.tuples(st.floats(-1e3, 1e3, width=32), st.integers(0, 50)), max_size=40),
    read_after=st.sets(st.integers(0, 39)),
)
def test_sums_do_not_depend_on_when_the_log_is_read(losses, read_after):
    """Reading early, late, or once it is full gives the same bits."""
    short, other = LossLog(torch.device("cpu"), length=7), LossLog(torch.device("cpu"))
    for place, (loss, weight) in enumerate(losses):
        result = LossResult(torch.tensor(loss), {"part": torch.tensor(loss * 2)}, torch.tensor(float(weight)))
        short.add(result, weight)
        other.add(result, weight)
        if place in read_after:
            short.read()
    total = sum(weight for _, weight in losses)
    expected = sum(loss * weight for loss, weight in losses) / total if total else math.nan

    assert short.end_epoch() == other.end_epoch()
    assert short.start_interval().means("x")["x_loss"] == pytest.approx(expected, nan_ok=True)
    assert short.epoch.means("x")["x_loss"] != short.epoch.means("x")["x_loss"]  # NaN: no batch since


def test_a_log_continues_from_its_state():
    """A checkpoint inside an epoch holds the sums of the epoch so far."""
    tape, fresh = LossLog(torch.device("cpu")), LossLog(torch.device("cpu"))
    tape.add(LossResult(torch.tensor(2.0), {"p": torch.tensor(1.0)}, 3.0), 3)
    tape.add_norm(torch.tensor(5.0))
    fresh.load_state_dict(tape.state_dict())
    for log in (tape, fresh):
        log.add(LossResult(torch.tensor(4.0), {}, 1.0), 1)

    assert fresh.end_epoch() == tape.end_epoch()
    assert fresh.start_interval().means("train") == {"train_loss": 2.5, "train_p": 1.0}
