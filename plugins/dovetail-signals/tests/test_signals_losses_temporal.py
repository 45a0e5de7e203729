"""Temporal smoothness."""

from __future__ import annotations

import pytest
import torch

from dovetail import Config, ModelOutput
from dovetail.main import run
from dovetail_signals.losses.temporal import TemporalSmoothnessLoss


def scored(logits):
    """Return outputs with these logits."""
    return ModelOutput.from_raw(torch.as_tensor(logits, dtype=torch.float32))


def test_temporal_smoothness_reads_names_of_recordings():
    """It compares only windows of one recording, in the order of time; the weight is their number."""
    scores = scored([[9.0, -9.0], [-9.0, 9.0], [9.0, -9.0]])
    meta = {"recording": ["a", "b", "a"], "time": torch.tensor([0.5, 0.0, 0.0])}

    of_one = TemporalSmoothnessLoss()(scores, {})
    of_two = TemporalSmoothnessLoss()(scores, {"meta": meta})

    assert of_one.total.item() == pytest.approx(0.1 * 2.0, rel=1e-4)
    assert of_one.weight.item() == 2
    assert of_two.total.item() == pytest.approx(0.0)
    assert of_two.weight.item() == 1


@pytest.mark.parametrize("grouped", [True, False])
def test_temporal_smoothness_compares_windows_of_one_recording_in_a_run(tmp_path, grouped):
    """In a run with ``recording`` and ``time`` in meta; without them, the run raises an alert."""
    table = {
        "data": {
            "type": "signals.simulated_rolling",
            "recordings": 2,
            "seconds": 0.5,
            "window": 1000,
            "meta": ["recording", "time"] if grouped else ["rpm"],
            "split": {"validation": 0, "test": 0},
        },
        "model": {"type": "signals.cnn1d", "channels": [4]},
        "loss": {"type": "signals.temporal_smoothness", "time_step": 1 / 12},
        "loader": {"batch_size": 60},
        "training": {"max_epochs": 1},
        "checkpoint": {"monitor": "train_loss"},
        "hardware": {"device": "cpu", "threads": 1},
        "report": {"enabled": False},
        "logging": {"console": False},
        "paths": {"output": str(tmp_path)},
    }
    seen = []

    class Watch:
        """Collects the number of windows with a predecessor."""

        def dovetail_batch_start(self, run):
            """Ask the loss about the epoch's only batch."""
            batch = next(iter(run.parts.loaders.train.batches(1)))
            found = run.parts.loss.windows(torch.zeros(60, 5), batch)
            seen.append(int((found.neighbours[:, 0] >= 0).sum()))

    run(Config.from_dict(table).with_parts(callbacks={"watch": Watch()}).build()).check()
    alerts = "".join(path.read_text() for path in tmp_path.rglob("alerts.jsonl"))

    assert seen == [10 * 5 if grouped else 59]
    assert ("windows of different recordings are compared" in alerts) != grouped
