"""The checkpoints that a run has left, found without torch: where they are, which is the best, which is meant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from dovetail.checkpoint.history import in_saving_order, read_history
from dovetail.checkpoint.listing import Checkpoint, Retention, folders, list_checkpoints
from dovetail.checkpoint.manifest import MANIFEST
from dovetail.config.schema import KEEP_BEST, KEEP_LAST
from dovetail.record.layout import RECORD
from dovetail.record.runs import RunLookupError, checkpoint_folder, find_run, load_run, read_config, table
from dovetail.train.figures import direction

if TYPE_CHECKING:
    from dovetail.checkpoint.errors import CheckpointError


@frozen
class Saved:
    """What a reference to a run, to a folder of checkpoints or to a single one means."""

    #: The folder of all its checkpoints, and the run's own.
    directory: Path
    run: Path | None
    name: str
    #: By what the run tells the best.
    retention: Retention
    #: The one checkpoint that was asked for.
    only: Path | None = None

    def folders(self) -> list[Path]:
        """Return the folders that are named like checkpoints."""
        if self.only is not None:
            return [self.only]
        return folders(self.directory) if self.directory.is_dir() else []

    def list(self, refused: Callable[[CheckpointError], object]) -> list[Checkpoint]:
        """Return the checkpoints, the best one marked, telling of those that are none."""
        if not self.directory.is_dir():
            return []
        saved = in_saving_order(list_checkpoints(self.directory, refused), read_history(self.directory))
        found = self.retention.marked(saved)
        return [one for one in found if self.only in {None, one.path}]

    def choose(self, which: str) -> Path:
        """Return the checkpoint that ``which`` means: ``best``, or else the last; ``last``; or its name.

        Raises:
            RunLookupError: there is none.
        """
        if self.only is not None:
            return self.only
        if which not in {"best", "last"}:
            names = [path.name for path in self.folders()]
            if which not in names:
                there = ", ".join(names) or "none"
                raise RunLookupError(f"there is no checkpoint '{which}' in {self.directory}; there is {there}")
            return self.directory / which
        found = self.list(lambda _: None)
        if not found:
            raise RunLookupError(f"there are no checkpoints in {self.directory}")
        best = next((one for one in found if one.is_best), None) if which == "best" else None
        return (best or found[-1]).path


def find_saved(reference: str, output: Path) -> Saved:
    """Return what is meant.

    Args:
        reference: a run, as for :func:`~dovetail.record.runs.find_run`; the path of a folder of checkpoints that no run
            has made, or of one checkpoint.
        output: the folder of all runs.

    Raises:
        RunLookupError: there is no such run.
    """
    path = Path(reference)
    retention = Retention(KEEP_BEST, KEEP_LAST, "val_loss", "min")
    if (path / MANIFEST).is_file():
        path = path.absolute()
        of_run = path.parent.parent
        if not (of_run / RECORD).is_file():
            return Saved(path.parent, None, path.name, retention, path)
        return evolve(find_saved(str(of_run), output), only=path)
    if path.is_dir() and not (path / RECORD).is_file() and folders(path):
        return Saved(path, None, path.name, retention)
    run = load_run(path) if (path / RECORD).is_file() else find_run(reference, output)
    kept = table(read_config(run.folder).get("checkpoint"))
    monitor, mode = str(kept.get("monitor", "val_loss")), kept.get("mode", "auto")
    retention = Retention(
        int(kept.get("keep_best", KEEP_BEST)),
        int(kept.get("keep_last", KEEP_LAST)),
        monitor,
        direction(monitor, mode if mode in {"min", "max"} else "auto"),
    )
    return Saved(checkpoint_folder(run), run.folder, run.name, retention)
