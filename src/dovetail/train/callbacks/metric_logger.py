"""Write metrics to a file of the user's choice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from dovetail.kernel.kinds import AtLeast
from dovetail.track.run_directory import jsonable

if TYPE_CHECKING:
    from dovetail.train.context import Run


class MetricLogger:
    """Writes the metrics of epochs as JSON lines: ``{"epoch": 3, "step": 120, "train_loss": 0.2, …}``.

    Every run keeps ``metrics.jsonl`` in its folder anyway; this is for a second file where something else expects one.

    Args:
        log_file: the file, appended to; the folders above it are made. A relative path is inside the run's folder.
        log_interval: write every so many epochs.
    """

    def __init__(self, log_file: Path, log_interval: Annotated[int, AtLeast(1)] = 1) -> None:
        self.log_file, self.log_interval = Path(log_file), log_interval

    def dovetail_run_start(self, run: Run) -> None:
        """Find the file, and fail now rather than after an epoch if it cannot be written."""
        self.log_file = run.store.path / self.log_file
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        self.log_file.touch()

    def dovetail_epoch_end(self, run: Run, epoch: int, metrics: Mapping[str, float]) -> None:
        """Append a line."""
        if epoch % self.log_interval == 0:
            line: dict[str, Any] = {"epoch": epoch, "step": run.state.step, **jsonable(metrics)}
            with self.log_file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
