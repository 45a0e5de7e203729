"""Metrics of the training batches, on the outputs that training computes anyway."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from dovetail.models.output import ModelOutput
from dovetail.train.evaluate import add_figures
from dovetail.train.figures import scalars
from dovetail.train.group import ALONE, Group

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.losses.result import LossResult
    from dovetail.train.context import Run


class RunningMetrics:
    """Measures each training batch once, and reads nothing back until somebody asks.

    It listens to ``run.forward``, so that a trainer's ``compute_loss`` stays as it is; what that computes without
    ``run.forward`` is not seen.
    """

    def __init__(self, run: Run) -> None:
        """Listen to ``run.forward`` from now on, if there is anything to measure."""
        self._metrics, self._forward, self._group = run.parts.train_metrics, run.forward, run.group
        self._outputs: ModelOutput | None = None
        if self._metrics:
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
                seen, self._outputs = ModelOutput(outputs.logits.detach()), None
                with torch.no_grad():
                    for metric in self._metrics.values():
                        metric.update(seen, batch)
            return result

        return measured

    def figures(self) -> dict[str, float]:
        """Return what was measured since the epoch began, as ``train_accuracy`` and the like. Waits for the device."""
        return _figures(self._metrics, self._group)

    def figures_as_they_are(self) -> Callable[[], dict[str, float]]:
        """Return what gives the figures of now, to be called once it no longer matters to wait for the device."""
        if self._group.size > 1 or not all(hasattr(metric, "as_it_is") for metric in self._metrics.values()):
            figures = self.figures()
            return lambda: figures
        kept = {name: metric.as_it_is() for name, metric in self._metrics.items()}
        return lambda: _figures(kept)

    def start_epoch(self) -> dict[str, float]:
        """Return what was measured in the epoch, and begin anew."""
        done = self.figures()
        for metric in self._metrics.values():
            metric.reset()
        return done


def _figures(metrics: Mapping[str, Any], group: Group = ALONE) -> dict[str, float]:
    figures: dict[str, Any] = {}
    add_figures(figures, metrics, "train", group)
    return scalars(figures)
