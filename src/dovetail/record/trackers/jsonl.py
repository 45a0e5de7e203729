"""Record a run's figures in a file of JSON lines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dovetail.record.line_file import LineFile
from dovetail.record.run_directory import event_line

if TYPE_CHECKING:
    from dovetail.train.context import Run


class JSONLTracker:
    """Appends figures to a file, in the lines of ``metrics.jsonl``.

    Every run keeps ``metrics.jsonl`` in its folder anyway; this is for a second file, elsewhere or at another cadence.

    Args:
        path: the file; the folders above it are made. A relative path is inside the run's folder, where a resumed run
            cuts off what it writes again.

    Raises:
        OSError: at the run's start or while it goes on: the file cannot be written.
    """

    def __init__(self, path: Path = Path("tracked.jsonl")) -> None:
        self._file = LineFile(path)

    def dovetail_run_start(self, run: Run) -> None:
        """Find the file."""
        self._file.open(run.store.path)

    def dovetail_log(self, event: str, metrics: Mapping[str, float], epoch: int, step: int, time: float) -> None:
        """Append a line."""
        self._file.append(event_line(event, epoch=epoch, step=step, time=time, metrics=metrics))

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return self._file.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self._file.load_state_dict(state)
