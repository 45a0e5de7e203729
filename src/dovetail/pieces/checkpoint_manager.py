"""Checkpoints in a loop of your own: save and load a model, its optimizer and its scheduler."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from attrs import evolve, field, frozen
from torch import nn

from dovetail.checkpoint.copier import Copier
from dovetail.checkpoint.format import read_checkpoint
from dovetail.checkpoint.listing import Checkpoint
from dovetail.checkpoint.manifest import CheckpointError, read_manifest
from dovetail.checkpoint.saver import join_first, nonfinite_weights
from dovetail.checkpoint.store import CheckpointStore
from dovetail.config.diagnostics import suggest
from dovetail.metrics.direction import direction
from dovetail.storage.local import LocalStorage

if TYPE_CHECKING:
    import pandas as pd

    from dovetail.spec import Storage

_logger: Final = logging.getLogger("dovetail.checkpoint")

_METADATA: Final = "metadata"


@frozen
class CheckpointMetadata:
    """The facts about a saved checkpoint."""

    #: The checkpoint's folder.
    path: str
    epoch: int
    metrics: Mapping[str, float]
    #: From ``save_checkpoint``: whether it is the best so far. From ``load_checkpoint``: whether it is the best of all.
    is_best: bool
    #: ISO 8601, UTC.
    timestamp: str
    model_size_mb: float
    #: The size of everything else: the optimizer, the scheduler, the metadata.
    optimizer_state_size_mb: float
    #: The metadata passed to ``save_checkpoint``.
    metadata: Mapping[str, Any] = field(factory=dict)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, metadata: Mapping[str, Any] | None) -> Self:
        """Return the facts about a checkpoint of a store."""
        return cls(
            str(checkpoint.path),
            checkpoint.epoch,
            checkpoint.metrics,
            checkpoint.is_best,
            checkpoint.timestamp,
            checkpoint.model_size_mb,
            checkpoint.state_size_mb,
            dict(metadata or {}),
        )


class CheckpointManager:
    """Keeps the best and the newest checkpoints of a training loop. Each is complete, or does not exist.

    Args:
        checkpoint_dir: the folder for checkpoints; created if it does not exist.
        keep_best_k: how many of the best checkpoints to keep; at 0, only ``keep_last_n`` counts.
        keep_last_n: how many of the newest checkpoints to keep, at least 1.
        monitor: the metric that decides which checkpoint is the best.
        mode: whether smaller (``"min"``) or larger (``"max"``) values of it are better. The log warns if
            this contradicts the metric's name.
        save_interval_epochs: epochs per checkpoint, at least 1; ``save_checkpoint`` does nothing in other epochs.
        drive_backup: keep a second copy in the folder ``drive_backup_path``, such as a mounted drive.
        drive_backup_path: the folder for copies. They are in a subfolder with the name of ``checkpoint_dir``, which no
            other loop may use, and the same rules apply to them.
        backup: another storage backend for the second copy. Copying happens in the background; :meth:`close` waits for
            it.

    Raises:
        ValueError: a number is too small, the mode is unknown, or ``drive_backup_path`` is missing.
        StorageError: the folder cannot be created.
    """

    def __init__(  # noqa: PLR0917 (the documented signature)
        self,
        checkpoint_dir: str | Path,
        keep_best_k: int = 3,
        keep_last_n: int = 5,
        monitor: str = "val_loss",
        mode: Literal["min", "max"] = "min",
        save_interval_epochs: int = 1,
        drive_backup: bool = False,  # noqa: FBT001, FBT002 (the documented signature)
        drive_backup_path: str | Path | None = None,
        backup: Storage | None = None,
    ) -> None:
        for name, number, least in (
            ("save_interval_epochs", save_interval_epochs, 1),
            ("keep_best_k", keep_best_k, 0),
            ("keep_last_n", keep_last_n, 1),
        ):
            if number < least:
                raise ValueError(f"{name} must be at least {least}, got {number}")
        if drive_backup:
            if drive_backup_path is None:
                raise ValueError("drive_backup needs drive_backup_path, the folder for the copies")
            backup = LocalStorage(path=Path(drive_backup_path))
        self.save_interval_epochs = save_interval_epochs
        self._warned = False
        if direction(monitor) not in {None, mode}:
            _logger.warning("mode = %r, but a %s %s is better", mode, "lower" if mode == "max" else "higher", monitor)
        self._store = CheckpointStore(
            Path(checkpoint_dir), keep_best=keep_best_k, keep_last=keep_last_n, monitor=monitor, mode=mode
        )
        self._copier = None if backup is None else Copier(backup, self._store.directory.name, self._store.retention)

    def save_checkpoint(  # noqa: PLR0917 (the documented signature)
        self,
        epoch: int,
        metrics: Mapping[str, float],
        model: Any,
        optimizer: Any,
        scheduler: Any = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> CheckpointMetadata | None:
        """Save a checkpoint, then remove old ones that need not be kept.

        Args:
            epoch: the epoch's number, from 1. A new loop in the same folder may count from 1 again: its checkpoints
                are newer.
            metrics: numbers. A checkpoint whose monitored metric is NaN, infinite or missing is never the best; the
                first time that it is missing, a warning says so.
            model: an object with ``state_dict()``.
            optimizer: an object with ``state_dict()``.
            scheduler: an object with ``state_dict()``, or None.
            metadata: anything else to keep: numbers, text, lists, dicts, tensors.

        Returns:
            The facts about the checkpoint; None if ``save_interval_epochs`` skips this epoch.

        Raises:
            ValueError: a weight of the model is NaN or infinite, a metric is not a number, or the epoch is invalid.
                Nothing is saved.
            TypeError: a state contains a value that a checkpoint cannot store; the message has its path.
            StorageError: writing failed; earlier checkpoints are intact.
        """
        if epoch < 0 or epoch != int(epoch):
            raise ValueError(f"epoch must be an integer of at least 0, got {epoch}")
        if epoch % self.save_interval_epochs:
            return None
        nonfinite = nonfinite_weights(model) if isinstance(model, nn.Module) else []
        if nonfinite:
            raise ValueError(
                f"epoch {epoch}: {join_first(nonfinite)} became NaN or infinite, so this model is not saved"
            )
        invalid = next((name for name, value in metrics.items() if not _is_number(value)), None)
        if invalid is not None:
            raise ValueError(f"metrics: '{invalid}' must be a number, got {metrics[invalid]!r}")
        self._warn_without_monitor(metrics)
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), _METADATA: dict(metadata or {})}
        if scheduler is not None:
            state["scheduler"] = scheduler.state_dict()
        saved = self._store.save(epoch, epoch, metrics, state)
        if self._copier is not None:
            self._copier.add(saved.path)
        return CheckpointMetadata.from_checkpoint(saved, metadata)

    def _warn_without_monitor(self, metrics: Mapping[str, float]) -> None:
        monitor = self._store.monitor
        if monitor not in metrics and not self._warned:
            self._warned = True
            _logger.warning(
                "monitor: there is no metric '%s', so this checkpoint cannot become the best%s",
                monitor,
                suggest(monitor, metrics),
            )

    def load_checkpoint(
        self, path: str | Path, model: Any, optimizer: Any = None, scheduler: Any = None
    ) -> CheckpointMetadata:
        """Load a checkpoint into the given objects, after every byte of it has been verified.

        Args:
            path: the checkpoint's folder.
            model: an object with ``load_state_dict()``.
            optimizer: an object with ``load_state_dict()``; None does not load its state.
            scheduler: an object with ``load_state_dict()``; None does not load its state.

        Raises:
            CheckpointError: the checkpoint is damaged, or has no state for one of the objects; none of them has
                changed.
        """
        folder = Path(path)
        state = read_checkpoint(folder)
        objects = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
        wanted = {name: value for name, value in objects.items() if value is not None}
        for name in wanted:
            if name not in state:
                saved = ", ".join(name for name in objects if name in state)
                raise CheckpointError(folder, f"this checkpoint has no state of a {name}; it has {saved or 'none'}")
        for name, value in wanted.items():
            value.load_state_dict(state[name])
        best = self._store.best()
        loaded = evolve(
            Checkpoint.from_manifest(folder, read_manifest(folder)),
            is_best=best is not None and best.path.samefile(folder),
        )
        return CheckpointMetadata.from_checkpoint(loaded, state.get(_METADATA))

    def get_best_checkpoint(self) -> str | None:
        """Return the path of the best checkpoint by the monitored metric; None if there is none."""
        best = self._store.best()
        return None if best is None else str(best.path)

    def get_latest_checkpoint(self) -> str | None:
        """Return the path of the newest intact checkpoint; None if there is none."""
        latest = self._store.latest()
        return None if latest is None else str(latest.path)

    def get_checkpoint_history(self) -> pd.DataFrame:
        """Return a table with a row for every checkpoint ever saved in the folder, and a column per metric.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        return self._store.history_frame()

    def close(self, patience: float = 300.0) -> list[str]:
        """Wait up to ``patience`` seconds for the second copies, and return a message for each that failed."""
        copier, self._copier = self._copier, None
        return [] if copier is None else [f"{copy.name}: {copy.reason}" for copy in copier.close(patience)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: a tensor with several elements
        return False
    return True
