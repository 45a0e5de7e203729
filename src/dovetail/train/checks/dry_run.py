"""The dry run: what a run would be, found out with one batch."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

from attrs import frozen

from dovetail.config.api import Config, build_config
from dovetail.config.schema import RunConfig
from dovetail.train.assembly import assemble
from dovetail.train.checks.first_batch import try_evaluation
from dovetail.train.errors import NoBatchesError, describe_error
from dovetail.train.hardware import settings_of
from dovetail.train.modes import start_modes
from dovetail.train.step import UpdateLoop
from dovetail.train.trainer import StandardTrainer
from dovetail.train.workspace import temporary_workspace

if TYPE_CHECKING:
    from dovetail.train.context import Run


@frozen
class DryRun:
    """What a run would be: every part was built, and one batch went forward and backward."""

    device: str
    #: Samples of each split.
    sizes: Mapping[str, int]
    num_classes: int | None
    #: The shape of each tensor of a training batch.
    batch: Mapping[str, tuple[int, ...]]
    #: Trainable parameters of model and loss.
    parameters: int
    epochs: int
    steps_per_epoch: int
    total_steps: int
    #: The loss of the first batch, and the duration of its update.
    loss: float
    seconds_per_step: float
    #: The names of the figures of an evaluation; empty without a validation or test split.
    figures: tuple[str, ...]
    #: What is suspect about the run.
    alerts: tuple[str, ...]


def check(config: RunConfig | Config | str | PathLike[str]) -> DryRun:
    """Build everything that ``config`` describes and train one batch; nothing is recorded.

    Raises:
        ConfigError, PluginError: as for :func:`run`; also if the parts and the batch do not fit each other, or a
            monitored metric does not exist.
        PartError: a part raised in ``dovetail_run_start``.
        TrainingError: the batch cannot be trained on.
    """
    config = build_config(config)
    with temporary_workspace(config) as space, settings_of(config):
        try:
            return dry_run(assemble(config, space.device, space.store, group=space.group, dry=True))
        except Exception as error:
            described = describe_error(error, config)
            if described is error:
                raise
            raise described from error


def dry_run(run: Run) -> DryRun:
    """Train and evaluate one batch of a run that was just built, and that is not used afterwards.

    Raises:
        MisfitError: the parts and the batch do not fit each other, or a monitored metric does not exist.
        PartError: a part raised in ``dovetail_run_start``.
        TrainingError: the batch cannot be trained on.
    """
    run.hooks.dovetail_run_start(run=run)
    start_modes(run.parts.modules())
    own = run.parts.trainer
    trainer = own if isinstance(own, StandardTrainer) else StandardTrainer()
    run.state.epoch = 1
    fetched = next(iter(trainer.batches(run)), None)
    if fetched is None:
        raise NoBatchesError(1)
    batch = trainer.prepare_batch(run, fetched)
    loop = UpdateLoop(trainer, run)
    began = time.monotonic()
    loop.first_step([batch])
    loop.nan_policy.check()
    seconds = time.monotonic() - began
    loss = loop.losses.end_epoch().means("train")["train_loss"]
    figures = try_evaluation(trainer, run)
    return DryRun(
        device=str(run.device),
        sizes=run.data["sizes"],
        num_classes=run.data["num_classes"],
        batch=dict(_shapes("", batch)),
        parameters=run.parts.num_trainable(),
        epochs=run.plan.max_epochs,
        steps_per_epoch=run.plan.steps_per_epoch,
        total_steps=run.plan.total_steps,
        loss=loss,
        seconds_per_step=seconds,
        figures=tuple(figures),
        alerts=tuple(alert.message for alert in run.alerts.alerts),
    )


def _shapes(name: str, value: Any) -> Iterable[tuple[str, tuple[int, ...]]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _shapes(f"{name}.{key}" if name else str(key), inner)
    elif hasattr(value, "shape"):
        yield name, tuple(value.shape)
