"""From a config to the parts of a run, built in order: each may ask for what those before it made known."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn

from dovetail.checkpoint.errors import CheckpointError
from dovetail.checkpoint.listing import folders
from dovetail.checkpoint.manager import CheckpointManager
from dovetail.config.diagnostics import ConfigError, Problem
from dovetail.config.freeze import parts_of
from dovetail.config.tree import origin_of
from dovetail.kernel.build import BuildError, build
from dovetail.losses.adapt import as_loss
from dovetail.train.clock import Stopwatch
from dovetail.train.context import Parts, Plan, Run
from dovetail.train.data import Data, explained
from dovetail.train.device import DeviceError, resolve_device
from dovetail.train.figures import direction
from dovetail.train.forward import Forward
from dovetail.train.group import ALONE, Group
from dovetail.train.hooks import Hooks
from dovetail.train.phases import Phase, build_phases, set_up
from dovetail.train.plain_hooks import plain_hooks
from dovetail.train.precision import make_scaler
from dovetail.train.ranks import own_gpu, size_of_group
from dovetail.train.tracking import tracker_guards

if TYPE_CHECKING:
    from dovetail.config.schema import RunConfig, TrainingSection
    from dovetail.data.loader import Loader
    from dovetail.record.run_directory import RunDirectory
    from dovetail.train.ema import WeightAverage

_logger: Final = logging.getLogger("dovetail.train")


def choose_device(config: RunConfig) -> torch.device:
    """Return the device that the config asks for.

    Raises:
        ConfigError: it is not there, or there are not as many processes as the config wants.
    """
    hardware, started = config.hardware, size_of_group()
    if hardware.devices != started:
        message = (
            f"{hardware.devices} devices need as many processes, and {started} were started"
            f": 'dovetail run --nproc {hardware.devices}', torchrun or srun start them"
        )
        raise refusal(config, "hardware.devices", message)
    try:
        device = resolve_device(hardware.device)
        if device == torch.device("cuda") and started > 1:
            return resolve_device(f"cuda:{own_gpu(torch.cuda.device_count())}")
    except DeviceError as error:
        raise refusal(config, "hardware.device", str(error)) from None
    return device


def refusal(config: RunConfig, path: str, message: str) -> ConfigError:
    """Return the error that refuses a setting, at the place where it is written."""
    steps = (int(index) if index else name for index, name in re.findall(r"\[(\d+)\]|([^.\[]+)", path))
    return ConfigError([Problem(origin_of(config.tree, tuple(steps)), path, message)])


def assemble(
    config: RunConfig,
    device: torch.device,
    store: RunDirectory,
    listeners: Sequence[tuple[str, object]] = (),
    group: Group = ALONE,
    *,
    watch: Stopwatch | None = None,
) -> Run:
    """Build every part of a run, and the run.

    Args:
        config: the resolved config.
        device: where to train.
        store: the run's folder.
        listeners: further objects with lifecycle hooks, as (name, object). One named ``"record"`` is called before the
            config's parts, all others after them.
        group: the processes that train together; trackers and copies of checkpoints are the leader's alone.
        watch: started with the run; one is started now unless given.

    Raises:
        BuildError: a part cannot be built; the error names its place in the config.
        PluginError: a part's target cannot be imported, or a part has a misspelt hook.
    """
    watch = watch or Stopwatch()
    data = Data.build(config, device, group)
    provided = dict(data.provided)
    model = _module(build(config.model, provided))
    _init_weights(config, model, store)
    model = model.to(device)
    loss = build(config.loss, provided)
    if isinstance(loss, nn.Module):
        loss = loss.to(device)
    criterion = explained("loss", lambda: as_loss(loss))
    training = config.training
    if training.gradient_checkpointing:
        from dovetail.train.recompute import recompute_activations

        explained("training.gradient_checkpointing", lambda: recompute_activations(model))
    _look_at_coupling(config, group)
    trainer = build(config.trainer, provided)
    plan = Plan.make(
        _num_batches(trainer, data.loaders.train),
        accumulate=training.accumulate,
        max_epochs=training.max_epochs,
        max_steps=training.max_steps,
    )
    scaler = make_scaler(training.precision, device)
    modules = {"model": model} | ({"loss": loss} if isinstance(loss, nn.Module) else {})
    if group.mesh is not None:
        from dovetail.train.shards import shard

        explained("hardware.strategy", partial(shard, modules, group.mesh))
    phases = build_phases(config, list(modules.values()), plan, provided, scaler)
    parts = Parts(
        model=model,
        loss=loss,
        optimizer=phases[0].optimizer,
        loaders=data.loaders,
        scheduler=phases[0].scheduler,
        transforms=data.transforms,
        metrics={name: build(part, provided) for name, part in config.metrics.items()},
        train_metrics={
            # An object from Python is copied: each of the two counts its own batches.
            name: copy.deepcopy(build(part, provided))
            for name, part in config.metrics.items()
            if training.train_metrics
        },
        callbacks={name: build(part, provided) for name, part in config.callbacks.items()},
        trackers={name: build(part, provided) for name, part in config.trackers.items() if group.leads},
        trainer=trainer,
        scaler=scaler,
        ema=_average(model, training),
    )
    if group.size > 1:
        _refuse_apart(parts, phases, group)
    if config.checkpoint.copy_to is not None and group.leads:
        from dovetail.train.copying import CheckpointCopier

        copier = CheckpointCopier(build(config.checkpoint.copy_to, {}), config.checkpoint.copy_patience)
        listeners = [*listeners, ("checkpoint.copy_to", copier)]
    first = [one for one in listeners if one[0] == "record"]
    run = Run(
        config=config,
        parts=parts,
        plan=plan,
        data=data.facts,
        device=device,
        forward=Forward(model, compiled=config.hardware.compile),
        criterion=criterion,
        phases=phases,
        gradients=phases[0].gradients,
        store=store,
        checkpoints=_checkpoints(config, store),
        schedule=phases[0].schedule,
        group=group,
        watch=watch,
        hooks=Hooks(
            [
                *first,
                *((path, plain_hooks(part) if path.startswith("callbacks.") else part) for path, part in parts.named()),
                *((path, plain_hooks(one)) for path, one in listeners if (path, one) not in first),
            ],
            tracker_guards(config),
        ),
    )
    set_up(run)
    return run


def _look_at_coupling(config: RunConfig, group: Group) -> None:
    """Refuse to accumulate a loss whose batches may not add up; warn of it in several processes.

    Raises:
        BuildError: it does not claim to be additive, and ``training.accumulate_any_loss`` is not set.
    """
    training, losses = config.training, [one for one in parts_of(config.loss) if one.kind == "loss"]
    coupling = [one.name for one in losses if one.registered and "additive" not in one.registered.component.traits]
    if not coupling:
        return
    if training.accumulate > 1 and not training.accumulate_any_loss:
        raise BuildError(
            "training.accumulate",
            f"loss '{coupling[0]}' does not claim to be additive, so {training.accumulate} batches need not add up to "
            "a large one, as where it compares samples with one another: a larger loader.batch_size is one, and "
            "training.accumulate_any_loss = true accumulates them all the same",
        )
    if group.size > 1:
        _logger.warning(
            "loss '%s' does not claim to be additive: in %d processes it may differ from that of one large batch",
            coupling[0],
            group.size,
        )


def _init_weights(config: RunConfig, model: nn.Module, store: RunDirectory) -> None:
    """Give the model the weights that ``training.init_from`` names; a run that has checkpoints goes on from them."""
    training = config.training
    if training.init_from is None or (store.checkpoints.is_dir() and folders(store.checkpoints)):
        return
    from dovetail.checkpoint.weights import load_weights

    try:
        load_weights(model, training.init_from, allow_pt=training.init_from_pt)
    except CheckpointError as error:
        raise BuildError("training.init_from", str(error)) from error


def _average(model: nn.Module, training: TrainingSection) -> WeightAverage | None:
    if training.ema_decay is None:
        return None
    from dovetail.train.ema import WeightAverage

    return WeightAverage(model, training.ema_decay, validated=training.ema_validate)


def _refuse_apart(parts: Parts, phases: Sequence[Phase], group: Group) -> None:
    """Refuse what several processes cannot do together.

    Raises:
        BuildError: a metric cannot be added up, or an optimizer cannot work on shares of a model.
    """
    for name, metric in parts.metrics.items():
        if not all(hasattr(metric, one) for one in ("state_dict", "load_state_dict", "merge")):
            message = (
                "it lacks state_dict(), load_state_dict(state) or merge(states), so what several processes measured "
                "cannot be put together"
            )
            raise BuildError(f"metrics.{name}", message)
    if group.mesh is not None and any(one.gradients.asks_again for one in phases):
        message = (
            "an optimizer that asks for the loss several times, such as L-BFGS, works on all weights together, and "
            'cannot on shares of them; strategy = "ddp" gives each process the whole model'
        )
        raise BuildError("hardware.strategy", message)


def _num_batches(trainer: Any, loader: Loader) -> int:
    """Return how many batches an epoch has: as the trainer says, if it is one that can.

    Raises:
        BuildError: it says that there are none.
    """
    if not hasattr(trainer, "num_batches"):
        return len(loader)
    batches: int = explained("trainer", lambda: trainer.num_batches(loader))
    if batches < 1:
        raise BuildError("trainer", f"num_batches() says that an epoch has {batches} batches; it has at least one")
    return batches


def _module(model: Any) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise BuildError("model", f"a model is a torch.nn.Module, got {type(model).__name__}")
    return model


def _checkpoints(config: RunConfig, store: RunDirectory) -> CheckpointManager:
    section = config.checkpoint
    return CheckpointManager(
        store.checkpoints,
        keep_best=section.keep_best,
        keep_last=section.keep_last,
        monitor=section.monitor,
        mode=direction(section.monitor, section.mode),
    )
