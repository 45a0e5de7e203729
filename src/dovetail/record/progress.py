"""What a watcher wants to know of a run under way: how far, how fast, how good; gathered from the run's own events."""

from __future__ import annotations

import math
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from dovetail.record.words import figure, share

if TYPE_CHECKING:
    from dovetail.train.context import Run

#: Sightings of the step counter that the speed is measured over.
_WINDOW: Final = 120
#: Values of a loss that are kept for its little picture.
_KEPT: Final = 4096
_COURSES: Final = {"train_loss", "val_loss"}
#: Figures that are not shown among the metrics.
_ASIDE: Final = ("lr", "samples_per_second", "grad_norm", "seconds")


class Progress:
    """The latest figures of a run, their course, and when it will be done."""

    def __init__(self, run: Run) -> None:
        """Start watching ``run``; a resumed one counts from where it went on."""
        self._run = run
        self._sightings: deque[tuple[float, int, int]] = deque(maxlen=_WINDOW)
        #: The newest value of each figure.
        self.figures: dict[str, float] = {}
        self._courses: dict[tuple[str, str], deque[float]] = defaultdict(partial(deque, maxlen=_KEPT))
        self.look()

    @property
    def epoch(self) -> int:
        """The epoch under way, from 1."""
        return max(1, self._run.state.epoch)

    @property
    def epochs(self) -> int:
        """How many epochs it is meant to have."""
        return self._run.plan.max_epochs

    @property
    def step(self) -> int:
        """Updates so far."""
        return self._run.state.step

    @property
    def steps(self) -> int:
        """How many updates it is meant to have."""
        return self._run.plan.total_steps

    def elapsed(self) -> float:
        """Seconds since it started."""
        return self._run.elapsed()

    def look(self) -> None:
        """Note how far the run is. This reads two counters of the run and costs the training loop nothing."""
        self._sightings.append((time.monotonic(), self.step, self._run.state.samples_seen))

    def take(self, event: str, metrics: Mapping[str, float]) -> None:
        """Note figures that the run has logged with ``event``."""
        self.figures.update(metrics)
        for name in _COURSES & metrics.keys():
            self._courses[name, event].append(metrics[name])

    def course(self, name: str) -> list[float]:
        """Return the values of a loss so far, as told by the event that tells it most often."""
        told = [list(self._courses[name, event]) for event in ("train", "validation", "epoch")]
        return max(told, key=len)

    def left(self) -> float:
        """Seconds it will still take at the present speed; infinite before the first steps."""
        (since, first, _), (now, last, _) = self._sightings[0], self._sightings[-1]
        return (self.steps - last) * (now - since) / (last - first) if last > first else math.inf

    def speed(self) -> float | None:
        """Samples per second, validation and saving counted in; None before the first steps."""
        (since, _, first), (now, _, last) = self._sightings[0], self._sightings[-1]
        return (last - first) / (now - since) if last > first else None

    def best(self) -> str:
        """The best value of the monitored metric and its epoch, in words; empty before the first validation."""
        state = self._run.state
        if state.best_metric is None:
            return ""
        monitored = self._run.config.checkpoint.monitor
        return f"{monitored} {share(monitored, state.best_metric)} in epoch {state.best_epoch}"

    def is_best(self) -> bool:
        """Whether the newest validation is the best so far."""
        return self._run.state.best_step is not None and self._run.state.best_step == self.step


def in_words(metrics: Mapping[str, float]) -> str:
    """Return figures as ``train_loss 0.12  val_loss 0.15``: losses first, without rates."""
    names = sorted(
        (name for name in metrics if name not in _ASIDE and not name.startswith("lr")),
        key=lambda name: (name not in {"train_loss", "val_loss", "test_loss"}, name.startswith("val_"), name),
    )
    return "  ".join(f"{name} {share(name, metrics[name])}" for name in names)


def rest_in_words(metrics: Mapping[str, float]) -> str:
    """Return the validation figures other than the loss, and the learning rate."""
    others = {name: value for name, value in metrics.items() if name.startswith("val_") and name != "val_loss"}
    said = [in_words(others)] if others else []
    if "lr" in metrics:
        said.append(f"lr {figure(metrics['lr'])}")
    return "  ".join(said)
