"""Metrics of training batches, computed on the outputs that training computes anyway."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import torch
from attrs import evolve
from torch import Tensor

from dovetail.distributed.group import ALONE, Group
from dovetail.models.output import ModelOutput
from dovetail.train.errors import TrainingError
from dovetail.train.evaluate import add_figures
from dovetail.train.figures import scalars

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.losses.result import LossResult
    from dovetail.train.context import Run

    ComputeLoss = Callable[[Run, Batch], LossResult]

#: At most so many bytes of batches and outputs are kept to be measured later: little beside a model.
_MOST_BYTES: Final = 1 << 19


class _Kept:
    """A batch to be measured, with the model's outputs for it."""

    __slots__ = ("_tensors", "_versions", "batch", "logits", "size")

    def __init__(self, logits: Tensor, batch: Batch) -> None:
        self.logits, self.batch = logits, batch
        values = (logits, *batch.values())
        self._tensors = [value for value in values if isinstance(value, Tensor)]
        self._versions = [tensor._version for tensor in self._tensors]  # noqa: SLF001 (no public name)
        # A value that is no tensor, such as a dict of inputs, may have any size: the batch is measured at once.
        only_tensors = len(self._tensors) == len(values)
        self.size = sum([tensor.nbytes for tensor in self._tensors]) if only_tensors else _MOST_BYTES + 1

    def check(self) -> None:
        """Check that no tensor was changed in-place since.

        Raises:
            TrainingError: one was.
        """
        if [tensor._version for tensor in self._tensors] != self._versions:  # noqa: SLF001 (no public name)
            raise TrainingError(
                "a batch, or the model's outputs for it, was changed in-place before training.train_metrics measured "
                "it: give each batch new tensors, or set training.train_metrics = false"
            )


class _Snapshot:
    """A point between two kept batches at which the metrics are copied."""

    __slots__ = ("metrics",)

    def __init__(self) -> None:
        self.metrics: Mapping[str, Any] | None = None


class TrainMetrics:
    """Measures each training batch once, and reads nothing from the device until figures are asked for.

    It listens to ``run.forward``, so a trainer's ``compute_loss`` stays unchanged; outputs that ``compute_loss``
    obtains in another way are not measured.

    On the CPU, small batches are kept and measured many at a time, at a fifth of the cost of measuring each within its
    step, when the caches hold everything but the metric. That needs metrics with ``snapshot()``, and batches that are
    not changed meanwhile.
    """

    def __init__(self, run: Run) -> None:
        """Decide whether batches can be kept."""
        self._metrics, self._group = run.parts.train_metrics, run.group
        self._outputs: ModelOutput | None = None
        for metric in self._metrics.values():
            if not hasattr(metric, "snapshot") and hasattr(metric, "as_it_is"):
                message = f"{type(metric).__name__}.as_it_is() is deprecated: rename it to snapshot()"
                warnings.warn(message, DeprecationWarning, stacklevel=2)
        copyable = all(_snapshot_of(metric) for metric in self._metrics.values())
        self._keeps = copyable and run.device.type == "cpu"
        # Whether today's figures can be computed later.
        self._snapshots = copyable and run.group.size == 1
        self._queue: list[_Kept | _Snapshot] = []
        self._bytes = 0
        # The first batch is measured at once, so that a metric that does not accept it fails at the first update.
        self._limit = 0

    def measuring(self, compute_loss: ComputeLoss, run: Run) -> Callable[[Batch], LossResult]:
        """Return a function of a batch that computes the loss and measures the outputs.

        Args:
            compute_loss: a function of a run and a batch.
            run: the run, or a view of it; ``compute_loss`` receives a view whose ``forward`` is listened to.
        """
        self._metrics, forward = run.parts.train_metrics, run.forward
        if not self._metrics:
            return lambda batch: compute_loss(run, batch)

        def listened(batch: Batch) -> ModelOutput:
            self._outputs = outputs = forward(batch)
            return outputs

        view = evolve(run, forward=listened)

        def measured(batch: Batch) -> LossResult:
            self._outputs = None
            result = compute_loss(view, batch)
            outputs: Any = self._outputs  # which listened() may have set
            if outputs is not None:
                kept, self._outputs = _Kept(outputs.logits.detach(), batch), None
                self._queue.append(kept)
                self._bytes += kept.size
                if self._bytes > self._limit:
                    self.measure()
                    self._limit = _MOST_BYTES if self._keeps else 0
            return result

        return measured

    def measure(self) -> None:
        """Measure the kept batches.

        Raises:
            TrainingError: one was changed in-place.
        """
        queue, self._queue, self._bytes = self._queue, [], 0
        with torch.no_grad():
            for item in queue:
                if isinstance(item, _Snapshot):
                    item.metrics = {
                        name: take() for name, metric in self._metrics.items() if (take := _snapshot_of(metric))
                    }
                    continue
                item.check()
                outputs = ModelOutput(item.logits)
                for metric in self._metrics.values():
                    metric.update(outputs, item.batch)

    def figures(self) -> dict[str, float]:
        """Return the figures since the epoch began, such as ``train_accuracy``. Waits for the device."""
        self.measure()
        return _figures(self._metrics, self._group)

    def figures_later(self) -> Callable[[], dict[str, float]]:
        """Return a function that returns today's figures, to be called once waiting for the device does no harm."""
        if not self._snapshots:
            figures = self.figures()
            return lambda: figures
        snapshot = _Snapshot()
        self._queue.append(snapshot)

        def read() -> dict[str, float]:
            if snapshot.metrics is None:
                self.measure()
            return _figures(snapshot.metrics or {})

        return read

    def end_epoch(self) -> dict[str, float]:
        """Return the figures of the epoch, and reset the metrics."""
        figures = self.figures()
        for metric in self._metrics.values():
            metric.reset()
        return figures


def _figures(metrics: Mapping[str, Any], group: Group = ALONE) -> dict[str, float]:
    figures: dict[str, Any] = {}
    add_figures(figures, metrics, "train", group)
    return scalars(figures)


def _snapshot_of(metric: Any) -> Callable[[], Any] | None:
    """Return the metric's ``snapshot`` method, or None. Accepts the method's former name ``as_it_is``."""
    return getattr(metric, "snapshot", None) or getattr(metric, "as_it_is", None)
