"""Metrics as JSON lines, in a file that the user chooses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from dovetail.record.json_lines import LineFile, jsonable
from dovetail.spec import AtLeast

if TYPE_CHECKING:
    from dovetail.train.context import Run


class MetricLogger:
    """Writes the metrics of each epoch as a JSON line: ``{"epoch": 3, "step": 120, "train_loss": 0.2, …}``.

    Every run writes ``metrics.jsonl`` in its folder; use this for a second file that another tool reads.

    Args:
        log_file: the file to append to; missing folders are created. A relative path is inside the run's folder; a
            resumed run first removes the lines that it will write again.
        log_interval: write after every so many epochs.
    """

    def __init__(self, log_file: Path, log_interval: Annotated[int, AtLeast(1)] = 1) -> None:
        self.log_interval = log_interval
        self._file = LineFile(Path(log_file))

    def dovetail_run_start(self, run: Run) -> None:
        """Open the file, so that a path that cannot be written fails before training."""
        self._file.open(run.store.path)

    def dovetail_epoch_end(self, run: Run, epoch: int, metrics: Mapping[str, float]) -> None:
        """Append a line."""
        if epoch % self.log_interval == 0:
            line: dict[str, Any] = {"epoch": epoch, "step": run.state.step, **jsonable(metrics)}
            self._file.append(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")

    def state_dict(self) -> dict[str, Any]:
        """Return the length of the file."""
        return self._file.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Remove the lines written after the saved state."""
        self._file.load_state_dict(state)
