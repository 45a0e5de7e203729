"""The second copy of a run's checkpoints: queued when one is committed, completed at the end of the run."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from dovetail.checkpoint.copier import Copier, NotCopied

if TYPE_CHECKING:
    from dovetail.checkpoint.listing import Checkpoint
    from dovetail.spec import Storage
    from dovetail.train.context import Run
    from dovetail.train.state import Outcome

_logger: Final = logging.getLogger("dovetail.train")


class CheckpointCopier:
    """Copies each committed checkpoint to ``<run name>/<run id>/<checkpoint>/`` of a store.

    Training never waits for it. If the store fails, the copy is lost and the run continues with an alert.
    """

    def __init__(self, storage: Storage, patience: float) -> None:
        """Copy to ``storage``; at its end the run waits at most ``patience`` seconds for pending copies."""
        self._storage, self._patience = storage, patience
        self._copier: Copier | None = None

    def dovetail_run_start(self, run: Run) -> None:
        """In a resumed run, queue the copies that the process before did not complete."""
        if run.resumed is not None:
            for checkpoint in run.checkpoints.list():
                self._add(run, checkpoint)

    def dovetail_checkpoint_saved(self, run: Run, checkpoint: Checkpoint) -> None:
        """Queue a checkpoint."""
        self._alert(run, self._add(run, checkpoint).failed())

    def _add(self, run: Run, checkpoint: Checkpoint) -> Copier:
        if self._copier is None:
            prefix = f"{run.config.run.name}/{run.store.id}"
            self._copier = Copier(self._storage, prefix, run.checkpoints.retention)
        self._copier.add(checkpoint.path)
        return self._copier

    def dovetail_epoch_end(self, run: Run) -> None:
        """Report copies that failed meanwhile."""
        if self._copier is not None:
            self._alert(run, self._copier.failed())

    def dovetail_run_end(self, run: Run, outcome: Outcome) -> None:
        """Wait for pending copies, but only briefly if the run was interrupted, before or meanwhile."""
        if self._copier is not None:
            patience, limit = self._patience, run.config.budget.wall_clock_seconds
            if limit is not None:
                patience = min(patience, max(run.watch.started + limit - time.monotonic(), 0.0))
            self._alert(run, self._copier.close(patience, lambda: outcome.status == "interrupted" or run.interrupted))

    def _alert(self, run: Run, failures: Iterable[NotCopied]) -> None:
        for failure in failures:
            message = f"checkpoint.copy_to: {failure.name} was not copied: {failure.reason}"
            _logger.warning(message)
            run.alert("checkpoint_copy", message)
