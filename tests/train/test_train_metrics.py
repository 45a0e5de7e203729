"""Metrics of training batches."""

from __future__ import annotations

from typing import Any

import torch

from dovetail.losses.result import LossResult
from dovetail.main import run
from dovetail.train.trainer import StandardTrainer
from small_runs import of_kind, small


def test_training_batches_are_measured(tmp_path):
    """Each log has the figures of the epoch so far, the end of an epoch those of all its batches."""
    seen: list[float] = []

    class Noting(StandardTrainer):
        def compute_loss(self, run: Any, batch: Any) -> LossResult:
            with torch.no_grad():
                right = run.parts.model(batch["inputs"]).argmax(1) == batch["targets"]
            seen.extend(right.tolist())
            return super().compute_loss(run, batch)

    outcome = run(
        small(
            tmp_path,
            trainer=Noting(),
            training={"train_metrics": True, "accumulate": 2},
            metrics={"own": CountsBatches()},
            logging={"every": 2},
        )
    ).check()
    logged = [line["metrics"]["train_accuracy"] for line in of_kind(tmp_path, "train")]

    assert outcome.metrics["train_accuracy"] == sum(seen[100:]) / 100
    assert outcome.metrics["train_batches"] == 7.0
    assert outcome.metrics["val_batches"] == 2.0
    assert logged == [
        sum(seen[start:end]) / (end - start) for start, end in [(0, 64), (0, 100), (100, 164), (100, 200)]
    ]


class CountsBatches:
    """A metric that is an object from Python, so that training batches need a copy."""

    def __init__(self) -> None:
        self.reset()

    def update(self, outputs: Any, batch: Any) -> None:
        """Count the batch."""
        assert not outputs.logits.requires_grad
        self.count += 1

    def compute(self) -> dict[str, float]:
        """Return the number."""
        return {"batches": float(self.count)}

    def reset(self) -> None:
        """Start again."""
        self.count = 0
