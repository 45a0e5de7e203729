"""The phases of training, each with an optimizer, a schedule and a length of its own."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen
from torch import nn

from dovetail.config.diagnostics import suggest
from dovetail.config.freeze import parts_of
from dovetail.config.schema import PhaseSection
from dovetail.kernel.build import BuildError, Part, build
from dovetail.optimizers.groups import trainable_groups
from dovetail.train.checks.monitored import monitored_direction
from dovetail.train.errors import TrainingError
from dovetail.train.figures import missing_metric
from dovetail.train.gradients import Gradients
from dovetail.train.modes import still_layers
from dovetail.train.plan import Plan

if TYPE_CHECKING:
    import torch

    from dovetail.config.schema import RunConfig
    from dovetail.train.context import Run

_logger: Final = logging.getLogger("dovetail.train")


class Schedule:
    """Steps a learning-rate scheduler, once per optimizer update or once per epoch."""

    def __init__(
        self,
        scheduler: Any,
        *,
        per_epoch: bool = False,
        monitor: str = "val_loss",
        path: str = "scheduler",
        mode_said: bool = False,
    ) -> None:
        """Wrap a scheduler.

        Args:
            scheduler: a torch ``LRScheduler``, or any object with ``step()``.
            per_epoch: step at the end of each epoch rather than after each update.
            monitor: the metric for a scheduler whose ``step`` takes ``metrics``; such a scheduler steps per epoch.
            path: its config path.
            mode_said: whether the run file says which direction of the metric is better.
        """
        self._scheduler = scheduler
        #: Whether it steps on a metric, as a plateau scheduler does.
        self.reads_metrics = "metrics" in inspect.signature(scheduler.step).parameters
        #: The name of that metric.
        self.monitor = monitor
        self.path, self.mode_said = path, mode_said
        self.per_epoch = per_epoch or self.reads_metrics

    def after_update(self) -> None:
        """Step; only for a schedule that steps per update."""
        self._scheduler.step()

    def after_epoch(self, metrics: Mapping[str, float]) -> None:
        """Step, if this schedule steps per epoch.

        A plateau scheduler that monitors a figure of validation does not step after an epoch without one.

        Raises:
            TrainingError: ``metrics`` lacks the metric that a plateau scheduler monitors.
        """
        if not self.per_epoch:
            return
        if not self.reads_metrics:
            self._scheduler.step()
        elif self.monitor in metrics:
            self._scheduler.step(metrics[self.monitor])
        elif not self.monitor.startswith("val_") or any(name.startswith("val_") for name in metrics):
            raise TrainingError(f"scheduler.monitor: {missing_metric(self.monitor, metrics)}")


@frozen(eq=False)
class Phase:
    """One phase of training. A run without ``[[phases]]`` has a single one."""

    optimizer: torch.optim.Optimizer
    #: Clears, clips and applies the gradients of an update.
    gradients: Gradients
    #: The planned length.
    plan: Plan
    scheduler: Any = None
    schedule: Schedule | None = None
    name: str = ""
    #: The epochs or updates after which the phase ends; None for one that lasts until the run ends.
    max_epochs: int | None = None
    max_steps: int | None = None
    #: The parameters that are frozen in this phase, and those that are trained.
    frozen: Sequence[nn.Parameter] = ()
    trained: Sequence[nn.Parameter] = ()
    #: The frozen layers with running statistics, which are in evaluation mode in this phase.
    still: Sequence[nn.Module] = ()


def build_phases(  # noqa: PLR0917 (in the order in which they are made)
    config: RunConfig,
    modules: Sequence[nn.Module],
    plan: Plan,
    provided: Mapping[str, Any],
    scaler: torch.amp.GradScaler | None,
    metrics: Mapping[str, Any],
) -> list[Phase]:
    """Build every phase before the first update, so that a mistake in the last one costs no training.

    Args:
        config: the run's config.
        modules: the modules to train: the model, and a loss with parameters.
        plan: the plan of the whole run.
        provided: the values that the run provides to optimizers and schedulers.
        scaler: the loss scaler of fp16 training, or None.
        metrics: the built metrics, by name: a plateau scheduler may monitor one.

    Raises:
        BuildError: a phase cannot be built; the error names its place in the config.
    """
    sections = config.phases or [PhaseSection()]
    plans = Plan.of_phases(plan, [(section.max_epochs, section.max_steps) for section in sections])
    phases: list[Phase] = []
    for number, (section, length) in enumerate(zip(sections, plans, strict=True)):
        path = f"phases[{number}]" if config.phases else "model"
        phases.append(_build_phase(config, section, f"{number + 1}", path, modules, length, provided, scaler, metrics))
        phases[0].gradients.share_observers(phases[-1].gradients)
    return phases


def _build_phase(  # noqa: PLR0917 (a step of build_phases, whose names these are)
    config: RunConfig,
    section: PhaseSection,
    number: str,
    path: str,
    modules: Sequence[nn.Module],
    plan: Plan,
    provided: Mapping[str, Any],
    scaler: torch.amp.GradScaler | None,
    metrics: Mapping[str, Any],
) -> Phase:
    trainable = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
    frozen = frozen_parameters(modules[0], section.freeze, f"{path}.freeze")
    part, training = section.optimizer or config.optimizer, config.training
    for parameter in frozen:
        parameter.requires_grad_(False)
    groups = trainable_groups(modules, part.reserved.get("no_decay") or ())
    for parameter in trainable:
        parameter.requires_grad_(True)
    if not groups:
        raise BuildError(path, "there are no parameters to train")
    optimizer = build(part, {**provided, "params": groups})
    if part.registered is None:
        _check_parameters(optimizer, trainable, part.path)
    skips = training.nan_policy == "skip"
    gradients = Gradients(
        optimizer, max_norm=training.max_grad_norm, clip_by=training.clip_by, scaler=scaler, skip_nonfinite=skips
    )
    if gradients.needs_closure_reevaluation and scaler is not None:
        raise BuildError(
            part.path, f"{part.name} evaluates the loss several times per update, which fp16 does not allow"
        )
    if gradients.needs_closure_reevaluation and skips:
        raise BuildError(
            "training.nan_policy", f"{part.name} evaluates the loss several times per update, so none can be skipped"
        )
    scheduler, schedule = _schedule(config, section.scheduler or config.scheduler, optimizer, plan, provided, metrics)
    excluded = set(frozen)
    return Phase(
        optimizer=optimizer,
        gradients=gradients,
        plan=plan,
        scheduler=scheduler,
        schedule=schedule,
        name=section.name or f"{number}, {part.name}",
        max_epochs=section.max_epochs,
        max_steps=section.max_steps,
        frozen=frozen,
        still=still_layers(modules[0], section.freeze, frozen),
        trained=[parameter for parameter in trainable if parameter not in excluded],
    )


def _check_parameters(optimizer: torch.optim.Optimizer, trainable: Sequence[nn.Parameter], path: str) -> None:
    """Refuse an optimizer from Python that holds the parameters of something else.

    Raises:
        BuildError: it updates nothing of the run.
    """
    known = set(map(id, trainable))
    if not any(id(parameter) in known for group in optimizer.param_groups for parameter in group["params"]):
        raise BuildError(
            path, "none of its parameters belongs to the model or the loss of this run; pass it model.parameters()"
        )


def _schedule(  # noqa: PLR0917 (a step of build_phases, whose names these are)
    config: RunConfig,
    part: Part | None,
    optimizer: torch.optim.Optimizer,
    plan: Plan,
    provided: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> tuple[Any, Schedule | None]:
    if part is None:
        return None, None
    every = part.reserved.get("every")
    traits = part.registered.component.traits if part.registered else frozenset()
    per_epoch = every == "epoch" or (every is None and "per_epoch" in traits)
    # In the scheduler's own unit, so that it finishes with its phase whether it steps per update or per epoch.
    lengths = {
        "optimizer": optimizer,
        "total_steps": plan.max_epochs if per_epoch else plan.total_steps,
        "steps_per_epoch": 1 if per_epoch else plan.steps_per_epoch,
        "max_epochs": plan.max_epochs,
    }
    # A plateau scheduler may be inside another scheduler, such as a warm-up.
    schedulers = [each for each in parts_of(part) if each.kind == "scheduler"]
    monitor = next(filter(None, (each.reserved.get("monitor") for each in schedulers)), config.checkpoint.monitor)
    mode = monitored_direction(config, metrics, monitor) or "min"
    scheduler = build(part, {**provided, **lengths, "mode": mode})
    mode_said = any("mode" in each.options for each in schedulers)
    schedule = Schedule(scheduler, per_epoch=per_epoch, monitor=monitor, path=part.path, mode_said=mode_said)
    return scheduler, schedule


def frozen_parameters(model: nn.Module, patterns: Sequence[str], path: str) -> list[nn.Parameter]:
    """Return the parameters of ``model`` whose names match one of ``patterns`` (``*`` matches anything).

    Raises:
        BuildError: a pattern matches no name; the error is at ``path``.
    """
    named = dict(model.named_parameters())
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in named):
            raise BuildError(path, f"the model has no parameter '{pattern}'{suggest(pattern, named)}")
    return [parameter for name, parameter in named.items() if any(fnmatchcase(name, each) for each in patterns)]


def enter_phase(run: Run, number: int) -> None:
    """Make the phase at ``number``, counted from 0, the current one.

    Drops the gradients of the phase before, and its optimizer's state.
    """
    state, before = run.state, run.phase
    if run.phases[number].optimizer is not before.optimizer:
        before.gradients.clear()
        before.optimizer.state.clear()
    state.phase, state.phase_epoch, state.phase_step = number, state.epoch, state.step
    apply_phase(run)


def apply_phase(run: Run) -> None:
    """Freeze and unfreeze parameters as the current phase says."""
    phase = run.phase
    for parameter in phase.trained:
        parameter.requires_grad_(True)
    for parameter in phase.frozen:
        parameter.requires_grad_(False)
    if len(run.phases) > 1:
        _logger.info("phase %d of %d: %s", run.state.phase + 1, len(run.phases), phase.name)


def phase_over(run: Run) -> bool:
    """Return whether the current phase has reached its end."""
    state, phase = run.state, run.phase
    return (phase.max_epochs is not None and state.epoch - state.phase_epoch >= phase.max_epochs) or (
        phase.max_steps is not None and state.step - state.phase_step >= phase.max_steps
    )


def training_over(run: Run) -> bool:
    """Return whether training ends here: a stop was requested, or the last phase or a limit of the run is reached."""
    state, training = run.state, run.config.training
    return (
        state.stop is not None
        or (state.phase == len(run.phases) - 1 and phase_over(run))
        or (training.max_epochs is not None and state.epoch >= training.max_epochs)
        or (training.max_steps is not None and state.step >= training.max_steps)
    )


def last_step(run: Run) -> float:
    """Return the update after which the current phase ends at the latest; infinity if updates are not limited."""
    own = run.phase.max_steps
    limits = (run.config.training.max_steps, None if own is None else run.state.phase_step + own)
    return min((limit for limit in limits if limit), default=float("inf"))
