"""Finding the checkpoints of a run, without torch: where they are, which is the best, which one a name refers to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from dovetail.checkpoint.listing import (
    Checkpoint,
    Retention,
    checkpoint_folders,
    list_checkpoints,
    read_history,
    sort_by_save_order,
)
from dovetail.checkpoint.manifest import MANIFEST
from dovetail.config.schema import KEEP_BEST, KEEP_LAST
from dovetail.metrics.direction import direction
from dovetail.record.layout import RECORD
from dovetail.record.runs import RunLookupError, as_table, checkpoint_folder, find_run, load_run, read_config

if TYPE_CHECKING:
    from dovetail.checkpoint.manifest import CheckpointError


@frozen
class SavedRun:
    """The checkpoints that a reference to a run, to a folder of checkpoints or to a single one stands for."""

    #: The folder of all its checkpoints, and the run's own.
    directory: Path
    run: Path | None
    name: str
    #: How the run ranks checkpoints.
    retention: Retention
    #: The single checkpoint that was asked for, or None.
    only: Path | None = None

    def folders(self) -> list[Path]:
        """Return the folders that are named like checkpoints."""
        if self.only is not None:
            return [self.only]
        return checkpoint_folders(self.directory) if self.directory.is_dir() else []

    def list(self, refused: Callable[[CheckpointError], object]) -> list[Checkpoint]:
        """Return the checkpoints, the best one marked; call ``refused`` for folders that hold none."""
        if not self.directory.is_dir():
            return []
        saved = sort_by_save_order(list_checkpoints(self.directory, refused), read_history(self.directory))
        found = self.retention.mark_best(saved)
        return [checkpoint for checkpoint in found if self.only in {None, checkpoint.path}]

    def choose(self, which: str) -> Path:
        """Return the checkpoint that ``which`` names: ``best``, else the last; ``last``; or its own name.

        Raises:
            RunLookupError: there is no such checkpoint.
        """
        if self.only is not None:
            return self.only
        if which not in {"best", "last"}:
            names = [path.name for path in self.folders()]
            if which not in names:
                known = ", ".join(names) or "none"
                raise RunLookupError(f"there is no checkpoint '{which}' in {self.directory}; there is {known}")
            return self.directory / which
        found = self.list(lambda _: None)
        if not found:
            raise RunLookupError(f"there are no checkpoints in {self.directory}")
        best = next((checkpoint for checkpoint in found if checkpoint.is_best), None) if which == "best" else None
        return (best or found[-1]).path


def find_saved(reference: str, output: Path) -> SavedRun:
    """Return the checkpoints that a reference stands for.

    Args:
        reference: a run, as for :func:`~dovetail.record.runs.find_run`; or the path of a folder of checkpoints that no
            run has made, or of one checkpoint.
        output: the folder of all runs.

    Raises:
        RunLookupError: there is no such run.
    """
    path = Path(reference)
    retention = Retention(KEEP_BEST, KEEP_LAST, "val_loss", "min")
    if (path / MANIFEST).is_file():
        path = path.absolute()
        run_folder = path.parent.parent
        if not (run_folder / RECORD).is_file():
            return SavedRun(path.parent, None, path.name, retention, path)
        return evolve(find_saved(str(run_folder), output), only=path)
    if path.is_dir() and not (path / RECORD).is_file() and checkpoint_folders(path):
        return SavedRun(path, None, path.name, retention)
    run = load_run(path) if (path / RECORD).is_file() else find_run(reference, output)
    section = as_table(read_config(run.folder).get("checkpoint"))
    monitor = str(section.get("monitor", "val_loss"))
    said = (section.get("mode"), run.data.get("checkpoint_mode"), direction(monitor))
    retention = Retention(
        int(section.get("keep_best", KEEP_BEST)),
        int(section.get("keep_last", KEEP_LAST)),
        monitor,
        next((mode for mode in said if mode in {"min", "max"}), "min"),
    )
    return SavedRun(checkpoint_folder(run), run.folder, run.name, retention)
