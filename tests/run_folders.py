"""Folders of finished runs, for tests of what reads them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

RESOLVED = """\
[run]
name = "digits"
seed = 42

[model]
type = "mlp"
hidden_dims = [64, 64]

[training]
max_epochs = 4

[trackers.board]
key = { env = "BOARD_KEY" }
"""

EPOCHS, STEPS = 4, 10


def events() -> list[dict[str, Any]]:
    """Return the events of a short run with decreasing losses."""
    found = []
    for epoch in range(1, EPOCHS + 1):
        for step in range((epoch - 1) * STEPS + 5, epoch * STEPS + 1, 5):
            metrics = {"train_loss": 2.0 * math.exp(-step / 8), "lr": 1e-3, "samples_per_second": 1000.0}
            found.append({"event": "train", "epoch": epoch, "step": step, "time": step / 10, "metrics": metrics})
        metrics = {"val_loss": 2.1 * math.exp(-epoch), "val_accuracy": 0.9 + epoch / 100}
        found.append({"event": "validation", "epoch": epoch, "step": step, "time": step / 10, "metrics": metrics})
    return found


def record(run_id: str, **changes: Any) -> dict[str, Any]:
    """Return the content of ``run.json`` after a completed run, with changes."""
    return {
        "id": run_id,
        "name": "digits",
        "status": "completed",
        "reason": "",
        "stopped_by": None,
        "started": f"{run_id[:10]}T{run_id[11:19].replace('-', ':')}Z",
        "duration_s": 34.2,
        "config_hash": "9f" * 32,
        "seed": 42,
        "device": "cpu",
        "precision": "fp32",
        "parameters": 27_210,
        "versions": {"python": "3.11.2", "dovetail": "0.1.0", "torch": "2.13.0", "plugins": {"yourco": "1.0"}},
        "git": {"commit": "0123abc", "dirty": True},
        "data": {
            "fingerprint": "aa",
            "sizes": {"train": 1078, "validation": 359, "test": 360},
            "num_classes": 3,
            "class_names": ["cat", "dog", "eel"],
        },
        "command": ["dovetail", "run", "digits.toml", "training.max_epochs=4"],
        "origins": {"run.name": "digits.toml:2:8", "training.max_epochs": "command line, argument 1"},
        "best": {"epoch": 4, "step": 40, "metric": "val_loss", "value": 0.0385, "checkpoint": "step-00000040"},
        "metrics": {"train_loss": 0.041, "val_loss": 0.0385, "val_accuracy": 0.94},
        "test": {"loss": 0.05, "accuracy": 0.9806, "confusion_matrix": [[118, 2, 0], [0, 119, 1], [3, 1, 116]]},
        **changes,
    }


def write_run(output: Path, run_id: str = "2026-11-20T15-36-00-3f9c1a", **changes: Any) -> Path:
    """Write a run folder under ``output`` and return it."""
    data = record(run_id, **changes)
    folder = output / data["name"] / run_id
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(data), encoding="utf-8")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events()), encoding="utf-8")
    (folder / "resolved.toml").write_text(RESOLVED, encoding="utf-8")
    return folder
