"""The content of a checkpoint: collecting the state of a run, restoring it, and restoring the best weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from dovetail.checkpoint.format import read_checkpoint, read_model
from dovetail.record.formatting import plural
from dovetail.train.checkpoints.sharded import read_first, sharded_like
from dovetail.train.errors import PartError, TrainingError
from dovetail.train.modes import evaluating_layers, set_evaluating
from dovetail.train.phases import apply_phase
from dovetail.train.seeds import rng_state
from dovetail.train.state import Stop

if TYPE_CHECKING:
    from dovetail.checkpoint.sharded import Allocate
    from dovetail.train.context import Run


def collect_state(run: Run, training: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything that a resumed run needs: each part's state under its config path, and where training is.

    Args:
        run: the run.
        training: what the session needs besides; a resumed run finds it in ``run.resumed``.
    """
    stop = run.stop.kept if run.stop else None
    tree: dict[str, Any] = {
        "training": {
            **training,
            "state": run.state.state_dict(),
            "stop": None if stop is None else {"reason": stop.reason, "by": stop.by, "status": stop.status},
            "logged": run.store.log_sizes(),
            "alerts": run.alerts.state_dict(),
            "layout": _layout(run),
            "modes": {path: _modes(module) for path, module in run.parts.modules().items()},
        },
        "rng": run.group.all_gather(rng_state()),
    }
    for path, part in run.parts.named():
        if callable(getattr(part, "state_dict", None)):
            table, _, name = path.rpartition(".")
            try:
                state = part.state_dict()
            except Exception as error:
                raise PartError(path, "state_dict", error) from error
            if _is_per_process(path, part):
                state = run.group.all_gather(state)
            (tree.setdefault(table, {}) if table else tree)[name] = state
    return tree


def _is_per_process(path: str, part: Any) -> bool:
    """Return whether each process has another state of the part, since it has seen other batches."""
    return path.startswith("train_metrics.") or bool(getattr(part, "state_per_process", False))


def _layout(run: Run) -> dict[str, int]:
    """Return the units in which the position in an epoch is counted."""
    loader, size = run.parts.loaders.train, run.group.size
    return {
        "processes": size,
        "samples_per_batch": loader.batch_size * size,
        "samples_per_epoch": loader.num_samples,
        "updates_per_epoch": run.plan.steps_per_epoch,
    }


def restore_state(run: Run, tree: Mapping[str, Any]) -> None:
    """Restore a run that was just built to the state that ``tree`` holds; drop what it logged later.

    The random generators are restored when training continues (``run.resumed["rng"]``), so that nothing in between
    advances them.

    Raises:
        TrainingError: a part does not accept its state; the message names the part.
    """
    training = tree["training"]
    run.state.load_state_dict(training["state"])
    _convert_position(run, training["layout"])
    apply_phase(run)
    for path, part in run.parts.named():
        if callable(getattr(part, "state_dict", None)):
            table, _, name = path.rpartition(".")
            saved = tree.get(table, {}) if table else tree
            if name in saved:
                load = partial(_load_own, run, part) if _is_per_process(path, part) else None
                _load(path, part, sharded_like(run, part, saved[name]), load)
            elif table != "trackers":  # a tracker may be new
                raise TrainingError(f"the checkpoint has no state of {path}")
    if run.state.step:  # otherwise a scheduler that steps before the next update warns that there was none
        run.parts.optimizer._opt_called = True  # type: ignore[attr-defined]  # noqa: SLF001 (where torch notes it)
    run.watch.add(run.state.elapsed)
    run.state.stop = None if training["stop"] is None else Stop(**training["stop"])
    for path, module in run.parts.modules().items():
        _set_modes(module, training["modes"][path])
    if run.group.leads:
        run.store.rewind(**training["logged"])
    run.alerts.load_state_dict(training["alerts"])
    run.state.resumed = {**training, "rng": tree["rng"]}


def _modes(module: nn.Module) -> dict[str, Any]:
    """Return what ``state_dict`` omits, and a callback may change: frozen parameters, layers in evaluation mode."""
    return {
        "frozen": [name for name, parameter in module.named_parameters() if not parameter.requires_grad],
        "evaluating": evaluating_layers(module),
    }


def _set_modes(module: nn.Module, modes: Mapping[str, Any]) -> None:
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in modes["frozen"])
    set_evaluating(module, modes["evaluating"])


def _convert_position(run: Run, before: Mapping[str, int]) -> None:
    """Convert the position in the epoch to the present batch size, so that as many samples have been trained on.

    Raises:
        TrainingError: epochs would have another number of samples or updates.
    """
    now = _layout(run)
    for name in ("samples_per_epoch", "updates_per_epoch"):
        if before[name] != now[name]:
            what = name.replace("_", " ")
            raise TrainingError(
                f"with {plural(before['processes'], 'process')} there were {before[name]} {what}, but with "
                f"{plural(now['processes'], 'process')} there are {now[name]}"
            )
    if before["samples_per_batch"] == now["samples_per_batch"]:
        return  # also where a trainer's own batches are not the loader's
    run.state.batch = converted_position(run.state.batch, before, now, len(run.parts.loaders.train))


def converted_position(batch: int, before: Mapping[str, int], now: Mapping[str, int], batches: int) -> int:
    """Return how many batches hold as many samples as ``batch`` did, of ``batches`` in an epoch."""
    # The last batch of an epoch may be smaller.
    return min(math.ceil(batch * before["samples_per_batch"] / now["samples_per_batch"]), batches)


def _load(path: str, part: Any, state: Any, load: Callable[[Any], object] | None = None) -> None:
    try:
        (load or part.load_state_dict)(state)
        if isinstance(part, torch.optim.Optimizer):
            _keep_dtypes(part, state)
    except Exception as error:
        raise TrainingError(f"{path} does not accept its saved state: {type(error).__name__}: {error}") from error


def _load_own(run: Run, part: Any, states: Sequence[Any]) -> None:
    """Load the state of this process; after a change of world size, rank 0 merges the states of all."""
    if len(states) == run.group.size:
        part.load_state_dict(states[run.group.rank])
        return
    part.merge(states)
    if not run.group.leads:
        part.reset()


def _keep_dtypes(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    """Give the optimizer's tensors their saved dtype; torch casts them to the dtype of the parameter."""
    for group, kept in zip(optimizer.param_groups, saved["param_groups"], strict=True):
        for parameter, number in zip(group["params"], kept["params"], strict=True):
            for name, value in saved["state"].get(number, {}).items():
                loaded = optimizer.state[parameter][name]
                if isinstance(value, torch.Tensor) and loaded.dtype != value.dtype:
                    optimizer.state[parameter][name] = value.to(loaded.device)


def restore_best(run: Run) -> None:
    """Load the weights of the best intact checkpoint into model, moving average and loss, if there is one."""
    evaluated = {"model": run.parts.model} | _evaluated_besides(run)

    def read(path: Path, *allocate: Allocate) -> dict[str, Any]:
        # The optimizer's state may be large: the whole checkpoint is read only if more than the model is needed.
        if [*evaluated] == ["model"]:
            return {"model": read_model(path, *allocate)}
        saved = read_checkpoint(path, *allocate)
        return {name: saved[name] for name in evaluated}

    found = read_first(run, [checkpoint.path for checkpoint in run.checkpoints.ranked()], read)
    for name, state in (found[1] if found else {}).items():
        part = evaluated[name]
        part.load_state_dict(sharded_like(run, part, state))


def _evaluated_besides(run: Run) -> dict[str, Any]:
    loss, ema = run.parts.loss, run.parts.ema
    besides: dict[str, Any] = {} if ema is None else {"ema": ema}
    if isinstance(loss, nn.Module) and loss.state_dict():
        besides["loss"] = loss
    return besides
