"""The run as its parts see it: the one object that hooks and trainers receive."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import torch
from attrs import evolve, field, frozen
from torch import nn

from dovetail.distributed.group import Group
from dovetail.monitor.alerts import Alert, AlertManager, Severity
from dovetail.train.clock import Stopwatch
from dovetail.train.hooks import Hooks
from dovetail.train.metrics_log import Figures, MetricsLog
from dovetail.train.state import Status, Stop, TrainState

if TYPE_CHECKING:
    from dovetail.checkpoint.store import CheckpointStore
    from dovetail.config.schema import RunConfig
    from dovetail.data.batch import Batch
    from dovetail.data.loader import Loader
    from dovetail.models.output import ModelOutput
    from dovetail.record.run_directory import RunDirectory
    from dovetail.spec import Loss
    from dovetail.train.ema import WeightAverage
    from dovetail.train.gradients import Gradients
    from dovetail.train.phases import Phase, Schedule
    from dovetail.train.plan import Plan

_logger: Final = logging.getLogger("dovetail.train")


@frozen(eq=False)
class Loaders:
    """The batches of each split; None where there is no such split."""

    train: Loader
    validation: Loader | None = None
    test: Loader | None = None


@frozen(eq=False)
class Parts:
    """The built components of a run."""

    model: nn.Module
    #: The loss as its factory returned it. ``run.criterion`` computes losses with it.
    loss: Any
    #: The phases of training; ``state.phase`` is the current one.
    phases: Sequence[Phase]
    state: TrainState
    loaders: Loaders
    transforms: Mapping[str, Any] = field(factory=dict)
    metrics: Mapping[str, Any] = field(factory=dict)
    #: A second set of the metrics, for training batches, where ``training.train_metrics`` asks for them.
    train_metrics: Mapping[str, Any] = field(factory=dict)
    callbacks: Mapping[str, Any] = field(factory=dict)
    trackers: Mapping[str, Any] = field(factory=dict)
    trainer: Any = None
    #: The loss scaler of fp16 training; None otherwise.
    scaler: torch.amp.GradScaler | None = None
    #: The moving average of the model's weights, if the run keeps one.
    ema: WeightAverage | None = None

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of the current phase."""
        return self.phases[self.state.phase].optimizer

    @property
    def scheduler(self) -> Any:
        """The learning-rate scheduler of the current phase, or None."""
        return self.phases[self.state.phase].scheduler

    def named(self) -> Iterator[tuple[str, Any]]:
        """Yield every part that may have hooks or state, with its config path, in the order of hook calls."""
        yield "model", self.model
        yield "loss", self.loss
        yield "optimizer", self.optimizer
        for path in ("scheduler", "scaler", "ema", "trainer"):
            if (part := getattr(self, path)) is not None:
                yield path, part
        for table in ("transforms", "metrics", "train_metrics", "callbacks", "trackers"):
            for name, part in getattr(self, table).items():
                yield f"{table}.{name}", part

    def modules(self) -> dict[str, nn.Module]:
        """Return the modules that may have trainable parameters, by config path: the model, and a loss if it is one."""
        candidates = {"model": self.model, "loss": self.loss}
        return {path: part for path, part in candidates.items() if isinstance(part, nn.Module)}

    def parameter_names(self) -> dict[int, str]:
        """Return every parameter's name by its id: the model's own names, those of the loss prefixed with ``loss.``."""
        return {
            id(parameter): name if path == "model" else f"{path}.{name}"
            for path, module in self.modules().items()
            for name, parameter in module.named_parameters()
        }

    def num_trainable(self) -> int:
        """Return the number of parameters that the optimizer trains."""
        return sum(parameter.numel() for group in self.optimizer.param_groups for parameter in group["params"])


@frozen(eq=False)
class Run:
    """A run. Only its ``state`` changes."""

    config: RunConfig
    parts: Parts
    #: The planned length.
    plan: Plan
    #: Facts about the data, for the record: fingerprint, sizes, num_classes, class_names.
    data: Mapping[str, Any]
    device: torch.device
    #: Calls the model with a batch.
    forward: Callable[[Batch], ModelOutput]
    #: Computes the loss of a batch, whatever the signature of the loss.
    criterion: Loss
    #: The run's folder, and its checkpoints.
    store: RunDirectory
    checkpoints: CheckpointStore
    hooks: Hooks = field(factory=Hooks)
    #: The processes that train together.
    group: Group = field(factory=Group)
    #: Started with the run, before its parts were built; in a resumed run it includes the earlier time.
    watch: Stopwatch = field(factory=Stopwatch)
    #: Passes alerts on and suppresses repeated ones.
    alerts: AlertManager = field(factory=AlertManager)
    #: Writes figures to ``metrics.jsonl`` and passes them on; made with the run.
    metrics_log: Any = None

    def __attrs_post_init__(self) -> None:
        """Connect alerts and figures to the run; a copy with other values shares both."""
        if self.metrics_log is None:
            object.__setattr__(self, "metrics_log", MetricsLog(self))
            self.alerts.listen(self._pass_on)

    @property
    def state(self) -> TrainState:
        """The position of training."""
        return self.parts.state

    @property
    def phases(self) -> Sequence[Phase]:
        """The phases of training, each with its optimizer, schedule and length."""
        return self.parts.phases

    @property
    def phase(self) -> Phase:
        """The current phase."""
        return self.phases[self.state.phase]

    @property
    def gradients(self) -> Gradients:
        """Clears, clips and applies the gradients of an update in the current phase."""
        return self.phase.gradients

    @property
    def schedule(self) -> Schedule | None:
        """The schedule of the current phase, or None."""
        return self.phase.schedule

    @property
    def stop(self) -> Stop | None:
        """The request to stop that all processes obey, or None."""
        return self.state.stop

    @property
    def resumed(self) -> Mapping[str, Any] | None:
        """What the checkpoint holds of the training under way, in a resumed run; None in a new one."""
        return self.state.resumed

    def request_stop(self, reason: str, by: object, status: Status = "stopped_early") -> None:
        """Ask for training to end after the current update or validation. The first request holds.

        With several processes, all end after the same update, whichever of them received the request.

        Args:
            reason: why, in one sentence.
            by: who asks: a name, or a part, which is named by its config path.
            status: the status that the run ends with.
        """
        stop = Stop(reason, by if isinstance(by, str) else self._path_of(by), status)
        if self.group.size == 1:
            self._accept(stop)
        elif stop.overrides(self.state.requested):
            self.state.requested = stop

    @property
    def interrupted(self) -> bool:
        """Whether a signal asked this process to stop."""
        requests = (self.state.stop, self.state.requested)
        return any(request is not None and request.status == "interrupted" for request in requests)

    def agree(self, *, due: bool = False, broken: bool = False) -> tuple[bool, bool]:
        """Exchange with the other processes whether to stop, and what each alone knows. A collective.

        Args:
            due: whether something is due by this process's clock.
            broken: whether this process saw a non-finite loss.

        Returns:
            Whether anything is due, and whether a loss was non-finite, in any process.
        """
        state = self.state
        if self.group.size > 1:
            before = state.samples_seen if state.synced_samples is None else state.synced_samples
            own = state.samples_seen - before
            stop, due, broken, samples = self.group.agree(state.requested, due, broken, own)
            state.samples_seen = state.synced_samples = before + samples
            state.requested = None
            if stop is not None:
                self._accept(stop)
        return due, broken

    def _accept(self, stop: Stop) -> None:
        if stop.overrides(self.state.stop):
            self.state.stop = evolve(stop, earlier=self.state.stop)

    def _path_of(self, part: object) -> str:
        return next((path for path, named in self.parts.named() if named is part), type(part).__name__)

    def elapsed(self) -> float:
        """Return the seconds that the run has taken, setup included, over all its resumes."""
        return self.watch.seconds()

    def log(self, event: str, metrics: Figures, *, step: int | None = None) -> None:
        """Write figures to ``metrics.jsonl`` and pass the numbers among them to ``dovetail_log``.

        Figures of ``"train"`` and ``"monitor"`` may wait up to a second, to be written together with others.

        Args:
            event: ``"train"``, ``"validation"``, ``"epoch"``, ``"test"``, or ``"monitor"`` for what a part measures.
            metrics: figures by name, or a function that returns them, called when they are written.
            step: the update that they describe; the last one by default.
        """
        self.metrics_log.add(event, metrics, self.state.step if step is None else step)

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
        """Report a problem that does not end the run: to the parts, ``log.txt`` and ``alerts.jsonl``.

        Args:
            type: the kind of problem, for programs.
            message: what happened, for people.
            severity: how bad it is.
            about: what it concerns among others of its type, such as a layer's name.
            cooldown: suppress others of the same type and ``about`` for so many updates, unless they are more severe;
                ``math.inf`` reports it once, also across resumes.
            details: the figures behind it.
        """
        alert = Alert(type, message, severity, self.state.epoch, self.state.step, details)
        self.alerts.tell(alert, about=about, cooldown=cooldown)

    def _pass_on(self, alert: Alert) -> None:
        _logger.log(logging.ERROR if alert.severity == "critical" else logging.WARNING, "%s", alert.message)
        self.store.log_alert(alert.to_dict())
        self.hooks.dovetail_alert(run=self, alert=alert)
