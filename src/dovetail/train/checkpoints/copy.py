"""The second copy of a run's checkpoints: queued when they are saved, waited for at the end."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from dovetail.checkpoint.copier import Copier, NotCopied

if TYPE_CHECKING:
    from dovetail.checkpoint.listing import Checkpoint
    from dovetail.spec.protocols import Storage
    from dovetail.train.context import Run
    from dovetail.train.state import Outcome

_logger: Final = logging.getLogger("dovetail.train")


class CheckpointCopier:
    """Copies each checkpoint when it is committed, to ``<run name>/<run id>/<checkpoint>/`` of a store.

    Training never waits for it. A store that fails costs the copy and not the run: it is an alert.
    """

    def __init__(self, storage: Storage, patience: float) -> None:
        """Copy to ``storage``; the end of the run waits ``patience`` seconds for what is not done."""
        self._storage, self._patience = storage, patience
        self._copier: Copier | None = None

    def dovetail_run_start(self, run: Run) -> None:
        """Queue what the process before was not done with, where a run goes on."""
        if run.resumed is not None:
            for one in run.checkpoints.list():
                self._add(run, one)

    def dovetail_checkpoint_saved(self, run: Run, checkpoint: Checkpoint) -> None:
        """Queue a checkpoint."""
        self._tell(run, self._add(run, checkpoint).failed())

    def _add(self, run: Run, checkpoint: Checkpoint) -> Copier:
        if self._copier is None:
            prefix = f"{run.config.run.name}/{run.store.id}"
            self._copier = Copier(self._storage, prefix, run.checkpoints.retention)
        self._copier.add(checkpoint.path)
        return self._copier

    def dovetail_epoch_end(self, run: Run) -> None:
        """Tell of copies that have failed since."""
        if self._copier is not None:
            self._tell(run, self._copier.failed())

    def dovetail_run_end(self, run: Run, outcome: Outcome) -> None:
        """Wait for the copies that are not done; not for long where somebody has interrupted the run, or now does."""
        if self._copier is not None:
            patience, limit = self._patience, run.config.budget.wall_clock_seconds
            if limit is not None:
                patience = min(patience, max(run.watch.started + limit - time.monotonic(), 0.0))
            self._tell(run, self._copier.close(patience, lambda: outcome.status == "interrupted" or run.interrupted))

    def _tell(self, run: Run, failed: Iterable[NotCopied]) -> None:
        for one in failed:
            message = f"checkpoint.copy_to: {one.name} was not copied: {one.reason}"
            _logger.warning(message)
            run.alert("checkpoint_copy", message)
