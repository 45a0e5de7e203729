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
from dovetail.train.hardware import autocasting
from dovetail.train.loss_log import LossLog, merge_sums
from dovetail.train.seeds import preserve_rng

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.spec import Metric
    from dovetail.train.context import Run
    from dovetail.train.trainer import StandardTrainer


def evaluate(
    trainer: StandardTrainer, run: Run, batches: Iterable[Batch], prefix: str, *, silent: bool = False
) -> dict[str, Any] | None:
    """Return the mean loss, its parts and every metric over ``batches``, or None if the run is asked to end at once.

    If the run keeps a moving average of the weights, the average is evaluated, unless ``training.ema_validate`` is
    false. The random generators of training are left as they were.

    Args:
        trainer: its ``evaluation_step`` evaluates a batch.
        run: the run.
        batches: the split's batches; with several processes, each has some of them.
        prefix: the prefix of the names: ``"val"`` gives ``val_loss``, ``val_accuracy`` …
        silent: call no hooks, and raise no alerts.
    """
    losses, metrics = LossLog(run.device), run.parts.metrics
    step = autocasting(trainer.evaluation_step, run.config.training.precision, run.device)
    for metric in metrics.values():
        metric.reset()
    average = run.parts.ema
    weights = contextlib.nullcontext() if average is None or not average.validated else average.applied()
    on_batch = (run.hooks.dovetail_validation_batch or None) if prefix == "val" and not silent else None
    with torch.no_grad(), evaluating(run.parts.model, run.parts.loss), weights, preserve_rng():
        for raw, counts in _in_lockstep(batches, run.group):
            if run.stop is not None and run.stop.at_once:
                return None
            batch = trainer.prepare_batch(run, raw)
            outputs, result = step(run, batch)
            if not counts:
                continue
            losses.add(result, batch_size(batch))
            for metric in metrics.values():
                metric.update(outputs, batch)
            if on_batch is not None:
                on_batch(run=run, batch=batch, outputs=outputs)
    figures: dict[str, Any] = dict(merge_sums(run.group.all_gather(losses.end_epoch())).means(prefix))
    add_figures(figures, metrics, prefix, run.group)
    if not silent and not math.isfinite(figures.get(f"{prefix}_loss", 0.0)):
        _alert(run, prefix, figures[f"{prefix}_loss"])
    return figures


def _alert(run: Run, prefix: str, loss: float) -> None:
    split, name = {"val": "validation"}.get(prefix, prefix), f"{prefix}_loss"
    unranked = ", so no checkpoint can be the best by it" if run.config.checkpoint.monitor == name else ""
    run.alert(
        "nonfinite_evaluation",
        f"{name} is {loss}{unranked}: a sample of the {split} split contains NaN or huge values, or the model produces "
        "them. training.nan_policy applies to training only",
        about=prefix,
        cooldown=math.inf,
    )


def _in_lockstep(batches: Iterable[Batch], group: Group) -> Iterator[tuple[Batch, bool]]:
    """Yield the batches, and whether they count.

    Every rank must call a sharded model equally often: a rank that has run out of batches repeats one, which does not
    count.
    """
    if group.mesh is None:
        yield from ((batch, True) for batch in batches)
        return
    left: Iterator[Batch] = iter(batches)
    spare: Any = None
    while (present := _count(batch := next(left, None), group)) > 0:
        if spare is None:
            # Ranks take batches in turns, so rank 0 has the first one.
            spare = batch if present == group.size else group.broadcast(batch)
        yield (spare, False) if batch is None else (batch, True)


def _count(batch: Batch | None, group: Group) -> int:
    return int(group.all_reduce(torch.tensor(batch is not None, dtype=torch.int64)))


def add_figures(figures: dict[str, Any], metrics: Mapping[str, Metric], prefix: str, group: Group = ALONE) -> None:
    """Add the metrics' values, merged over all processes, to ``figures`` as ``{prefix}_{name}``."""
    for name, metric in metrics.items():
        for key, value in _compute(metric, group).items():
            # Two metrics of one type report the same key: the second is named after its table in the run file.
            full = f"{prefix}_{key}"
            figures[full if full not in figures else f"{prefix}_{name}_{key}"] = value


def _compute(metric: Any, group: Group) -> Mapping[str, Any]:
    if group.size == 1:
        alone: Mapping[str, Any] = metric.compute()
        return alone
    own = metric.state_dict()
    metric.merge(group.all_gather(tree_map(_to_cpu, own)))
    merged: Mapping[str, Any] = metric.compute()
    metric.load_state_dict(own)
    return merged


def _to_cpu(value: Any) -> Any:
    return value.cpu() if isinstance(value, torch.Tensor) else value


@contextlib.contextmanager
def evaluating(*objects: object) -> Iterator[None]:
    """Put modules into evaluation mode, and at the end restore the mode of each layer."""
    modules = [part for part in objects if isinstance(part, nn.Module)]
    in_evaluation = [layer for module in modules for layer in module.modules() if not layer.training]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for module in modules:
            module.train()
        for layer in in_evaluation:
            layer.training = False
