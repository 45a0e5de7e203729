"""The phases of a training: each with an optimizer, a schedule and a length of its own."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen
from torch import nn

from dovetail.config.diagnostics import suggest
from dovetail.config.schema import PhaseSection
from dovetail.kernel.build import BuildError, Part, build
from dovetail.optimizers.groups import trainable_groups
from dovetail.train.context import Plan
from dovetail.train.gradients import Gradients
from dovetail.train.schedule import Schedule

if TYPE_CHECKING:
    import torch

    from dovetail.config.schema import RunConfig
    from dovetail.train.context import Run

_logger: Final = logging.getLogger("dovetail.train")


@frozen(eq=False)
class Phase:
    """One stretch of a training. A run without ``[[phases]]`` has one, as long as itself."""

    optimizer: torch.optim.Optimizer
    #: Clears, clips and applies the gradients of an update.
    gradients: Gradients
    #: How long it is meant to be.
    plan: Plan
    scheduler: Any = None
    schedule: Schedule | None = None
    name: str = ""
    #: After how many epochs or updates of its own it ends; None for one that lasts as long as the run.
    max_epochs: int | None = None
    max_steps: int | None = None
    #: Parameters that stay as they are meanwhile, and those that do not.
    frozen: Sequence[nn.Parameter] = ()
    trained: Sequence[nn.Parameter] = ()


def build_phases(
    config: RunConfig,
    modules: Sequence[nn.Module],
    plan: Plan,
    provided: Mapping[str, Any],
    scaler: torch.amp.GradScaler | None,
) -> list[Phase]:
    """Build every phase, so that what is wrong with the last one is known before the first update.

    Args:
        config: the run's.
        modules: what is trained: the model, and a loss with parameters of its own.
        plan: of the whole run.
        provided: what the run gives to optimizers and schedulers.
        scaler: of half precision.

    Raises:
        BuildError: one cannot be built; the error names its place in the config.
    """
    sections = config.phases or [PhaseSection()]
    plans = Plan.parts_of(plan, [(one.max_epochs, one.max_steps) for one in sections])
    trainable = [one for module in modules for one in module.parameters() if one.requires_grad]
    phases: list[Phase] = []
    for number, (section, length) in enumerate(zip(sections, plans, strict=True)):
        path = f"phases[{number}]" if config.phases else "model"
        frozen = frozen_parameters(modules[0], section.freeze, f"{path}.freeze")
        for one in frozen:
            one.requires_grad_(False)
        part = section.optimizer or config.optimizer
        groups = trainable_groups(modules, part.reserved.get("no_decay") or ())
        for one in trainable:
            one.requires_grad_(True)
        if not groups:
            raise BuildError(path, "there are no parameters to train")
        optimizer = build(part, {**provided, "params": groups})
        if part.registered is None:
            _check_own(optimizer, trainable, part.path)
        training = config.training
        skips = training.nan_policy == "skip"
        gradients = Gradients(
            optimizer,
            max_norm=training.max_grad_norm,
            clip_by=training.clip_by,
            scaler=scaler,
            skip_nonfinite=skips,
        )
        if gradients.asks_again and scaler is not None:
            raise BuildError(part.path, f"{part.name} asks for the loss several times, which fp16 cannot give it")
        if gradients.asks_again and skips:
            message = f"{part.name} asks for the loss several times, so no update of it can be left out"
            raise BuildError("training.nan_policy", message)
        scheduler, schedule = _schedule(config, section.scheduler or config.scheduler, optimizer, length, provided)
        name = section.name or f"{number + 1}, {part.name}"
        apart = set(frozen)
        if phases:
            phases[0].gradients.hand_on(gradients)
        phases.append(
            Phase(
                optimizer=optimizer,
                gradients=gradients,
                plan=length,
                scheduler=scheduler,
                schedule=schedule,
                name=name,
                max_epochs=section.max_epochs,
                max_steps=section.max_steps,
                frozen=frozen,
                trained=[one for one in trainable if one not in apart],
            )
        )
    return phases


def _check_own(optimizer: torch.optim.Optimizer, trainable: Sequence[nn.Parameter], path: str) -> None:
    """Refuse an optimizer, made in Python, of the parameters of something else.

    Raises:
        BuildError: it updates nothing of the run.
    """
    known = set(map(id, trainable))
    if not any(id(one) in known for group in optimizer.param_groups for one in group["params"]):
        message = (
            "none of its parameters is one of the model or the loss that trains here; make it of model.parameters()"
        )
        raise BuildError(path, message)


def _schedule(
    config: RunConfig, part: Part | None, optimizer: torch.optim.Optimizer, plan: Plan, provided: Mapping[str, Any]
) -> tuple[Any, Schedule | None]:
    if part is None:
        return None, None
    every = part.reserved.get("every")
    traits = part.registered.component.traits if part.registered else frozenset()
    per_epoch = every == "epoch" or (every is None and "per_epoch" in traits)
    # In the scheduler's own unit, so that it comes to its end at the end of its phase whichever way it steps.
    given = {
        "optimizer": optimizer,
        "total_steps": plan.max_epochs if per_epoch else plan.total_steps,
        "steps_per_epoch": 1 if per_epoch else plan.steps_per_epoch,
        "max_epochs": plan.max_epochs,
    }
    scheduler = build(part, {**provided, **given})
    monitor = part.reserved.get("monitor") or config.checkpoint.monitor
    return scheduler, Schedule(scheduler, per_epoch=per_epoch, monitor=monitor)


def frozen_parameters(model: nn.Module, patterns: Sequence[str], path: str) -> list[nn.Parameter]:
    """Return the parameters of ``model`` whose names fit one of ``patterns``, in which ``*`` stands for anything.

    Raises:
        BuildError: a pattern fits no name; the error is at ``path``.
    """
    named = dict(model.named_parameters())
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in named):
            raise BuildError(path, f"the model has no parameter '{pattern}'{suggest(pattern, named)}")
    return [one for name, one in named.items() if any(fnmatchcase(name, pattern) for pattern in patterns)]


def enter(run: Run, number: int) -> None:
    """Let the phase at ``number`` (from 0) train from now on; whoever looks at ``run.parts.optimizer`` sees its own.

    What the phase before left behind is dropped: its gradients, and the state of its optimizer.
    """
    state, phase = run.state, run.phases[number]
    if phase.optimizer is not run.parts.optimizer:
        run.gradients.clear()
        run.parts.optimizer.state.clear()
    state.phase, state.phase_epoch, state.phase_step = number, state.epoch, state.step
    set_up(run)


def set_up(run: Run) -> None:
    """Give the run the optimizer and the schedule of the phase in its state, as after loading a checkpoint."""
    phase = run.phases[run.state.phase]
    run.parts.optimizer, run.parts.scheduler = phase.optimizer, phase.scheduler
    run.gradients, run.schedule = phase.gradients, phase.schedule
    for one in phase.trained:
        one.requires_grad_(True)
    for one in phase.frozen:
        one.requires_grad_(False)
    if len(run.phases) > 1:
        _logger.info("phase %d of %d: %s", run.state.phase + 1, len(run.phases), phase.name)


def over(run: Run) -> bool:
    """Say whether the phase under way has come to its end."""
    state, phase = run.state, run.phases[run.state.phase]
    return (phase.max_epochs is not None and state.epoch - state.phase_epoch >= phase.max_epochs) or (
        phase.max_steps is not None and state.step - state.phase_step >= phase.max_steps
    )


def last_over(run: Run) -> bool:
    """Say whether the last phase has come to its end."""
    return run.state.phase == len(run.phases) - 1 and over(run)


def last_step(run: Run) -> float:
    """Return the update after which the phase under way ends at the latest; infinite where updates do not count."""
    limit, own = run.config.training.max_steps, run.phases[run.state.phase].max_steps
    limits: Iterator[int] = (one for one in (limit, None if own is None else run.state.phase_step + own) if one)
    return min(limits, default=float("inf"))
