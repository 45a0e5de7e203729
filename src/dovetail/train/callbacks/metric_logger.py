"""Write metrics to a file of the user's choice."""

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
    """Writes the metrics of epochs as JSON lines: ``{"epoch": 3, "step": 120, "train_loss": 0.2, …}``.

    Every run keeps ``metrics.jsonl`` in its folder anyway; this is for a second file where something else expects one.

    Args:
        log_file: the file, appended to; the folders above it are made. A relative path is inside the run's folder,
            where a resumed run cuts off what it writes again.
        log_interval: write every so many epochs.
    """

    def __init__(self, log_file: Path, log_interval: Annotated[int, AtLeast(1)] = 1) -> None:
        self.log_interval = log_interval
        self._file = LineFile(Path(log_file))

    def dovetail_run_start(self, run: Run) -> None:
        """Find the file, and fail now rather than after an epoch if it cannot be written."""
        self._file.open(run.store.path)

    def dovetail_epoch_end(self, run: Run, epoch: int, metrics: Mapping[str, float]) -> None:
        """Append a line."""
        if epoch % self.log_interval == 0:
            line: dict[str, Any] = {"epoch": epoch, "step": run.state.step, **jsonable(metrics)}
            self._file.append(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return self._file.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self._file.load_state_dict(state)
