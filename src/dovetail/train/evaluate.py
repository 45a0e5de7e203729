"""Evaluation: the loss and the metrics of one split."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from dovetail.data.batch import batch_size
from dovetail.distributed.group import ALONE, Group
from dovetail.train.loss_log import LossTape, add_up
from dovetail.train.precision import autocasting
from dovetail.train.seeds import kept_rng

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.spec.protocols import Metric
    from dovetail.train.context import Run
    from dovetail.train.trainer import StandardTrainer


def evaluate(
    trainer: StandardTrainer, run: Run, batches: Iterable[Batch], prefix: str, *, told: bool = True
) -> dict[str, Any] | None:
    """Return the mean loss, its parts and every metric over ``batches``, or None if the run shall end at once.

    Where an average of the weights is kept, it is the average that is looked at, unless ``training.ema_validate`` says
    otherwise.
    Training does not notice: random numbers that are drawn here are not missing there.

    Args:
        trainer: its ``evaluation_step`` computes a batch.
        run: the run.
        batches: the split's batches; of several processes, each has some of them.
        prefix: begins the names: ``"val"`` gives ``val_loss``, ``val_accuracy`` …
        told: whether parts hear of each batch of a validation.
    """
    tape, metrics = LossTape(run.device), run.parts.metrics
    step = autocasting(trainer.evaluation_step, run.config.training.precision, run.device)
    for metric in metrics.values():
        metric.reset()
    average = run.parts.ema
    weights = contextlib.nullcontext() if average is None or not average.validated else average.applied()
    tell = (run.hooks.dovetail_validation_batch or None) if told and prefix == "val" else None
    with torch.no_grad(), evaluating(run.parts.model, run.parts.loss), weights, kept_rng():
        for raw, counts in _in_step(batches, run.group):
            if run.stop is not None and run.stop.at_once:
                return None
            batch = trainer.prepare_batch(run, raw)
            outputs, result = step(run, batch)
            if not counts:
                continue
            tape.add(result, batch_size(batch))
            for metric in metrics.values():
                metric.update(outputs, batch)
            if tell is not None:
                tell(run=run, batch=batch, outputs=outputs)
    figures: dict[str, Any] = dict(add_up(run.group.gather(tape.start_epoch())).means(prefix))
    add_figures(figures, metrics, prefix, run.group)
    if told and not math.isfinite(figures.get(f"{prefix}_loss", 0.0)):
        _tell(run, prefix, figures[f"{prefix}_loss"])
    return figures


def _tell(run: Run, prefix: str, loss: float) -> None:
    split, name = {"val": "validation"}.get(prefix, prefix), f"{prefix}_loss"
    unranked = ", and no checkpoint is the best by it" if run.config.checkpoint.monitor == name else ""
    run.alert(
        "nonfinite_evaluation",
        f"{name} is {loss}{unranked}: a sample of the {split} split holds NaN or huge values, or the model makes such "
        "of it. training.nan_policy looks at training alone",
        about=prefix,
        cooldown=math.inf,
    )


def _in_step(batches: Iterable[Batch], group: Group) -> Iterator[tuple[Batch, bool]]:
    """Yield the batches, and whether they count.

    Where a model is shared out, all processes must call it as often: those that have had their batches take one that
    was there before, and leave out what comes of it.
    """
    if group.mesh is None:
        yield from ((one, True) for one in batches)
        return
    left: Iterator[Batch] = iter(batches)
    spare: Any = None
    while (there := _how_many(batch := next(left, None), group)) > 0:
        if spare is None:
            # Of batches taken in turns, the first one is the leader's.
            spare = batch if there == group.size else group.share(batch)
        yield (spare, False) if batch is None else (batch, True)


def _how_many(batch: Batch | None, group: Group) -> int:
    return int(group.add_up(torch.tensor(batch is not None, dtype=torch.int64)))


def add_figures(figures: dict[str, Any], metrics: Mapping[str, Metric], prefix: str, group: Group = ALONE) -> None:
    """Add what metrics have measured, in all processes together, to ``figures``, as ``{prefix}_{name}``."""
    for name, metric in metrics.items():
        for key, value in _compute(metric, group).items():
            # Two metrics of one kind report under one key: the second is told apart by its name in the run file.
            full = f"{prefix}_{key}"
            figures[full if full not in figures else f"{prefix}_{name}_{key}"] = value


def _compute(metric: Any, group: Group) -> Mapping[str, Any]:
    if group.size == 1:
        alone: Mapping[str, Any] = metric.compute()
        return alone
    own = metric.state_dict()
    metric.merge(group.gather(tree_map(_on_cpu, own)))
    together: Mapping[str, Any] = metric.compute()
    metric.load_state_dict(own)
    return together


def _on_cpu(value: Any) -> Any:
    return value.cpu() if isinstance(value, torch.Tensor) else value


@contextlib.contextmanager
def evaluating(*objects: object) -> Iterator[None]:
    """Put modules into evaluation mode, and afterwards each of their layers back into the mode it was in."""
    modules = [one for one in objects if isinstance(one, nn.Module)]
    frozen = [layer for module in modules for layer in module.modules() if not layer.training]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for module in modules:
            module.train()
        for layer in frozen:
            layer.training = False
