"""Metrics of the training batches, on the outputs that training computes anyway."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from dovetail.models.output import ModelOutput
from dovetail.train.errors import TrainingError
from dovetail.train.evaluate import add_figures
from dovetail.train.figures import scalars
from dovetail.train.group import ALONE, Group

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.losses.result import LossResult
    from dovetail.train.context import Run

#: So many bytes of batches and outputs at most wait to be measured, which is to be little beside a model.
_MOST_BYTES: Final = 1 << 19


class _Seen:
    """A batch to be measured, and what the model made of it."""

    __slots__ = ("_tensors", "_versions", "batch", "logits", "size")

    def __init__(self, logits: Tensor, batch: Batch) -> None:
        self.logits, self.batch = logits, batch
        values = (logits, *batch.values())
        self._tensors = [one for one in values if isinstance(one, Tensor)]
        self._versions = [one._version for one in self._tensors]  # noqa: SLF001 (no public name)
        # What is no tensor, such as a table of inputs, may be of any size: it does not wait.
        whole = len(self._tensors) == len(values)
        self.size = sum([one.nbytes for one in self._tensors]) if whole else _MOST_BYTES + 1

    def check(self) -> None:
        """Make sure that nothing has been changed since.

        Raises:
            TrainingError: something has.
        """
        if [one._version for one in self._tensors] != self._versions:  # noqa: SLF001 (no public name)
            raise TrainingError(
                "a batch, or the model's outputs for it, was changed in place before training.train_metrics had "
                "measured it: give each batch tensors of its own, or set training.train_metrics = false"
            )


class _Mark:
    """Where somebody asked for the metrics as they are."""

    __slots__ = ("metrics",)

    def __init__(self) -> None:
        self.metrics: Mapping[str, Any] | None = None


class RunningMetrics:
    """Measures each training batch once, and reads nothing back until somebody asks.

    It listens to ``run.forward``, so that a trainer's ``compute_loss`` stays as it is; what that computes without
    ``run.forward`` is not seen.

    On the CPU small batches are kept and measured many in a row, at a fifth of what it costs to measure each amid its
    step, when caches hold everything but the metric. It needs metrics with ``snapshot()``, and batches that nobody
    changes meanwhile.
    """

    def __init__(self, run: Run) -> None:
        """Listen to ``run.forward`` from now on, if there is anything to measure."""
        self._parts, self._forward, self._group = run.parts, run.forward, run.group
        self._outputs: ModelOutput | None = None
        metrics = run.parts.train_metrics
        found = {name: _snapshot_of(metric) for name, metric in metrics.items()}
        self._snapshots = {name: snapshot for name, snapshot in found.items() if snapshot is not None}
        tell = len(self._snapshots) == len(metrics)
        self._patient = tell and run.device.type == "cpu"
        # Whether the figures of now can be told later.
        self._marks = tell and run.group.size == 1
        # Batches to be measured, and in between what asks for the metrics as they are there.
        self._waiting: list[_Seen | _Mark] = []
        self._held = 0
        # Not before one was measured, so that a metric that cannot take the batches says so at the first update.
        self._limit = 0
        if metrics:
            run.forward = self._remember

    def _remember(self, batch: Batch) -> ModelOutput:
        self._outputs = outputs = self._forward(batch)
        return outputs

    def measuring(self, compute_loss: Any) -> Any:
        """Return ``compute_loss``, a function of a batch, that measures what it is given."""

        def measured(batch: Batch) -> LossResult:
            self._outputs = None
            result: LossResult = compute_loss(batch)
            outputs: Any = self._outputs  # which run.forward may have set meanwhile
            if outputs is not None:
                seen, self._outputs = _Seen(outputs.logits.detach(), batch), None
                self._waiting.append(seen)
                self._held += seen.size
                if self._held > self._limit:
                    self.settle()
                    self._limit = _MOST_BYTES if self._patient else 0
            return result

        return measured

    def settle(self) -> None:
        """Measure the batches that wait.

        Raises:
            TrainingError: one has been changed in place.
        """
        waiting, self._waiting, self._held = self._waiting, [], 0
        with torch.no_grad():
            for one in waiting:
                if isinstance(one, _Mark):
                    one.metrics = {name: snapshot() for name, snapshot in self._snapshots.items()}
                    continue
                one.check()
                outputs = ModelOutput(one.logits)
                for metric in self._parts.train_metrics.values():
                    metric.update(outputs, one.batch)

    def figures(self) -> dict[str, float]:
        """Return what was measured since the epoch began, as ``train_accuracy`` and the like. Waits for the device."""
        self.settle()
        return _figures(self._parts.train_metrics, self._group)

    def figures_as_they_are(self) -> Callable[[], dict[str, float]]:
        """Return what gives the figures of now, to be called once it no longer matters to wait for the device."""
        if not self._marks:
            figures = self.figures()
            return lambda: figures
        mark = _Mark()
        self._waiting.append(mark)

        def read() -> dict[str, float]:
            if mark.metrics is None:
                self.settle()
            return _figures(mark.metrics or {})

        return read

    def start_epoch(self) -> dict[str, float]:
        """Return what was measured in the epoch, and begin anew."""
        done = self.figures()
        for metric in self._parts.train_metrics.values():
            metric.reset()
        return done


def _snapshot_of(metric: Any) -> Callable[[], Any] | None:
    """Return the metric's ``snapshot`` method, or None. Accepts the method's former name ``as_it_is``."""
    if hasattr(metric, "snapshot"):
        method: Callable[[], Any] = metric.snapshot
        return method
    former: Callable[[], Any] | None = getattr(metric, "as_it_is", None)
    if former is not None:
        message = f"{type(metric).__name__}.as_it_is() is deprecated: rename it to snapshot()"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
    return former


def _figures(metrics: Mapping[str, Any], group: Group = ALONE) -> dict[str, float]:
    figures: dict[str, Any] = {}
    add_figures(figures, metrics, "train", group)
    return scalars(figures)
