"""The PINN trainer, in whole runs."""

from __future__ import annotations

import json

from dovetail.main import run
from signals_runs import heat_config, run_folder


def test_a_run_logs_every_part_and_repeats(tmp_path):
    """Every part of the loss is logged, the error is measured on the grid, and a second run is identical."""
    first, second = (run(heat_config(tmp_path / name)) for name in "ab")
    epoch = json.loads((run_folder(tmp_path / "a") / "metrics.jsonl").read_text().splitlines()[0])["metrics"]

    assert first.status == "completed"
    assert {"train_residual", "train_initial", "train_boundary"} <= set(epoch)
    assert 0 < first.test_metrics["test_relative_l2"] < 1
    assert first.test_metrics == second.test_metrics


def test_a_compiled_network_raises(tmp_path):
    """Before the first update; the error says what to do."""
    outcome = run(heat_config(tmp_path, {"hardware": {"device": "cpu", "compile": True}}))

    assert outcome.status == "failed"
    assert "set it to false" in outcome.reason
