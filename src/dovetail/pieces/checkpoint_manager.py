"""Checkpoints for a training loop of one's own: model, optimizer and scheduler in, kept and given back."""

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

_METADATA = "metadata"


@frozen
class CheckpointMetadata:
    """What is known of a saved checkpoint."""

    #: Its folder.
    path: str
    epoch: int
    metrics: Mapping[str, float]
    #: Whether it was the best so far when it was saved; from ``load_checkpoint``: whether it is the best now.
    is_best: bool
    #: ISO 8601, UTC.
    timestamp: str
    model_size_mb: float
    #: Everything but the model: the optimizer, the scheduler, the metadata.
    optimizer_state_size_mb: float
    #: What was given to ``save_checkpoint``.
    metadata: Mapping[str, Any] = field(factory=dict)

    @classmethod
    def of(cls, one: Checkpoint, metadata: Mapping[str, Any] | None) -> Self:
        """Return what a manager knows of a checkpoint."""
        return cls(
            str(one.path),
            one.epoch,
            one.metrics,
            one.is_best,
            one.timestamp,
            one.model_size_mb,
            one.state_size_mb,
            dict(metadata or {}),
        )


class CheckpointManager:
    """Keeps the best and the newest checkpoints of a training loop, each there whole or not at all.

    Args:
        checkpoint_dir: their folder; made if it is missing.
        keep_best_k: how many of the best to keep; 0 keeps none for being good.
        keep_last_n: how many of the newest to keep, at least 1.
        monitor: the metric that tells the best.
        mode: whether less (``"min"``) or more (``"max"``) of it is better. The log warns of a mode that contradicts the
            metric's name.
        save_interval_epochs: save after every so many epochs; ``save_checkpoint`` does nothing in between.
        drive_backup: keep a second copy in the folder ``drive_backup_path``, such as a mounted drive.
        drive_backup_path: that folder. Copies lie in it under the name of ``checkpoint_dir``, which must be no other
            loop's, and are kept by the same rules.
        backup: any other store for the second copy. It is copied to in the background; :meth:`close` waits for it.

    Raises:
        ValueError: a number is too small, the mode unknown, or the backup's folder missing.
        StorageError: the folder cannot be made.
    """

    def __init__(  # noqa: PLR0917 (the documents' order)
        self,
        checkpoint_dir: str | Path,
        keep_best_k: int = 3,
        keep_last_n: int = 5,
        monitor: str = "val_loss",
        mode: Literal["min", "max"] = "min",
        save_interval_epochs: int = 1,
        drive_backup: bool = False,  # noqa: FBT001, FBT002 (the documents' order)
        drive_backup_path: str | Path | None = None,
        backup: Storage | None = None,
    ) -> None:
        if save_interval_epochs < 1:
            raise ValueError(f"save_interval_epochs must be at least 1, got {save_interval_epochs}")
        if drive_backup and drive_backup_path is None:
            raise ValueError("drive_backup needs drive_backup_path, the folder to copy to")
        if drive_backup and drive_backup_path is not None:
            backup = LocalStorage(path=Path(drive_backup_path))
        for name, number, least in (("keep_best_k", keep_best_k, 0), ("keep_last_n", keep_last_n, 1)):
            if number < least:
                raise ValueError(f"{name} must be at least {least}, got {number}")
        self.save_interval_epochs = save_interval_epochs
        self._warned = False
        if direction(monitor) not in {None, mode}:
            _logger.warning("mode = %r, but a %s %s is better", mode, "lower" if mode == "max" else "higher", monitor)
        self._folder = CheckpointStore(
            Path(checkpoint_dir), keep_best=keep_best_k, keep_last=keep_last_n, monitor=monitor, mode=mode
        )
        self._copier = None if backup is None else Copier(backup, self._folder.directory.name, self._folder.retention)

    def save_checkpoint(  # noqa: PLR0917 (the documents' order)
        self,
        epoch: int,
        metrics: Mapping[str, float],
        model: Any,
        optimizer: Any,
        scheduler: Any = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> CheckpointMetadata | None:
        """Save what the parts return from ``state_dict``, then remove what need not be kept any longer.

        Args:
            epoch: from 1. A loop that begins anew in the same folder may count from 1 again: what it saves is newer.
            metrics: any scalars. A monitored one that is NaN or infinite never makes a checkpoint the best; where it is
                missing, a warning says so, once.
            model: with ``state_dict()``.
            optimizer: likewise.
            scheduler: likewise; may be left out.
            metadata: anything else to keep: numbers, text, lists, dicts, tensors.

        Returns:
            What was saved; None where ``save_interval_epochs`` says that nothing is due.

        Raises:
            ValueError: a weight of the model is NaN or infinite, or a metric is no number; the message names it, and
                nothing is saved.
            TypeError: a state holds what cannot be kept; the message names the path to it.
            StorageError: it cannot be written; the checkpoints that were there still are.
        """
        if epoch < 0 or epoch != int(epoch):
            raise ValueError(f"epoch must be a whole number from 0 on, got {epoch}")
        if epoch % self.save_interval_epochs:
            return None
        spoiled = nonfinite_weights(model) if isinstance(model, nn.Module) else []
        if spoiled:
            raise ValueError(f"epoch {epoch}: {join_first(spoiled)} became NaN or infinite, so this model is not saved")
        odd = next((name for name, value in metrics.items() if not _is_number(value)), None)
        if odd is not None:
            raise ValueError(f"metrics: '{odd}' is no number but {metrics[odd]!r}")
        self._look_for_monitor(metrics)
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), _METADATA: dict(metadata or {})}
        if scheduler is not None:
            state["scheduler"] = scheduler.state_dict()
        saved = self._folder.save(epoch, epoch, metrics, state)
        if self._copier is not None:
            self._copier.add(saved.path)
        return CheckpointMetadata.of(saved, metadata)

    def _look_for_monitor(self, metrics: Mapping[str, float]) -> None:
        monitor = self._folder.monitor
        if monitor not in metrics and not self._warned:
            self._warned = True
            _logger.warning(
                "the metrics have no '%s', by which the best checkpoint is known%s", monitor, suggest(monitor, metrics)
            )

    def load_checkpoint(
        self, path: str | Path, model: Any, optimizer: Any = None, scheduler: Any = None
    ) -> CheckpointMetadata:
        """Give the parts their state back from a checkpoint, every byte of which is verified first.

        Raises:
            CheckpointError: it is damaged, or has no state for one of the parts, none of which is then changed.
        """
        folder = Path(path)
        state = read_checkpoint(folder)
        parts = {
            name: part
            for name, part in {"model": model, "optimizer": optimizer, "scheduler": scheduler}.items()
            if part is not None
        }
        for name in parts:
            if name not in state:
                raise CheckpointError(folder, f"there is no state of a {name} in this checkpoint")
        for name, part in parts.items():
            part.load_state_dict(state[name])
        best = self._folder.best()
        loaded = evolve(
            Checkpoint.from_manifest(folder, read_manifest(folder)),
            is_best=best is not None and best.path.samefile(folder),
        )
        return CheckpointMetadata.of(loaded, state.get(_METADATA))

    def get_best_checkpoint(self) -> str | None:
        """Return the path of the best checkpoint by the monitored metric; None if there is none."""
        best = self._folder.best()
        return None if best is None else str(best.path)

    def get_latest_checkpoint(self) -> str | None:
        """Return the path of the newest checkpoint that is whole; None if there is none."""
        latest = self._folder.latest()
        return None if latest is None else str(latest.path)

    def get_checkpoint_history(self) -> pd.DataFrame:
        """Return every checkpoint ever saved here, one row each, with a column a metric.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        return self._folder.history_frame()

    def close(self, patience: float = 300.0) -> list[str]:
        """Wait up to ``patience`` seconds for the second copies, and return what went wrong with them, if anything."""
        copier, self._copier = self._copier, None
        return [] if copier is None else [f"{one.name}: {one.reason}" for one in copier.close(patience)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError, RuntimeError):  # the last of tensors of several numbers
        return False
    return True
