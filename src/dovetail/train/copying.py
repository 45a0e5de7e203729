"""A second copy of every checkpoint, in a store of the user's choice."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from dovetail.checkpoint.manifest import FILES, MANIFEST

if TYPE_CHECKING:
    from dovetail.checkpoint.listing import Checkpoint
    from dovetail.kernel.kinds import Storage
    from dovetail.train.context import Run

_logger: Final = logging.getLogger("dovetail.train")


class CheckpointCopier:
    """Copies each checkpoint when it is committed, its manifest last, so that a copy too is whole or no checkpoint.

    A store that fails costs the copy and not the run: it is an alert.
    """

    def __init__(self, storage: Storage) -> None:
        """Copy to ``storage``, under ``<run name>/<run id>/<checkpoint>/``."""
        self._storage = storage

    def dovetail_checkpoint_saved(self, run: Run, checkpoint: Checkpoint) -> None:
        """Copy one checkpoint."""
        prefix = f"{run.config.run.name}/{run.store.id}/{checkpoint.path.name}"
        try:
            for name in (*FILES, MANIFEST):
                self._storage.put(f"{prefix}/{name}", checkpoint.path / name)
        except Exception as error:
            _logger.warning("checkpoint.copy_to: %s was not copied", checkpoint.path.name, exc_info=error)
            run.alert("checkpoint_copy", f"checkpoint.copy_to: {checkpoint.path.name} was not copied: {error}")
