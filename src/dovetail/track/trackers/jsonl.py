"""Record a run's figures in a file of JSON lines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dovetail.track.run_directory import event_line

if TYPE_CHECKING:
    from dovetail.train.context import Run


class JSONLTracker:
    """Appends figures to a file, in the lines of ``metrics.jsonl``.

    Every run keeps ``metrics.jsonl`` in its folder anyway; this is for a second file, elsewhere or at another cadence.

    Args:
        path: the file; the folders above it are made. A relative path is inside the run's folder.

    Raises:
        OSError: at the run's start or while it goes on: the file cannot be written.
    """

    def __init__(self, path: Path = Path("tracked.jsonl")) -> None:
        self.path = path

    def dovetail_run_start(self, run: Run) -> None:
        """Find the file."""
        self.path = run.store.path / self.path
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()

    def dovetail_log(self, run: Run, event: str, metrics: Mapping[str, float]) -> None:
        """Append a line."""
        line = event_line(event, epoch=run.state.epoch, step=run.state.step, time=run.elapsed(), metrics=metrics)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line)
