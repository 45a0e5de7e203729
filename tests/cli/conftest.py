"""Fixtures for tests of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

RUN_FILE = """\
[run]
name = "small"

[data]
type = "csv"
path = "points.csv"
target = "side"
split = { train = 0.6, validation = 0.2, test = 0.2 }

[model]
type = "mlp"
hidden_dims = [8]

[loss]
type = "cross_entropy"

[metrics.accuracy]
type = "accuracy"

[metrics.confusion]
type = "confusion_matrix"

[training]
max_epochs = 3

[hardware]
threads = 1
"""


@pytest.fixture
def small(tmp_path, monkeypatch) -> Path:
    """Return a run file that trains on a table of sixty points, in the current folder."""
    monkeypatch.chdir(tmp_path)
    rows = [f"{x},{60 - x},{'right' if x > 30 else 'left'}" for x in range(60)]
    Path("points.csv").write_text("x,y,side\n" + "\n".join(rows) + "\n", encoding="utf-8")
    Path("small.toml").write_text(RUN_FILE, encoding="utf-8")
    return Path("small.toml")
