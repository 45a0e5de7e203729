"""What the console reads of a run, as plain objects."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import torch


def a_run(folder: Path, **state: object) -> SimpleNamespace:
    """Return an object with what the console reads of a run: counters, plan, settings and folder."""
    counters = {"epoch": 1, "step": 0, "samples_seen": 0, "best_metric": None, "best_epoch": None, "best_step": None}
    return SimpleNamespace(
        state=SimpleNamespace(**{**counters, **state}),
        plan=SimpleNamespace(max_epochs=3, steps_per_epoch=10, total_steps=30),
        config=SimpleNamespace(
            run=SimpleNamespace(name="digits"),
            training=SimpleNamespace(precision="fp32"),
            checkpoint=SimpleNamespace(monitor="val_loss"),
        ),
        parts=SimpleNamespace(model=torch.nn.Linear(1234, 1, bias=False)),
        store=SimpleNamespace(path=folder, logs=folder),
        device="cpu",
        elapsed=lambda: 1.5,
    )


def an_outcome(**changes: object) -> SimpleNamespace:
    """Return an object with what the console reads of an outcome."""
    usual = {"status": "completed", "reason": "", "best_metric": 0.5, "best_epoch": 2, "total_time": 65.0}
    tested = {"test_loss": 0.4, "test_accuracy": 0.97}
    return SimpleNamespace(**{**usual, "error": None, "test_metrics": tested, **changes})
