"""From a config to the parts of a run, built in order: each part may ask for what earlier ones made known."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn

from dovetail.checkpoint.listing import checkpoint_folders
from dovetail.checkpoint.manifest import CheckpointError
from dovetail.checkpoint.store import CheckpointStore
from dovetail.config.freeze import parts_of
from dovetail.distributed.environment import own_gpu, world_size
from dovetail.distributed.group import ALONE, Group
from dovetail.kernel.build import BuildError, build
from dovetail.losses.adapt import as_loss
from dovetail.train.checks.monitored import monitored_direction
from dovetail.train.clock import Stopwatch
from dovetail.train.context import Parts, Run
from dovetail.train.data import Data
from dovetail.train.errors import build_at, config_error
from dovetail.train.forward import Forward
from dovetail.train.hardware import DeviceError, make_scaler, resolve_device
from dovetail.train.hooks import Hooks, tracker_guards
from dovetail.train.phases import Phase, apply_phase, build_phases
from dovetail.train.plain_hooks import plain_hooks
from dovetail.train.plan import Plan
from dovetail.train.state import TrainState

if TYPE_CHECKING:
    from dovetail.config.schema import RunConfig, TrainingSection
    from dovetail.data.loader import Loader
    from dovetail.kernel.build import Part
    from dovetail.record.run_directory import RunDirectory
    from dovetail.train.ema import WeightAverage

_logger: Final = logging.getLogger("dovetail.train")

#: Parts with effects on the outside world, whose hooks a dry run does not call.
_OUTWARD: Final = ("callbacks", "trackers")


def choose_device(config: RunConfig) -> torch.device:
    """Return the device that the config asks for.

    Raises:
        ConfigError: the device is not available, or the number of processes is not the one that the config asks for.
    """
    hardware, started = config.hardware, world_size()
    if hardware.devices != started:
        raise config_error(
            config,
            "hardware.devices",
            f"{hardware.devices} devices need as many processes, but {started} were started; start them with "
            f"'dovetail run --nproc {hardware.devices}', torchrun or srun",
        )
    try:
        device = resolve_device(hardware.device)
        if device == torch.device("cuda") and started > 1:
            return resolve_device(f"cuda:{own_gpu(torch.cuda.device_count())}")
    except DeviceError as error:
        raise config_error(config, "hardware.device", str(error)) from None
    return device


def assemble(
    config: RunConfig,
    device: torch.device,
    store: RunDirectory,
    group: Group = ALONE,
    *,
    watch: Stopwatch | None = None,
    recorder: object = None,
    listeners: Iterable[object] = (),
    dry: bool = False,
) -> Run:
    """Build every part of a run, and the run.

    Args:
        config: the resolved config.
        device: where to train.
        store: the run's folder.
        group: the processes that train together; only rank 0 has trackers and copies checkpoints.
        watch: the stopwatch of the run; by default a new one.
        recorder: an object whose lifecycle hooks are called before those of the config's parts.
        listeners: objects whose lifecycle hooks are called after them.
        dry: call no hooks of callbacks and trackers.

    Raises:
        BuildError: a part cannot be built; the error names its place in the config.
        PluginError: a part's target cannot be imported, or a part has a misspelt hook.
    """
    watch, training = watch or Stopwatch(), config.training
    data = Data.build(config, device, group)
    provided = dict(data.provided)
    model = _build_model(config, provided, store, device)
    loss = build(config.loss, provided)
    if isinstance(loss, nn.Module):
        loss = loss.to(device)
    criterion = build_at("loss", lambda: as_loss(loss))
    _check_additive(config, group)
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
        from dovetail.distributed.sharding import shard

        build_at("hardware.strategy", partial(shard, modules, group.mesh))
    metrics = _build_table(config.metrics, provided)
    parts = Parts(
        model=model,
        loss=loss,
        phases=build_phases(config, list(modules.values()), plan, provided, scaler, metrics),
        state=TrainState(),
        loaders=data.loaders,
        transforms=data.transforms,
        metrics=metrics,
        # Deep copies: a live object from Python would otherwise count the batches of both splits.
        train_metrics=copy.deepcopy(_build_table(config.metrics, provided)) if training.train_metrics else {},
        callbacks=_build_table(config.callbacks, provided),
        trackers=_build_table(config.trackers, provided) if group.leads else {},
        trainer=trainer,
        scaler=scaler,
        ema=_average(model, training),
    )
    if group.size > 1:
        _check_distributed(parts, parts.phases, group)
    run = Run(
        config=config,
        parts=parts,
        plan=plan,
        data=data.facts,
        device=device,
        forward=Forward(model, compiled=config.hardware.compile),
        criterion=criterion,
        store=store,
        checkpoints=_checkpoints(config, store, metrics),
        group=group,
        watch=watch,
        hooks=_hooks(config, parts, recorder, listeners, group, dry=dry),
    )
    apply_phase(run)
    return run


def _build_model(
    config: RunConfig, provided: Mapping[str, Any], store: RunDirectory, device: torch.device
) -> nn.Module:
    model = build(config.model, provided)
    if not isinstance(model, nn.Module):
        raise BuildError("model", f"a model must be a torch.nn.Module, got {type(model).__name__}")
    _init_weights(config, model, store)
    model = model.to(device)
    if config.training.gradient_checkpointing:
        from dovetail.models.recompute import recompute_activations

        build_at("training.gradient_checkpointing", lambda: recompute_activations(model))
    return model


def _build_table(table: Mapping[str, Part], provided: Mapping[str, Any]) -> dict[str, Any]:
    return {name: build(part, provided) for name, part in table.items()}


def _hooks(
    config: RunConfig, parts: Parts, recorder: object, listeners: Iterable[object], group: Group, *, dry: bool
) -> Hooks:
    named = [] if recorder is None else [("record", recorder)]
    for path, part in parts.named():
        if not (dry and path.partition(".")[0] in _OUTWARD):
            named.append((path, plain_hooks(part) if path.startswith("callbacks.") else part))
    named += [(type(listener).__name__.lower(), plain_hooks(listener)) for listener in listeners]
    if config.checkpoint.copy_to is not None and group.leads and not dry:
        from dovetail.train.checkpoints.copy import CheckpointCopier

        copier = CheckpointCopier(build(config.checkpoint.copy_to, {}), config.checkpoint.copy_patience)
        named.append(("checkpoint.copy_to", copier))
    return Hooks(named, tracker_guards(config))


def _check_additive(config: RunConfig, group: Group) -> None:
    """Refuse to accumulate a loss that may not be additive; warn about it with several processes.

    Raises:
        BuildError: the loss does not claim to be additive, and ``training.accumulate_any_loss`` is not set.
    """
    training = config.training
    losses = [part for part in parts_of(config.loss) if part.kind == "loss"]
    coupling = [part.name for part in losses if part.registered and "additive" not in part.registered.component.traits]
    if not coupling:
        return
    if training.accumulate > 1 and not training.accumulate_any_loss:
        raise BuildError(
            "training.accumulate",
            f"loss '{coupling[0]}' does not claim to be additive, so {training.accumulate} batches may not add up to a "
            "large one, for instance because it compares samples with one another: use a larger loader.batch_size, or "
            "set training.accumulate_any_loss = true to accumulate anyway",
        )
    if group.size > 1:
        _logger.warning(
            "loss '%s' does not claim to be additive: with %d processes it may differ from the loss of one large batch",
            coupling[0],
            group.size,
        )


def _init_weights(config: RunConfig, model: nn.Module, store: RunDirectory) -> None:
    """Load the weights of ``training.init_from``, unless the run has checkpoints to continue from."""
    training = config.training
    if training.init_from is None or (store.checkpoints.is_dir() and checkpoint_folders(store.checkpoints)):
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


def _check_distributed(parts: Parts, phases: Sequence[Phase], group: Group) -> None:
    """Refuse parts that several processes cannot use.

    Raises:
        BuildError: a metric cannot be merged, or an optimizer cannot work on a sharded model.
    """
    for name, metric in parts.metrics.items():
        if not all(hasattr(metric, method) for method in ("state_dict", "load_state_dict", "merge")):
            raise BuildError(
                f"metrics.{name}",
                "it lacks state_dict(), load_state_dict(state) or merge(states), so the results of several processes "
                "cannot be merged",
            )
    if group.mesh is not None and any(phase.gradients.needs_closure_reevaluation for phase in phases):
        raise BuildError(
            "hardware.strategy",
            "an optimizer that evaluates the loss several times per update, such as L-BFGS, needs all weights in one "
            'process and cannot use shards; set strategy = "ddp"',
        )


def _num_batches(trainer: Any, loader: Loader) -> int:
    """Return the number of batches per epoch: the trainer's answer if it has one, else the loader's.

    Raises:
        BuildError: the trainer's answer is below 1.
    """
    if not hasattr(trainer, "num_batches"):
        return len(loader)
    batches: int = build_at("trainer", lambda: trainer.num_batches(loader))
    if batches < 1:
        raise BuildError("trainer", f"num_batches() returned {batches}; an epoch has at least one batch")
    return batches


def _checkpoints(config: RunConfig, store: RunDirectory, metrics: Mapping[str, Any]) -> CheckpointStore:
    section = config.checkpoint
    return CheckpointStore(
        store.checkpoints,
        keep_best=section.keep_best,
        keep_last=section.keep_last,
        monitor=section.monitor,
        # A figure that nothing is known of is a part of the loss, or the first batch refuses it.
        mode=monitored_direction(config, metrics, section.monitor) or "min",
    )
