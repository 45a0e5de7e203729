"""What a run is to its parts: the one object that hooks and trainers are given."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import torch
from attrs import define, evolve, field, frozen
from torch import nn

from dovetail.monitor.alerts import Alert, AlertManager, Severity
from dovetail.train.clock import Stopwatch
from dovetail.train.group import Group
from dovetail.train.hooks import Hooks
from dovetail.train.journal import Figures, Journal
from dovetail.train.state import Status, Stop, TrainState

if TYPE_CHECKING:
    from dovetail.checkpoint.store import CheckpointStore
    from dovetail.config.schema import RunConfig
    from dovetail.data.batch import Batch
    from dovetail.data.loader import Loader
    from dovetail.models.output import ModelOutput
    from dovetail.record.run_directory import RunDirectory
    from dovetail.spec.protocols import Loss
    from dovetail.train.ema import WeightAverage
    from dovetail.train.gradients import Gradients
    from dovetail.train.phases import Phase
    from dovetail.train.schedule import Schedule

_logger: Final = logging.getLogger("dovetail.train")


@frozen(eq=False)
class Loaders:
    """The batches of each split; None where there is no such split."""

    train: Loader
    validation: Loader | None = None
    test: Loader | None = None


@define(eq=False)
class Parts:
    """The built components of a run."""

    model: nn.Module
    #: As its factory made it. What computes a loss is ``run.criterion``.
    loss: Any
    optimizer: torch.optim.Optimizer
    loaders: Loaders
    scheduler: Any = None
    transforms: Mapping[str, Any] = field(factory=dict)
    metrics: Mapping[str, Any] = field(factory=dict)
    #: The same once more, for the training batches, where those are measured too.
    train_metrics: Mapping[str, Any] = field(factory=dict)
    callbacks: Mapping[str, Any] = field(factory=dict)
    trackers: Mapping[str, Any] = field(factory=dict)
    trainer: Any = None
    #: Scales the loss of half-precision training; None otherwise.
    scaler: torch.amp.GradScaler | None = None
    #: The moving average of the model's weights, where one is kept.
    ema: WeightAverage | None = None

    def named(self) -> Iterator[tuple[str, Any]]:
        """Yield every part that may have hooks or state, with its config path, in the order of hook calls."""
        yield "model", self.model
        yield "loss", self.loss
        yield "optimizer", self.optimizer
        if self.scheduler is not None:
            yield "scheduler", self.scheduler
        if self.scaler is not None:
            yield "scaler", self.scaler
        if self.ema is not None:
            yield "ema", self.ema
        if self.trainer is not None:
            yield "trainer", self.trainer
        for table in ("transforms", "metrics", "train_metrics", "callbacks", "trackers"):
            for name, part in getattr(self, table).items():
                yield f"{table}.{name}", part

    def modules(self) -> dict[str, nn.Module]:
        """Return what may have parameters to train, by config path: the model, and a loss that is a module."""
        return {name: one for name, one in (("model", self.model), ("loss", self.loss)) if isinstance(one, nn.Module)}

    def parameter_names(self) -> dict[int, str]:
        """Return every parameter's name by its id: the model's own names, and ``loss.`` before those of the loss."""
        return {
            id(parameter): name if path == "model" else f"{path}.{name}"
            for path, module in self.modules().items()
            for name, parameter in module.named_parameters()
        }


@frozen
class Plan:
    """How long a run is meant to be."""

    max_epochs: int
    steps_per_epoch: int
    #: Optimizer updates in the whole run.
    total_steps: int

    @classmethod
    def make(cls, batches: int, *, accumulate: int, max_epochs: int | None, max_steps: int | None) -> Plan:
        """Work out the length of a run from batches per epoch and its limits, of which the nearer one holds.

        Raises:
            ValueError: neither limit is given.
        """
        per_epoch = math.ceil(batches / accumulate)
        limits = [max_epochs * per_epoch] if max_epochs is not None else []
        limits += [max_steps] if max_steps is not None else []
        if not limits:
            raise ValueError("training never ends: give max_epochs or max_steps")
        total = min(limits)
        return cls(math.ceil(total / per_epoch), per_epoch, total)

    @classmethod
    def parts_of(cls, whole: Plan, lengths: Sequence[tuple[int | None, int | None]]) -> list[Plan]:
        """Return the plans of phases one after another within ``whole``, which ends the last of them.

        Args:
            whole: the longest that the run may be.
            lengths: ``max_epochs`` and ``max_steps`` of each phase.
        """
        plans, left = [], whole.total_steps
        for epochs, steps in lengths:
            own = [left, *([epochs * whole.steps_per_epoch] if epochs else []), *([steps] if steps else [])]
            # A scheduler is never told of no steps at all, also where the run ends before the phase begins.
            total = max(1, min(own))
            plans.append(cls(math.ceil(total / whole.steps_per_epoch), whole.steps_per_epoch, total))
            left -= min(own)
        return plans


@define(eq=False)
class Run:
    """A run under way."""

    #: Frozen.
    config: RunConfig
    parts: Parts
    plan: Plan
    #: What the data say about themselves, for the record: fingerprint, sizes, num_classes, class_names.
    data: Mapping[str, Any]
    device: torch.device
    #: Calls the model with a batch.
    forward: Callable[[Batch], ModelOutput]
    #: Computes the loss of a batch, whatever the form of the loss.
    criterion: Loss
    #: What trains one after another; ``state.phase`` says which one does now. ``parts.optimizer``, ``parts.scheduler``,
    #: ``gradients`` and ``schedule`` are that one's.
    phases: Sequence[Phase]
    #: Clears, clips and applies the gradients of an update.
    gradients: Gradients
    #: Where the run is on disk.
    store: RunDirectory
    checkpoints: CheckpointStore
    schedule: Schedule | None = None
    hooks: Hooks = field(factory=Hooks)
    #: The only thing here that changes while training, with ``stop``.
    state: TrainState = field(factory=TrainState)
    stop: Stop | None = None
    #: Passes on alerts, and holds repeated ones back.
    alerts: AlertManager = field(factory=AlertManager)
    #: What the checkpoint that the run goes on from says of the training under way; None for a run from the start.
    resumed: Mapping[str, Any] | None = None
    #: The processes that train together.
    group: Group = field(factory=Group)
    #: What only this process knows until they agree: that it was asked to stop.
    asked: Stop | None = None
    #: ``state.samples_seen`` when they last agreed; None before.
    agreed_samples: int | None = None
    #: Started with the run, before its parts were built; on a resumed run it also counts what went before.
    watch: Stopwatch = field(factory=Stopwatch)
    #: Writes what is logged.
    journal: Journal = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Let everybody hear of alerts and figures."""
        self.journal = Journal(self)
        self.alerts.listen(self._pass_on)

    def request_stop(self, reason: str, by: object, status: Status = "stopped_early") -> None:
        """Ask for training to end after the update, or the validation, that is under way. The first request holds.

        Where several processes train together, all end after the same update, whichever of them was asked.

        Args:
            reason: why, in one sentence.
            by: who asks: a name, or the part itself, which is then named by its config path.
            status: how the run is then said to have ended.
        """
        stop = Stop(reason, by if isinstance(by, str) else self._path_of(by), status)
        if self.group.size == 1:
            self._take(stop)
        elif stop.overtakes(self.asked):
            self.asked = stop

    @property
    def interrupted(self) -> bool:
        """Whether a signal has asked this process to stop."""
        return any(one is not None and one.status == "interrupted" for one in (self.stop, self.asked))

    def agree(self, *, due: bool = False, broken: bool = False) -> tuple[bool, bool]:
        """Let all processes go on alike: each learns whether one was asked to stop.

        Args:
            due: whether something is due by this process's clock.
            broken: whether it has seen a loss that is no number.

        Returns:
            Whether something is due by the clock of any, and whether any has seen such a loss.
        """
        if self.group.size > 1:
            seen = self.state.samples_seen
            before = seen if self.agreed_samples is None else self.agreed_samples
            stop, due, broken, samples = self.group.agree(self.asked, due, broken, seen - before)
            self.state.samples_seen = self.agreed_samples = before + samples
            self.asked = None
            if stop is not None:
                self._take(stop)
        return due, broken

    def _take(self, stop: Stop) -> None:
        if stop.overtakes(self.stop):
            self.stop = evolve(stop, earlier=self.stop)

    def _path_of(self, part: object) -> str:
        return next((path for path, one in self.parts.named() if one is part), type(part).__name__)

    def elapsed(self) -> float:
        """Return the seconds that the run has been going, set-up included, over all its resumes."""
        return self.watch.seconds()

    def log(self, event: str, metrics: Figures, *, step: int | None = None) -> None:
        """Write figures to ``metrics.jsonl`` and hand those that are numbers to whoever listens.

        Those of ``"train"`` and ``"monitor"`` may wait for a second until there are more to be written together.

        Args:
            event: ``"train"``, ``"validation"``, ``"epoch"``, ``"test"``, or ``"monitor"`` for what a part measures.
            metrics: figures by name, or what gives them, which is called when they are written.
            step: the update that they are of; the last one unless given.
        """
        self.journal.add(event, metrics, self.state.step if step is None else step)

    def alert(
        self,
        type: str,  # noqa: A002 (the documents' word)
        message: str,
        *,
        severity: Severity = "warning",
        about: str = "",
        cooldown: float = 0,
        **details: Any,
    ) -> None:
        """Tell of something that went wrong without ending the run: the parts, ``log.txt`` and ``alerts.jsonl``.

        Args:
            type: what it is about, for programs.
            message: what happened, for people.
            severity: how bad it is.
            about: what it is about among others of its type, such as a layer's name.
            cooldown: hold back others of the same type and ``about`` for so many updates, unless they are more severe;
                ``math.inf`` tells it once, whether or not the run is resumed.
            details: the figures behind it.
        """
        alert = Alert(type, message, severity, self.state.epoch, self.state.step, details)
        self.alerts.tell(alert, about=about, cooldown=cooldown)

    def _pass_on(self, alert: Alert) -> None:
        _logger.log(logging.ERROR if alert.severity == "critical" else logging.WARNING, "%s", alert.message)
        self.store.log_alert(alert.to_dict())
        self.hooks.dovetail_alert(run=self, alert=alert)
