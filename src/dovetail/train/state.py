"""What changes while a run trains, and what it came to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
from attrs import define, field, frozen

#: How a run ended. ``run.json`` also knows ``"running"``.
Status = Literal["completed", "stopped_early", "out_of_budget", "interrupted", "failed"]


@define
class TrainState:
    """Where training is. It changes while the run goes on, and every checkpoint has it."""

    #: The epoch under way, counted from 1; 0 before the first.
    epoch: int = 0
    #: Batches of that epoch that have been trained on, not merely fetched.
    batch: int = 0
    #: Optimizer updates so far.
    step: int = 0
    #: Samples trained on so far, repeats counted.
    samples_seen: int = 0
    #: The phase under way, counted from 0, and the epochs and updates that were done when it began.
    phase: int = 0
    phase_epoch: int = 0
    phase_step: int = 0
    #: How often it went back to the weights of a checkpoint, after a loss or a gradient that was no number.
    roll_backs: int = 0
    #: The best value of the monitored metric; None until there is one.
    best_metric: float | None = None
    best_epoch: int | None = None
    best_step: int | None = None
    #: Seconds that the run has been going, over all its resumes.
    elapsed: float = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return attrs.asdict(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the fields from ``state``.

        Raises:
            KeyError: one is missing.
        """
        for one in attrs.fields(TrainState):
            setattr(self, one.name, state[one.name])


@frozen
class Stop:
    """That training shall end, why, and who said so."""

    reason: str
    by: str
    status: Status = "stopped_early"
    #: The request that this one overtook: a resumed run still has it.
    earlier: Stop | None = None

    @property
    def kept(self) -> Stop | None:
        """What a resumed run shall still do of it: a signal, or the budget, ended only the process."""
        return self.earlier if self.at_once else self

    def overtakes(self, standing: Stop | None) -> bool:
        """Say whether it counts although ``standing`` was there first: only a signal does, over one that can wait."""
        return standing is None or (self.status == "interrupted" and not standing.at_once)

    @property
    def at_once(self) -> bool:
        """Whether only a checkpoint is still to be written: no validation, no test."""
        return self.status in {"interrupted", "out_of_budget"}


@frozen
class Outcome:
    """How a run ended."""

    status: Status
    #: Why, in one sentence; empty for a run that simply got to its end.
    reason: str = ""
    #: Who stopped it: a part's config path, a signal, the budget. None where nobody did.
    stopped_by: str | None = None
    #: The epoch of the best monitored metric, counted from 1, and its value.
    best_epoch: int | None = None
    best_metric: float | None = None
    #: The validation loss that these weights had: the same, unless another metric is monitored.
    best_val_loss: float | None = None
    #: The last epoch's figures: ``train_loss``, ``val_loss``, ``val_accuracy`` …
    metrics: Mapping[str, Any] = field(factory=dict)
    #: The test's figures, of the best checkpoint: ``test_loss`` … Empty where there was no test.
    test_metrics: Mapping[str, Any] = field(factory=dict)
    #: Seconds from the run's start, before its parts were built, to the end of training and test, over all its resumes.
    total_time: float = 0.0
    #: The run's folder; None in processes that write none.
    folder: Path | None = None
    #: What went wrong in a failed run.
    error: BaseException | None = field(default=None, eq=False)

    def results(self) -> dict[str, Any]:
        """Return what training came to, by the names that many scripts expect.

        Returns:
            ``best_epoch``, by the monitored metric; ``best_val_loss``, the validation loss of that epoch;
            ``final_metrics``; ``total_time`` in seconds.
        """
        return {
            "best_epoch": self.best_epoch,
            "best_val_loss": self.best_val_loss,
            "final_metrics": dict(self.metrics),
            "total_time": self.total_time,
        }

    def check(self) -> Outcome:
        """Return the outcome itself, or raise the error of a run that failed."""
        if self.error is not None:
            raise self.error
        return self
