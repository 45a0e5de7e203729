"""Epochs of training and validation on their own, with any model and any loader, outside of a run."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol, get_args

import torch
from attrs import field, frozen
from torch import Tensor, nn

from dovetail.data.batch import Batch, as_batch, batch_size
from dovetail.data.transfer import to_device
from dovetail.losses.adapt import as_loss
from dovetail.losses.peft import PEFTAwareLoss
from dovetail.losses.strategy import StrategyAsLoss
from dovetail.models.output import ModelOutput
from dovetail.pieces.accumulator import GradientAccumulator
from dovetail.train.errors import NonFiniteLossError, TrainingError
from dovetail.train.evaluate import evaluating
from dovetail.train.forward import Forward
from dovetail.train.gradients import Gradients
from dovetail.train.hardware import Precision, autocasting, make_scaler, resolve_device
from dovetail.train.loss_log import LossLog
from dovetail.train.modes import enter_training_mode
from dovetail.train.phases import Schedule

if TYPE_CHECKING:
    from dovetail.losses.result import LossResult
    from dovetail.spec import Loss, Metric

_logger: Final = logging.getLogger("dovetail.train")

#: Is told the loss of each batch, and the number of the batch in its epoch, counted from 0.
MetricsCallback = Callable[[float, int], object]


class Monitor(Protocol):
    """What looks at gradients before they are clipped, such as a ``GradientMonitor``."""

    #: Look at every so many updates.
    check_interval: int

    def check_step(self, model: nn.Module) -> Any:
        """Return how the gradients are; ``has_exploding_gradients`` ends the epoch."""


@frozen
class EpochResult:
    """What an epoch came to."""

    epoch: int
    #: The mean over what the loss counts: samples, tokens, class weight. Not a number where nothing counted.
    loss: float
    #: The terms of the loss, and the figures of the metrics.
    metrics: dict[str, Any] = field(factory=dict)
    epoch_duration_seconds: float = 0.0
    num_samples: int = 0
    num_batches: int = 0
    #: At the end of the epoch; not a number for a validation.
    learning_rate: float = math.nan


class _Epoch:
    """What training and validation have in common: the loss, the metrics, and the batches."""

    def __init__(self, loss_strategy: Any, precision: Precision, metrics: Mapping[str, Metric] | None) -> None:
        if precision not in get_args(Precision):
            raise ValueError(f"precision: {precision!r} is not one of {', '.join(get_args(Precision))}")
        is_strategy = hasattr(loss_strategy, "compute_loss") and not isinstance(loss_strategy, nn.Module)
        self._loss: Any = loss_strategy
        self._criterion: Loss = StrategyAsLoss(loss_strategy) if is_strategy else as_loss(loss_strategy)
        self._precision = precision
        self._metrics = dict(metrics or {})

    def _begin(self, model: nn.Module, device: torch.device) -> LossLog:
        model.to(device)
        if isinstance(self._loss, nn.Module):
            self._loss.to(device)
        for metric in self._metrics.values():
            metric.reset()
        self._forward = Forward(model)
        self._step = autocasting(self._compute, self._precision, device)
        return LossLog(device)

    def _compute(self, batch: Batch) -> tuple[ModelOutput, LossResult]:
        outputs = self._forward(batch)
        return outputs, self._criterion(outputs, batch)

    def _take(self, outputs: ModelOutput, batch: Batch) -> None:
        for metric in self._metrics.values():
            metric.update(outputs, batch)

    def _result(self, epoch: int, tape: LossLog, began: float, batches: int, rate: float = math.nan) -> EpochResult:
        sums = tape.end_epoch()
        if sums.samples == 0:
            raise TrainingError(f"epoch {epoch} had no batches")
        means = sums.means("train")
        loss = means.pop("train_loss")
        figures: dict[str, Any] = {name.removeprefix("train_"): value for name, value in means.items()}
        for metric in self._metrics.values():
            figures.update(metric.compute())
        return EpochResult(epoch, loss, figures, time.monotonic() - began, sums.samples, batches, rate)


class TrainingLoop(_Epoch):
    """Trains a model for an epoch: gradients accumulated with exact averages, clipped once, watched.

    Args:
        gradient_accumulator: how many batches make an update, and how their gradients are clipped.
        gradient_monitor: looks at the gradients every ``check_interval`` updates, before they are clipped; None for
            nobody.
        loss_strategy: any loss: a ``LossStrategy``, one of a run, or a plain ``(input, target)`` one such as torch's.
        gradient_clip_norm: what gradients are clipped to; where the accumulator says so too, the lower limit holds, and
            they are clipped once.
        precision: ``"fp32"``, ``"bf16"`` or ``"fp16"`` of the forward pass; the scaler of the last stays with the loop.
        metrics: what is measured besides the loss, on the outputs that training sees.
        schedule_per: when the scheduler steps, ``"update"`` or ``"epoch"``. One that reads a metric is left to the
            caller.
    """

    def __init__(
        self,
        gradient_accumulator: GradientAccumulator,
        gradient_monitor: Monitor | None,
        loss_strategy: Any,
        gradient_clip_norm: float | None = 1.0,
        *,
        precision: Precision = "fp32",
        metrics: Mapping[str, Metric] | None = None,
        schedule_per: str = "update",
    ) -> None:
        super().__init__(loss_strategy, precision, metrics)
        if schedule_per not in {"update", "epoch"}:
            raise ValueError(f"schedule_per: 'update' or 'epoch', got {schedule_per!r}")
        if gradient_clip_norm is not None and not gradient_clip_norm > 0:
            raise ValueError(f"gradient_clip_norm must be above 0, or None, got {gradient_clip_norm}")
        self.gradient_accumulator, self.gradient_monitor = gradient_accumulator, gradient_monitor
        limits = [one for one in (gradient_clip_norm, gradient_accumulator.max_gradient_norm) if one is not None]
        self._limit = min(limits, default=None)
        self._schedule_per = schedule_per
        self._scaler: torch.amp.GradScaler | None = None
        self._updates = 0

    def run_epoch(  # noqa: PLR0917 (the documents' signature)
        self,
        epoch: int,
        model: nn.Module,
        train_loader: Iterable[Any],
        optimizer: torch.optim.Optimizer,
        scheduler: Any = None,
        device: torch.device | str = "cpu",
        metrics_callback: MetricsCallback | None = None,
    ) -> EpochResult:
        """Train on every batch once, in training mode.

        Layers in evaluation mode inside a model in training mode, such as a frozen batch norm, stay there.

        Args:
            epoch: its number, for the result; a loader with ``set_epoch`` is told of it.
            model: moved to ``device``.
            train_loader: batches as a run has them, pairs of inputs and targets, or dicts with ``labels``.
            optimizer: of parameters of the model, of the loss, or both; one that needs a closure gets it.
            scheduler: steps after each update, or epoch; None for a rate that stays.
            device: where to train.
            metrics_callback: is told of each batch; reading its loss waits for the device.

        Raises:
            NonFiniteLossError: a loss is NaN or infinite.
            TrainingError: there is no batch, nothing trains, as with an optimizer of another model's parameters, the
                optimizer asks for the loss several times, which half precision cannot give it, or the monitor says that
                gradients explode.
            DeviceError: the device is not there.
        """
        where, began = resolve_device(str(device)), time.monotonic()
        tape = self._begin(model, where)
        self._look_at(model, optimizer)
        gradients = self._gradients(model, optimizer, where)
        schedule = None if scheduler is None else Schedule(scheduler, per_epoch=self._schedule_per == "epoch")
        enter_training_mode(model)
        if hasattr(train_loader, "set_epoch"):
            train_loader.set_epoch(epoch)
        number = 0
        for batches in self._groups(train_loader, where):
            results = self._update(gradients, batches, first=number == 0)
            self.gradient_accumulator.updated(len(batches), gradients, self._limit)
            if schedule is not None and not schedule.per_epoch:
                schedule.after_update()
            for batch, result in zip(batches, results, strict=True):
                tape.add(result, batch_size(batch))
                if metrics_callback is not None:
                    metrics_callback(float(result.total), number)
                number += 1
            if tape.broken():
                break
        tape.read()
        spoiled = not math.isfinite(tape.epoch.total)
        done = self._result(epoch, tape, began, number, float(optimizer.param_groups[0]["lr"]))
        if schedule is not None and schedule.per_epoch and not schedule.reads_metrics:
            scheduler.step()
        if spoiled:
            raise NonFiniteLossError(f"the loss became NaN or infinite by batch {number} of epoch {epoch}")
        return done

    def _look_at(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Refuse to train nothing; a loss that knows what of a model should train is asked before the first update."""
        if not any(one.requires_grad for group in optimizer.param_groups for one in group["params"]):
            raise TrainingError("nothing trains: every parameter of the optimizer is frozen")
        if not self._updates and isinstance(self._loss, PEFTAwareLoss):
            try:
                self._loss.check_model(model)
            except ValueError as error:
                _logger.warning("%s", error)

    def _gradients(self, model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device) -> Gradients:
        if self._scaler is None:
            self._scaler = make_scaler(self._precision, device)
        gradients = Gradients(
            optimizer, max_norm=self._limit, clip_by=self.gradient_accumulator.clip_by, scaler=self._scaler
        )
        if gradients.needs_closure_reevaluation and self._scaler is not None:
            name = type(optimizer).__name__
            raise TrainingError(f"{name} asks for the loss several times, which fp16 cannot give it")
        if self.gradient_monitor is not None:
            gradients.observe(lambda *_: self._look(model))
        return gradients

    def _groups(self, loader: Iterable[Any], device: torch.device) -> Iterator[list[Batch]]:
        """Yield the batches of each update; the last may be fewer."""
        group: list[Batch] = []
        for raw in loader:
            group.append(to_device(as_batch(raw), device))
            if len(group) == self.gradient_accumulator.accumulation_steps:
                yield group
                group = []
        if group:
            yield group

    def _update(self, gradients: Gradients, batches: list[Batch], *, first: bool) -> list[LossResult]:
        """Update once, and return the batches' losses; in the ``first`` of an epoch something must train."""
        found: list[LossResult] = []

        def compute(batch: Batch) -> LossResult:
            outputs, result = self._step(batch)
            if not found:
                with torch.no_grad():
                    self._take(ModelOutput(outputs.logits.detach()), batch)
            return result

        def closure() -> Tensor:
            loss, results = gradients.compute(compute, batches)
            if not found:
                self._updates += 1
                if first and not gradients.measured():
                    raise TrainingError(
                        "nothing trains: no parameter of the optimizer has a gradient. An optimizer is made of the "
                        "parameters of the model that it is to train, as they are when it trains: "
                        "optimizer = SGD(model.parameters(), lr=…)"
                    )
                found.extend(results)
            return loss

        gradients.update(closure)
        return found

    def _look(self, model: nn.Module) -> None:
        """Let the monitor look, if it is time, at gradients that are no longer scaled and not yet clipped."""
        monitor = self.gradient_monitor
        if monitor is None or self._updates % monitor.check_interval:
            return
        health = monitor.check_step(model)
        if self._scaler is not None and getattr(health, "has_nan_gradients", False):
            return  # everyday: the scaler leaves the update out, and finds a scale at which they are finite
        if health.has_exploding_gradients and getattr(monitor, "on_critical", "fail") == "fail":
            raise TrainingError(
                f"gradients explode: the largest norm is {health.max_norm:.4g} in update {self._updates}. A lower "
                "learning rate helps, or a higher norm_threshold_critical where such norms are usual"
            )


class ValidationLoop(_Epoch):
    """Evaluates a model for an epoch, in evaluation mode and without gradients.

    Args:
        loss_strategy: as for :class:`TrainingLoop`.
        precision: of the forward pass.
        metrics: what is measured besides the loss.
    """

    def __init__(
        self,
        loss_strategy: Any,
        *,
        precision: Precision = "fp32",
        metrics: Mapping[str, Metric] | None = None,
    ) -> None:
        super().__init__(loss_strategy, precision, metrics)

    def run_epoch(
        self,
        epoch: int,
        model: nn.Module,
        val_loader: Iterable[Any],
        device: torch.device | str = "cpu",
        metrics_callback: MetricsCallback | None = None,
    ) -> EpochResult:
        """Evaluate every batch once; afterwards each layer is in the mode it was in.

        Args:
            epoch: its number, for the result.
            model: moved to ``device``.
            val_loader: as for :meth:`TrainingLoop.run_epoch`.
            device: where to evaluate.
            metrics_callback: is told of each batch; reading its loss waits for the device.

        Raises:
            TrainingError: there is no batch.
            DeviceError: the device is not there.
        """
        where, began = resolve_device(str(device)), time.monotonic()
        tape, number = self._begin(model, where), 0
        with torch.no_grad(), evaluating(model, self._loss):
            for raw in val_loader:
                batch = to_device(as_batch(raw), where)
                outputs, result = self._step(batch)
                tape.add(result, batch_size(batch))
                self._take(outputs, batch)
                if metrics_callback is not None:
                    metrics_callback(float(result.total), number)
                number += 1
        return self._result(epoch, tape, began, number)
