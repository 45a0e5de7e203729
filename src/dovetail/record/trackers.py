"""Trackers, which record a run in other places besides its own folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from dovetail.record.json_lines import LineFile, event_line
from dovetail.spec import AtLeast

if TYPE_CHECKING:
    from dovetail.record.experiments import ExperimentDB
    from dovetail.train.context import Run
    from dovetail.train.state import Outcome


class JSONLTracker:
    """Appends metrics to a file, in the format of ``metrics.jsonl``.

    Every run writes ``metrics.jsonl`` in its folder anyway; use this tracker for a second file, elsewhere or at another
    cadence.

    Args:
        path: the file; missing folders above it are created. A relative path is inside the run's folder, where a
            resumed run cuts off the lines it is going to write again.

    Raises:
        OSError: the file cannot be written, at the run's start or later.
    """

    def __init__(self, path: Path = Path("tracked.jsonl")) -> None:
        self._file = LineFile(path)

    def dovetail_run_start(self, run: Run) -> None:
        """Create the file."""
        self._file.open(run.store.path)

    def dovetail_log(self, event: str, metrics: Mapping[str, float], epoch: int, step: int, time: float) -> None:
        """Append a line."""
        self._file.append(event_line(event, epoch=epoch, step=step, time=time, metrics=metrics))

    def state_dict(self) -> dict[str, Any]:
        """Return the number of bytes written."""
        return self._file.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the number of bytes written."""
        self._file.load_state_dict(state)


class SQLiteTracker:
    """Writes the run, its metrics and how it ended to an :class:`~dovetail.record.experiments.ExperimentDB`.

    Args:
        path: the file; a relative path is inside ``paths.output``, so all runs there write to one file.
        timeout: seconds to wait for another process that writes to the file.

    Raises:
        DatabaseError: the file cannot be used, at the run's start or later.
    """

    def __init__(self, path: Path = Path("experiments.db"), timeout: Annotated[float, AtLeast(0)] = 10.0) -> None:
        self.path, self.timeout = path, timeout
        self._db: ExperimentDB | None = None
        self._run_id = 0
        #: How many values of the run are in the file.
        self._values = 0

    def dovetail_run_start(self, run: Run) -> None:
        """Open the file, and add the run or rewind it to its checkpoint."""
        from dovetail.record.experiments import ExperimentDB

        config = run.config
        self._db = ExperimentDB(config.paths.output / self.path, timeout=self.timeout)
        self._run_id = self._db.log_run(config.run.name, config.to_dict(), config.run.notes, folder=run.store.path)
        self._db.rewind(self._run_id, self._values)

    def dovetail_log(self, event: str, metrics: Mapping[str, float], epoch: int, step: int) -> None:
        """Add metrics; those of a validation once, at the step of the validation."""
        if event == "epoch":  # repeats the metrics of its last validation
            metrics = {name: value for name, value in metrics.items() if not name.startswith("val_")}
        if self._db is not None:
            self._db.log_metrics(self._run_id, metrics, epoch=epoch, step=step)
            self._values += len(metrics)

    def state_dict(self) -> dict[str, Any]:
        """Return the number of values written."""
        return {"figures": self._values}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the number of values written."""
        self._values = state["figures"]

    def dovetail_run_end(self, outcome: Outcome) -> None:
        """Record how the run ended, and close the file."""
        if self._db is not None:
            with self._db:
                self._db.finish_run(self._run_id, outcome.status, outcome.reason)
            self._db = None
