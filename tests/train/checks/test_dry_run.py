"""Checking a run without training it."""

from __future__ import annotations

import pytest

from dovetail.config.diagnostics import ConfigError
from dovetail.losses.result import LossResult
from dovetail.train.checks.dry_run import check
from dovetail.train.errors import NoBatchesError
from dovetail.train.trainer import StandardTrainer
from small_runs import small


class Detached:
    """A loss whose total depends on the outputs, but not through autograd."""

    def __call__(self, outputs, batch) -> LossResult:
        """Return the loss."""
        wrong = (outputs.logits.argmax(1) != batch["targets"]).float().mean()
        return LossResult(wrong.requires_grad_(), {}, len(batch["targets"]))


def test_a_dry_run_finds_a_loss_that_trains_nothing_and_missing_batches(tmp_path):
    """Both raise before anything is trained."""

    class Empty(StandardTrainer):
        def batches(self, run):
            return []

    with pytest.raises(ConfigError, match="loss: no gradient of 'Detached' reaches the model"):
        check(small(tmp_path, loss=Detached()))
    with pytest.raises(NoBatchesError, match=r"epoch 1 had no batches: the trainer's batches\(\) yielded none"):
        check(small(tmp_path, trainer=Empty()))


def test_a_dry_run_calls_no_callbacks(tmp_path):
    """A trainer may prepare in ``dovetail_run_start``; callbacks and trackers are for real runs."""
    called = []

    class Prepares(StandardTrainer):
        def dovetail_run_start(self, run):
            self.scale = 0.5

        def compute_loss(self, run, batch):
            result = super().compute_loss(run, batch)
            return result._replace(total=self.scale * result.total)

    class Listens:
        def dovetail_run_start(self, run):
            called.append(run)

        def dovetail_batch_end(self, run, step):
            called.append(step)

    found = check(small(tmp_path, trainer=Prepares(), callbacks={"listens": Listens()}))

    assert found.loss > 0
    assert called == []
