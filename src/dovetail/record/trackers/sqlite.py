"""Record a run in the experiment database."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from dovetail.record.experiments import ExperimentDB
from dovetail.spec.limits import AtLeast

if TYPE_CHECKING:
    from dovetail.train.context import Run
    from dovetail.train.state import Outcome


class SQLiteTracker:
    """Writes the run, its figures and how it ended to an :class:`~dovetail.record.experiments.ExperimentDB`.

    Args:
        path: the file; a relative path is inside ``paths.output``, so that the runs there share it.
        timeout: seconds to wait for another process that writes to it.

    Raises:
        ExperimentDBError: at the run's start or while it goes on: the file cannot be used.
    """

    def __init__(self, path: Path = Path("experiments.db"), timeout: Annotated[float, AtLeast(0)] = 10.0) -> None:
        self.path, self.timeout = path, timeout
        self._db: ExperimentDB | None = None
        self._run_id = 0
        #: How many figures of the run are in the file.
        self._figures = 0

    def dovetail_run_start(self, run: Run) -> None:
        """Open the file and add the run, or take it up again where it is resumed."""
        config = run.config
        self._db = ExperimentDB(config.paths.output / self.path, timeout=self.timeout)
        self._run_id = self._db.log_run(config.run.name, config.to_dict(), config.run.notes, folder=run.store.path)
        self._db.rewind(self._run_id, self._figures)

    def dovetail_log(self, event: str, metrics: Mapping[str, float], epoch: int, step: int) -> None:
        """Add figures; those of a validation once, at the update at which it was."""
        if event == "epoch":  # which tells the figures of its last validation again
            metrics = {name: value for name, value in metrics.items() if not name.startswith("val_")}
        if self._db is not None:
            self._db.log_metrics(self._run_id, metrics, epoch=epoch, step=step)
            self._figures += len(metrics)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"figures": self._figures}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self._figures = state["figures"]

    def dovetail_run_end(self, outcome: Outcome) -> None:
        """Note the end and close the file."""
        if self._db is not None:
            with self._db:
                self._db.finish_run(self._run_id, outcome.status, outcome.reason)
            self._db = None
