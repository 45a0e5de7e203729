"""The names of the files in a run's folder, and where a run keeps what lies outside of it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

RECORD: Final = "run.json"
METRICS: Final = "metrics.jsonl"
ALERTS: Final = "alerts.jsonl"
RESOLVED: Final = "resolved.toml"
LOG: Final = "log.txt"
REPORT: Final = "report.html"


def external_folder(root: Path | None, name: str, run_id: str) -> Path | None:
    """Return the run's folder below ``paths.models`` or ``paths.logs``; None where that path is not set."""
    return root and root / name / run_id
