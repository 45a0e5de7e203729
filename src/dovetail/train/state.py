"""What changes while a run trains, and how a run ends."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import attrs
from attrs import define, field, frozen

#: How a run ended. ``run.json`` also knows ``"running"``.
Status = Literal["completed", "stopped_early", "out_of_budget", "interrupted", "failed"]

#: Marks a field that no checkpoint holds.
_TRANSIENT: Final = {"transient": True}


@frozen
class Stop:
    """A request to end training."""

    reason: str
    by: str
    status: Status = "stopped_early"
    #: The request that this one overrode; a resumed run still obeys it.
    earlier: Stop | None = None

    @property
    def kept(self) -> Stop | None:
        """The request that a resumed run obeys: a signal or the budget ends only the process, not the run."""
        return self.earlier if self.at_once else self

    def overrides(self, standing: Stop | None) -> bool:
        """Return whether this request replaces ``standing``: only a signal replaces one, if that one can wait."""
        return standing is None or (self.status == "interrupted" and not standing.at_once)

    @property
    def at_once(self) -> bool:
        """Whether the run saves a checkpoint and ends, without validation or test."""
        return self.status in {"interrupted", "out_of_budget"}


@define
class TrainState:
    """The position of training: the only part of a run that changes. Checkpoints hold it."""

    #: The current epoch, counted from 1; 0 before the first.
    epoch: int = 0
    #: Batches of the epoch that have been trained on, not merely fetched.
    batch: int = 0
    #: Optimizer updates so far.
    step: int = 0
    #: Samples trained on so far, repeats included.
    samples_seen: int = 0
    #: The current phase, counted from 0, and the epochs and updates that were done when it began.
    phase: int = 0
    phase_epoch: int = 0
    phase_step: int = 0
    #: How often ``nan_policy = "roll_back"`` restored a checkpoint.
    roll_backs: int = 0
    #: The best value of the monitored metric; None until there is one.
    best_metric: float | None = None
    best_epoch: int | None = None
    best_step: int | None = None
    #: Seconds that the run has taken, over all its resumes.
    elapsed: float = 0.0

    #: The request to stop that all processes obey.
    stop: Stop | None = field(default=None, metadata=_TRANSIENT)
    #: A request that only this process has received.
    requested: Stop | None = field(default=None, metadata=_TRANSIENT)
    #: ``samples_seen`` at the last exchange between processes; None before the first.
    synced_samples: int | None = field(default=None, metadata=_TRANSIENT)
    #: What the checkpoint holds of the training under way, in a resumed run; None in a new one.
    resumed: Mapping[str, Any] | None = field(default=None, metadata=_TRANSIENT)

    def state_dict(self) -> dict[str, Any]:
        """Return the position by field name."""
        return {name: getattr(self, name) for name in _SAVED}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the position.

        Raises:
            KeyError: ``state`` lacks a field.
        """
        for name in _SAVED:
            setattr(self, name, state[name])


_SAVED: Final = [each.name for each in attrs.fields(TrainState) if not each.metadata.get("transient")]


@frozen
class Outcome:
    """How a run ended."""

    status: Status
    #: Why, in one sentence; empty for a run that reached its end.
    reason: str = ""
    #: What stopped it: a part's config path, a signal, the budget. None if nothing did.
    stopped_by: str | None = None
    #: The epoch of the best monitored metric, counted from 1, and its value.
    best_epoch: int | None = None
    best_metric: float | None = None
    #: The validation loss of the same weights.
    best_val_loss: float | None = None
    #: The last epoch's figures: ``train_loss``, ``val_loss``, ``val_accuracy`` …
    metrics: Mapping[str, Any] = field(factory=dict)
    #: The test figures of the best checkpoint: ``test_loss`` … Empty without a test.
    test_metrics: Mapping[str, Any] = field(factory=dict)
    #: Seconds from the start of the run, setup included, to the end of training and test, over all its resumes.
    total_time: float = 0.0
    #: The run's folder; None in processes that write none.
    folder: Path | None = None
    #: The error that a failed run ended with.
    error: BaseException | None = field(default=None, eq=False)

    @classmethod
    def of_error(cls, error: BaseException, seconds: float) -> Outcome:
        """Return the outcome of a run that ``error`` ended after ``seconds``."""
        reason = " ".join(str(error).split()) or type(error).__name__
        status: Status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        return cls(status, reason, getattr(error, "path", None), total_time=seconds, error=error)

    def results(self) -> dict[str, Any]:
        """Return the results under the names that many scripts expect.

        Returns:
            ``best_epoch`` by the monitored metric; ``best_val_loss``, the validation loss of that epoch;
            ``final_metrics``; ``total_time`` in seconds.
        """
        return {
            "best_epoch": self.best_epoch,
            "best_val_loss": self.best_val_loss,
            "final_metrics": dict(self.metrics),
            "total_time": self.total_time,
        }

    def check(self) -> Outcome:
        """Return the outcome itself, or raise the error of a failed run."""
        if self.error is not None:
            raise self.error
        return self
