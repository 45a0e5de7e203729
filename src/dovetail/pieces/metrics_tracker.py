"""Figures of epochs, for a training loop written by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


class MetricsTracker:
    """Keeps the figures of every epoch.

    In a run of Dovetail's own, ``metrics.jsonl`` and the run file's ``[trackers]`` do this.

    Args:
        use_wandb: also log them to Weights & Biases: to the run that is under way, else to a new one, which is kept on
            this machine unless there is a key (``WANDB_API_KEY``).

    Raises:
        ModuleNotFoundError: ``use_wandb`` without wandb installed.
    """

    def __init__(self, use_wandb: bool = False) -> None:  # noqa: FBT001, FBT002 (the documents' signature)
        #: One entry an epoch, in the order in which they were logged.
        self.epochs: list[dict[str, float]] = []
        self._board = _wandb_run() if use_wandb else None

    def log_epoch(
        self,
        epoch: int,
        train_metrics: Mapping[str, float],
        val_metrics: Mapping[str, float] | None = None,
        learning_rate: float | None = None,
        gradient_norm: float | None = None,
        *,
        others: Mapping[str, float] | None = None,
    ) -> None:
        """Keep the figures of one epoch; those of an epoch that is logged again take the place of the old ones.

        Args:
            epoch: its number.
            train_metrics: figures of training, kept as ``train_…``.
            val_metrics: figures of validation, kept as ``val_…``.
            learning_rate: kept as ``learning_rate``.
            gradient_norm: kept as ``gradient_norm``.
            others: further figures, kept by their names.
        """
        row: dict[str, float] = {"epoch": epoch}
        row |= {f"train_{name}": value for name, value in train_metrics.items()}
        row |= {f"val_{name}": value for name, value in (val_metrics or {}).items()}
        given = {"learning_rate": learning_rate, "gradient_norm": gradient_norm}
        row |= {name: value for name, value in given.items() if value is not None} | dict(others or {})
        self.epochs = [one for one in self.epochs if one["epoch"] != epoch] + [row]
        if self._board is not None:
            self._board.log(row)

    def log(self, figures: Mapping[str, float], step: int | None = None) -> None:
        """Log figures of less than an epoch to Weights & Biases, where that is used; they are not kept here."""
        if self._board is not None:
            self._board.log(dict(figures), step=step)

    def get_summary(self) -> pd.DataFrame:
        """Return one row an epoch, one column a figure, NaN where an epoch has none.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("DataFrames come with pandas: pip install 'dovetail[pandas]'") from error
        return pd.DataFrame(self.epochs, columns=None if self.epochs else ["epoch"])


def _wandb_run() -> Any:
    import os

    try:
        import wandb
    except ModuleNotFoundError as error:
        message = "use_wandb = True needs wandb: pip install 'dovetail-trackers[wandb]'"
        raise ModuleNotFoundError(message) from error
    keyless = not os.environ.get("WANDB_API_KEY") and not os.environ.get("WANDB_MODE")
    return wandb.run or wandb.init(mode="offline" if keyless else None)
