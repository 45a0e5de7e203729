"""What a checkpoint holds, going on from one, and taking the best weights back."""

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
from dovetail.train import phases
from dovetail.train.errors import PartError, TrainingError
from dovetail.train.seeds import rng_state
from dovetail.train.state import Stop
from dovetail.train.together import read_first, shared_out

if TYPE_CHECKING:
    from dovetail.checkpoint.shares import Place
    from dovetail.train.context import Run


def _differs(path: str, part: Any) -> bool:
    """Say whether a part's state is another one in each process, as it has gone through other batches."""
    return path.startswith("train_metrics.") or bool(getattr(part, "state_per_process", False))


def collect_state(run: Run, training: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything that a resumed run needs: each part's state under its config path, and where training is.

    Args:
        run: the run.
        training: what whoever drives the run needs besides; it comes back as ``run.resumed``.
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
        "rng": run.group.gather(rng_state()),
    }
    for path, part in run.parts.named():
        if callable(getattr(part, "state_dict", None)):
            table, _, name = path.rpartition(".")
            try:
                state = part.state_dict()
            except Exception as error:
                raise PartError(path, "state_dict", error) from error
            if _differs(path, part):
                state = run.group.gather(state)
            (tree.setdefault(table, {}) if table else tree)[name] = state
    return tree


def _layout(run: Run) -> dict[str, int]:
    """Return what the position in an epoch is counted in."""
    loader, size = run.parts.loaders.train, run.group.size
    return {
        "processes": size,
        "samples_per_batch": loader.batch_size * size,
        "samples_per_epoch": loader.num_samples,
        "updates_per_epoch": run.plan.steps_per_epoch,
    }


def restore_state(run: Run, tree: Mapping[str, Any]) -> None:
    """Put a run that has just been built where it was when ``tree`` was collected; what it logged later is dropped.

    The random generators follow when training goes on (``run.resumed["rng"]``), so that nothing in between moves them.

    Raises:
        TrainingError: a part does not take its state back; the message names it.
    """
    training = tree["training"]
    run.state.load_state_dict(training["state"])
    _move(run, training["layout"])
    phases.set_up(run)
    for path, part in run.parts.named():
        if callable(getattr(part, "state_dict", None)):
            table, _, name = path.rpartition(".")
            kept = tree.get(table, {}) if table else tree
            if name in kept:
                load = partial(_take_up_each, run, part) if _differs(path, part) else None
                _restore(path, part, shared_out(run, part, kept[name]), load)
            elif table != "trackers":  # a tracker may be new
                raise TrainingError(f"the checkpoint has no state of {path}")
    if run.state.step:  # or a scheduler that steps before the next update warns that there has been none
        run.parts.optimizer._opt_called = True  # type: ignore[attr-defined]  # noqa: SLF001 (where torch notes it)
    run.watch.add(run.state.elapsed)
    run.stop = None if training["stop"] is None else Stop(**training["stop"])
    for path, module in run.parts.modules().items():
        _set_modes(module, training["modes"][path])
    if run.group.leads:
        run.store.rewind(**training["logged"])
    run.alerts.load_state_dict(training["alerts"])
    run.resumed = {**training, "rng": tree["rng"]}


def _modes(module: nn.Module) -> dict[str, Any]:
    """Return what ``state_dict`` leaves out, and a callback may have changed: what is frozen or in evaluation mode."""
    return {
        "frozen": [name for name, one in module.named_parameters() if not one.requires_grad],
        "evaluating": [name for name, one in module.named_modules() if not one.training],
    }


def _set_modes(module: nn.Module, modes: Mapping[str, Any]) -> None:
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in modes["frozen"])
    for name, layer in module.named_modules():
        layer.training = name not in modes["evaluating"]


def _move(run: Run, before: Mapping[str, int]) -> None:
    """Put the position in the epoch where as many samples of it have been trained on, in batches of another size.

    Raises:
        TrainingError: epochs would have other samples or updates.
    """
    now = _layout(run)
    for name in ("samples_per_epoch", "updates_per_epoch"):
        if before[name] != now[name]:
            what = name.replace("_", " ")
            raise TrainingError(
                f"in {plural(before['processes'], 'process')} there were {before[name]} {what}, and in "
                f"{plural(now['processes'], 'process')} there are {now[name]}"
            )
    if before["samples_per_batch"] == now["samples_per_batch"]:
        return  # also where a trainer's own batches are not the loader's
    run.state.batch = moved(run.state.batch, before, now, len(run.parts.loaders.train))


def moved(batch: int, before: Mapping[str, int], now: Mapping[str, int], batches: int) -> int:
    """Return how many batches make up as many samples as ``batch`` did, of ``batches`` in an epoch."""
    # At the end of an epoch the last one may be short.
    return min(math.ceil(batch * before["samples_per_batch"] / now["samples_per_batch"]), batches)


def _restore(path: str, part: Any, state: Any, load: Callable[[Any], object] | None = None) -> None:
    try:
        (load or part.load_state_dict)(state)
        if isinstance(part, torch.optim.Optimizer):
            _keep_dtypes(part, state)
    except Exception as error:
        raise TrainingError(f"{path} does not take its state back: {type(error).__name__}: {error}") from error


def _take_up_each(run: Run, part: Any, states: Sequence[Any]) -> None:
    """Give a part the state of its process; where there were more or fewer, the leader goes on with all of them."""
    if len(states) == run.group.size:
        part.load_state_dict(states[run.group.rank])
        return
    part.merge(states)
    if not run.group.leads:
        part.reset()


def _keep_dtypes(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    """Give the optimizer's tensors the dtype they were saved in; torch has cast them to that of their parameter."""
    for group, kept in zip(optimizer.param_groups, saved["param_groups"], strict=True):
        for parameter, number in zip(group["params"], kept["params"], strict=True):
            for name, value in saved["state"].get(number, {}).items():
                loaded = optimizer.state[parameter][name]
                if isinstance(value, torch.Tensor) and loaded.dtype != value.dtype:
                    optimizer.state[parameter][name] = value.to(loaded.device)


def restore_best(run: Run) -> None:
    """Give model, average and loss the weights of the best checkpoint that is whole; without one they keep theirs."""
    evaluated = {"model": run.parts.model} | _evaluated_besides(run)

    def read(path: Path, *place: Place) -> dict[str, Any]:
        # The optimizer's state beside the model may be large: it is read only where something is besides.
        if [*evaluated] == ["model"]:
            return {"model": read_model(path, *place)}
        saved = read_checkpoint(path, *place)
        return {name: saved[name] for name in evaluated}

    found = read_first(run, [one.path for one in run.checkpoints.ranked()], read)
    for name, state in (found[1] if found else {}).items():
        part = evaluated[name]
        part.load_state_dict(shared_out(run, part, state))


def _evaluated_besides(run: Run) -> dict[str, Any]:
    loss, ema = run.parts.loss, run.parts.ema
    besides: dict[str, Any] = {} if ema is None else {"ema": ema}
    if isinstance(loss, nn.Module) and loss.state_dict():
        besides["loss"] = loss
    return besides
