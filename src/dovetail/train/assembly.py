"""From a config to the parts of a run, built in order: each may ask for what those before it made known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from attrs import field, frozen
from torch import nn

from dovetail.checkpoint.manager import CheckpointManager
from dovetail.config.diagnostics import ConfigError, Problem
from dovetail.config.structure import origin_of
from dovetail.data.loader import Loader, make_loader
from dovetail.data.seeding import KeptGlobals, seed_globals
from dovetail.data.split import SplitName, Splits, split
from dovetail.data.transforms import fit_transforms
from dovetail.kernel.build import BuildError, Part, build
from dovetail.losses.adapt import as_loss
from dovetail.optimizers.groups import trainable_groups
from dovetail.train.context import Loaders, Parts, Plan, Run
from dovetail.train.copying import CheckpointCopier
from dovetail.train.device import DeviceError, resolve_device
from dovetail.train.figures import direction
from dovetail.train.forward import Forward
from dovetail.train.gradients import Gradients
from dovetail.train.hooks import Hooks
from dovetail.train.precision import make_scaler
from dovetail.train.schedule import Schedule

if TYPE_CHECKING:
    from dovetail.config.schema import RunConfig
    from dovetail.track.run_directory import RunDirectory


def choose_device(config: RunConfig) -> torch.device:
    """Return the device that the config asks for.

    Raises:
        ConfigError: it is not there, or the config asks for several processes.
    """
    hardware = config.hardware
    if hardware.devices > 1 or hardware.strategy != "none":
        message = 'training on several devices is not there yet; leave devices = 1 and strategy = "none"'
        raise refusal(config, "hardware.devices" if hardware.devices > 1 else "hardware.strategy", message)
    try:
        return resolve_device(hardware.device)
    except DeviceError as error:
        raise refusal(config, "hardware.device", str(error)) from None


def refusal(config: RunConfig, path: str, message: str) -> ConfigError:
    """Return the error that refuses a setting, at the place where it is written."""
    return ConfigError([Problem(origin_of(config.tree, tuple(path.split("."))), path, message)])


def assemble(
    config: RunConfig, device: torch.device, store: RunDirectory, listeners: Sequence[tuple[str, object]] = ()
) -> Run:
    """Build every part of a run, and the run.

    Args:
        config: the resolved config.
        device: where to train.
        store: the run's folder.
        listeners: further objects with lifecycle hooks, as (name, object): those named ``"record"`` come before the config's
            parts, all others after them.

    Raises:
        BuildError: a part cannot be built; the error names its place in the config.
        PluginError: a part's target cannot be imported, or a part has a misspelt hook.
    """
    data = Data.build(config, device)
    provided = dict(data.provided)
    model = _module(build(config.model, provided)).to(device)
    loss = build(config.loss, provided)
    if isinstance(loss, nn.Module):
        loss = loss.to(device)
    criterion = _explained("loss", lambda: as_loss(loss))
    modules = [model, loss] if isinstance(loss, nn.Module) else [model]
    groups = trainable_groups(modules, config.optimizer.reserved.get("no_decay") or ())
    if not groups:
        raise BuildError("model", "it has no parameters to train")
    optimizer = build(config.optimizer, {**provided, "params": groups})

    training = config.training
    plan = Plan.make(
        len(data.loaders.train),
        accumulate=training.accumulate,
        max_epochs=training.max_epochs,
        max_steps=training.max_steps,
    )
    scheduler, schedule = _schedule(config, optimizer, plan, provided)
    parts = Parts(
        model=model,
        loss=loss,
        optimizer=optimizer,
        loaders=data.loaders,
        scheduler=scheduler,
        transforms=data.transforms,
        metrics={name: build(part, provided) for name, part in config.metrics.items()},
        callbacks={name: build(part, provided) for name, part in config.callbacks.items()},
        trackers={name: build(part, provided) for name, part in config.trackers.items()},
        trainer=build(config.trainer, provided),
        scaler=make_scaler(training.precision, device),
    )
    if config.checkpoint.copy_to is not None:
        listeners = [*listeners, ("checkpoint.copy_to", CheckpointCopier(build(config.checkpoint.copy_to, {})))]
    first = [one for one in listeners if one[0] == "record"]
    return Run(
        config=config,
        parts=parts,
        plan=plan,
        data=data.facts,
        device=device,
        forward=Forward(model, compiled=config.hardware.compile),
        criterion=criterion,
        gradients=Gradients(optimizer, max_norm=training.max_grad_norm, scaler=parts.scaler),
        store=store,
        checkpoints=_checkpoints(config, store),
        schedule=schedule,
        hooks=Hooks([*first, *parts.named(), *(one for one in listeners if one not in first)]),
    )


@frozen(eq=False)
class Data:
    """The data of a run: batches of each split, and what they say about themselves."""

    loaders: Loaders
    transforms: Mapping[str, Any]
    #: What parts may ask for: ``num_classes``, ``class_counts``, ``input_shape``, ``vocab_size``, ``seed``.
    provided: Mapping[str, Any]
    #: For the record: fingerprint, sizes, num_classes, class_names.
    facts: Mapping[str, Any] = field(factory=dict)

    @classmethod
    def build(cls, config: RunConfig, device: torch.device) -> Data:
        """Load, split, and make the loaders.

        Raises:
            BuildError: the data cannot be used as the config says.
        """
        seed = config.run.seed
        dataset = build(config.data, {"seed": seed})
        splits = _explained("data.split", lambda: split(dataset, config.data.reserved.get("split"), seed))
        transforms = {name: build(part, {}) for name, part in config.transforms.items()}
        used: dict[SplitName, list[Any]] = {
            name: [transforms[one] for one, part in config.transforms.items() if name in _splits_of(part)]
            for name in ("train", "validation", "test")
        }
        with KeptGlobals():
            seed_globals(seed)
            _explained("transforms", lambda: fit_transforms(used["train"], splits.train))
        num_classes = _num_classes(splits)
        collator = build(config.collator, {"num_classes": num_classes})

        def loader(name: SplitName, samples: Any) -> Loader:
            training = name == "train"
            size = config.loader.batch_size if training else config.loader.eval_batch_size or config.loader.batch_size
            return _explained(
                "loader",
                lambda: make_loader(
                    samples,
                    collator,
                    batch_size=min(size, len(samples)) if not training else size,
                    shuffle=training and config.loader.shuffle,
                    seed=seed,
                    num_workers=config.loader.num_workers,
                    pin_memory=device.type == "cuda" and config.loader.pin_memory is not False,
                    drop_last=training and config.loader.drop_last,
                    transforms=used[name],
                ),
            )

        loaders = {name: loader(name, samples) for name, samples in splits}
        train = splits.train
        targets = getattr(train, "targets", None)
        counted = num_classes is not None and targets is not None
        provided = {
            "seed": seed,
            "num_classes": num_classes,
            "class_counts": np.bincount(targets, minlength=num_classes).tolist() if counted else None,
            "input_shape": _explained("data", lambda: _input_shape(train, collator, used["train"], seed)),
            "vocab_size": getattr(train, "vocab_size", None),
        }
        facts = {
            "fingerprint": getattr(train, "fingerprint", None),
            "sizes": {name: len(samples) for name, samples in splits},
            "num_classes": num_classes,
            "class_names": list(names) if (names := getattr(train, "class_names", None)) is not None else None,
        }
        return cls(Loaders(**loaders), transforms, provided, facts)


def _explained(path: str, make: Any) -> Any:
    """Call ``make``; what it says about its input becomes an error at ``path``."""
    try:
        return make()
    except (BuildError, MemoryError):
        raise
    except (ValueError, TypeError, LookupError, OSError) as error:
        raise BuildError(path, str(error) or type(error).__name__) from error


def _splits_of(part: Part) -> Sequence[str]:
    chosen = part.reserved.get("splits")
    if chosen is not None:
        return list(chosen)
    everywhere = part.registered is not None and "every_split" in part.registered.component.traits
    return ["train", "validation", "test"] if everywhere else ["train"]


def _num_classes(splits: Splits) -> int | None:
    """Return the number of classes that the data say they have, or that their whole labels count."""
    if hasattr(splits.train, "num_classes"):
        known: int | None = splits.train.num_classes
        return known
    labels = [np.asarray(one) for _, part in splits if (one := getattr(part, "targets", None)) is not None]
    if not labels or any(one.dtype.kind not in "iu" or one.ndim != 1 for one in labels):
        return None
    return int(max(one.max(initial=-1) for one in labels)) + 1


def _input_shape(train: Any, collator: Any, transforms: Sequence[Any], seed: int) -> tuple[int, ...] | None:
    """Return the shape of one sample's input as the model will see it; None where inputs are a dict."""
    own = getattr(train, "input_shape", None)
    if own is not None and not transforms:
        return tuple(own)
    first = next(iter(make_loader(train, collator, batch_size=1, seed=seed, transforms=transforms)))
    inputs = first.get("inputs")
    return tuple(inputs.shape[1:]) if isinstance(inputs, torch.Tensor) else None


def _module(model: Any) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise BuildError("model", f"a model is a torch.nn.Module, got {type(model).__name__}")
    return model


def _schedule(
    config: RunConfig, optimizer: torch.optim.Optimizer, plan: Plan, provided: Mapping[str, Any]
) -> tuple[Any, Schedule | None]:
    part = config.scheduler
    if part is None:
        return None, None
    every = part.reserved.get("every")
    traits = part.registered.component.traits if part.registered else frozenset()
    per_epoch = every == "epoch" or (every is None and "per_epoch" in traits)
    # In the scheduler's own unit, so that it comes to its end at the end of the run whichever way it steps.
    given = {
        "optimizer": optimizer,
        "total_steps": plan.max_epochs if per_epoch else plan.total_steps,
        "steps_per_epoch": 1 if per_epoch else plan.steps_per_epoch,
        "max_epochs": plan.max_epochs,
    }
    scheduler = build(part, {**provided, **given})
    monitor = part.reserved.get("monitor") or config.checkpoint.monitor
    return scheduler, Schedule(scheduler, per_epoch=per_epoch, monitor=monitor)


def _checkpoints(config: RunConfig, store: RunDirectory) -> CheckpointManager:
    section = config.checkpoint
    return CheckpointManager(
        store.checkpoints,
        keep_best=section.keep_best,
        keep_last=section.keep_last,
        monitor=section.monitor,
        mode=direction(section.monitor, section.mode),
    )
