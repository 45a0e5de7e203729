"""Fixtures: small runs in an empty folder, without anybody's settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from dovetail import Config
from dovetail.main import run

ROWS = "".join(f"{row % 5},{(row * 7) % 11},{row % 2}\n" for row in range(40))


class Alerts:
    """Collect the alerts of runs."""

    def __init__(self):
        self.seen = []

    def dovetail_alert(self, alert):
        """Collect an alert."""
        self.seen.append(alert)


@pytest.fixture(autouse=True)
def empty_home(tmp_path, monkeypatch):
    """Work in an empty folder, without settings or API keys of the user."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("WANDB_API_KEY", "WANDB_MODE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def alerts():
    """Return a collector of the alerts of the test's runs."""
    return Alerts()


@pytest.fixture
def train(tmp_path, alerts):
    """Return a function that trains with the given trackers, and returns the outcome and the run's folder."""

    def train_with(output="runs", **trackers):
        Path("rows.csv").write_text(f"first,second,label\n{ROWS}")
        config = Config.from_dict(
            {
                "run": {"name": "small", "experiment": "trial", "notes": "a note", "tags": ["one"]},
                "data": {
                    "type": "csv",
                    "path": "rows.csv",
                    "target": "label",
                    "split": {"train": 0.5, "validation": 0.25, "test": 0.25},
                },
                "model": {"type": "mlp", "hidden_dims": [4, 3]},
                "loss": {"type": "cross_entropy"},
                "optimizer": {"type": "adamw", "lr": 0.01},
                "loader": {"batch_size": 5},
                "training": {"max_epochs": 2, "validate_every": {"steps": 5}},
                "logging": {"every": 2, "console": False},
                "hardware": {"device": "cpu", "threads": 1},
                "report": {"enabled": False},
                "paths": {"output": str(tmp_path / output)},
                "trackers": trackers,
            }
        )
        outcome = run(config.build(), listeners=[alerts]).check()
        folders = [path for path in (tmp_path / output / "small").iterdir() if path.is_dir()]
        return outcome, max(folders, key=lambda path: path.stat().st_mtime_ns)

    return train_with


@pytest.fixture
def logged():
    """Return a function that reads a run's metrics.jsonl without repeats: name to [(step, value)]."""
    import json

    def read(folder):
        found = {}
        for line in (folder / "metrics.jsonl").read_text().splitlines():
            event = json.loads(line)
            for name, value in event["metrics"].items():
                again = event["event"] == "epoch" and name.startswith("val_")
                if isinstance(value, int | float) and not again:
                    found.setdefault(name, []).append((event["step"], value))
        return found

    return read
