"""Epochs of training and validation, with any model and any loader, outside of a run."""

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

#: Called with each batch's loss and its zero-based index in the epoch.
MetricsCallback = Callable[[float, int], object]


class Monitor(Protocol):
    """Checks gradients before they are clipped, such as a ``GradientMonitor``."""

    #: Updates per check.
    check_interval: int

    def check_step(self, model: nn.Module) -> Any:
        """Return the state of the gradients; ``has_exploding_gradients`` ends the epoch with an error."""


@frozen
class EpochResult:
    """The result of one epoch."""

    epoch: int
    #: The mean over the units that the loss counts: samples, tokens or class weight. NaN if nothing counted.
    loss: float
    #: The parts of the loss, and the values of the metrics.
    metrics: dict[str, Any] = field(factory=dict)
    epoch_duration_seconds: float = 0.0
    num_samples: int = 0
    num_batches: int = 0
    #: The learning rate at the end of the epoch; NaN for a validation.
    learning_rate: float = math.nan


class _Epoch:
    """The loss, the metrics and the result of an epoch of training or validation."""

    def __init__(self, loss_strategy: Any, precision: Precision, metrics: Mapping[str, Metric] | None) -> None:
        if precision not in get_args(Precision):
            raise ValueError(f"precision: {precision!r} is not one of {', '.join(get_args(Precision))}")
        is_strategy = hasattr(loss_strategy, "compute_loss") and not isinstance(loss_strategy, nn.Module)
        self._loss: Any = loss_strategy
        self._criterion: Loss = StrategyAsLoss(loss_strategy) if is_strategy else as_loss(loss_strategy)
        self._precision = precision
        self._metrics = dict(metrics or {})

    def _start(self, model: nn.Module, device: torch.device) -> LossLog:
        model.to(device)
        if isinstance(self._loss, nn.Module):
            self._loss.to(device)
        for metric in self._metrics.values():
            metric.reset()
        self._forward = Forward(model)
        self._compute = autocasting(self._compute_loss, self._precision, device)
        return LossLog(device)

    def _compute_loss(self, batch: Batch) -> tuple[ModelOutput, LossResult]:
        outputs = self._forward(batch)
        return outputs, self._criterion(outputs, batch)

    def _update_metrics(self, outputs: ModelOutput, batch: Batch) -> None:
        for metric in self._metrics.values():
            metric.update(outputs, batch)

    def _result(self, epoch: int, log: LossLog, started: float, batches: int, rate: float = math.nan) -> EpochResult:
        sums = log.end_epoch()
        if sums.samples == 0:
            raise TrainingError(f"epoch {epoch} had no batches: the loader yielded none")
        means = sums.means("train")
        loss = means.pop("train_loss")
        metrics: dict[str, Any] = {name.removeprefix("train_"): value for name, value in means.items()}
        for metric in self._metrics.values():
            metrics.update(metric.compute())
        return EpochResult(epoch, loss, metrics, time.monotonic() - started, sums.samples, batches, rate)


class TrainingLoop(_Epoch):
    """Trains a model for an epoch: accumulates gradients with exact averages, clips them once, and monitors them.

    Args:
        gradient_accumulator: the number of batches per update, and how to clip gradients.
        gradient_monitor: checks the gradients every ``check_interval`` updates, before they are clipped; None checks
            nothing.
        loss_strategy: a loss: a ``LossStrategy``, a loss of a run, or a plain ``(input, target)`` loss such as torch's.
        gradient_clip_norm: the limit that gradients are clipped to, > 0; None does not clip. If the accumulator has a
            limit too, the lower one applies.
        precision: the precision of the forward pass, ``"fp32"``, ``"bf16"`` or ``"fp16"``; the loop keeps the loss
            scale of ``"fp16"`` from epoch to epoch.
        metrics: metrics of the outputs that training computes.
        schedule_per: when to step the scheduler, after each ``"update"`` or ``"epoch"``. Step a scheduler that reads a
            metric yourself.

    Raises:
        ValueError: an option is invalid.
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
            raise ValueError(f"schedule_per must be 'update' or 'epoch', got {schedule_per!r}")
        if gradient_clip_norm is not None and not gradient_clip_norm > 0:
            raise ValueError(f"gradient_clip_norm must be above 0, or None, got {gradient_clip_norm}")
        self.gradient_accumulator, self.gradient_monitor = gradient_accumulator, gradient_monitor
        limits = (gradient_clip_norm, gradient_accumulator.max_gradient_norm)
        self._limit = min((limit for limit in limits if limit is not None), default=None)
        self._schedule_per = schedule_per
        self._scaler: torch.amp.GradScaler | None = None
        self._updates = 0

    def run_epoch(  # noqa: PLR0917 (the documented signature)
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
            epoch: the epoch's number; passed to the loader's ``set_epoch``, if it has one.
            model: the model; it is moved to ``device``.
            train_loader: batches as in a run, pairs of inputs and targets, or dicts with ``labels``.
            optimizer: an optimizer of parameters of the model, of the loss, or of both.
            scheduler: a scheduler to step; None keeps the learning rate.
            device: the device to train on.
            metrics_callback: called with each batch's loss and its zero-based index; reading the loss waits for the
                device.

        Raises:
            NonFiniteLossError: a loss is NaN or infinite.
            TrainingError: there are no batches; no parameter of the optimizer trains; the optimizer evaluates the loss
                several times per update, which fp16 does not allow; or the monitor finds exploding gradients.
            DeviceError: the device does not exist.
        """
        target, started = resolve_device(str(device)), time.monotonic()
        log = self._start(model, target)
        self._check_trainable(model, optimizer)
        gradients = self._gradients(model, optimizer, target)
        schedule = None if scheduler is None else Schedule(scheduler, per_epoch=self._schedule_per == "epoch")
        enter_training_mode(model)
        if hasattr(train_loader, "set_epoch"):
            train_loader.set_epoch(epoch)
        index = 0
        for batches in self._groups(train_loader, target):
            results = self._update(gradients, batches, first=index == 0)
            self.gradient_accumulator.record_update(len(batches), gradients, self._limit)
            if schedule is not None and not schedule.per_epoch:
                schedule.after_update()
            for batch, result in zip(batches, results, strict=True):
                log.add(result, batch_size(batch))
                if metrics_callback is not None:
                    metrics_callback(float(result.total), index)
                index += 1
            if log.broken():
                break
        log.read()
        finite = math.isfinite(log.epoch.total)
        epoch_result = self._result(epoch, log, started, index, float(optimizer.param_groups[0]["lr"]))
        if schedule is not None and schedule.per_epoch and not schedule.reads_metrics:
            scheduler.step()
        if not finite:
            raise NonFiniteLossError(f"the loss became NaN or infinite by batch {index} of epoch {epoch}")
        return epoch_result

    def _check_trainable(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Raise if the optimizer cannot train; before the first update, warn if a loss for adapters objects."""
        if not any(parameter.requires_grad for group in optimizer.param_groups for parameter in group["params"]):
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
            raise TrainingError(f"{name} evaluates the loss several times per update, which fp16 does not allow")
        if self.gradient_monitor is not None:
            gradients.observe(lambda *_: self._check_gradients(model))
        return gradients

    def _groups(self, loader: Iterable[Any], device: torch.device) -> Iterator[list[Batch]]:
        """Yield the batches of each update; the last update may have fewer."""
        group: list[Batch] = []
        for raw in loader:
            group.append(to_device(as_batch(raw), device))
            if len(group) == self.gradient_accumulator.accumulation_steps:
                yield group
                group = []
        if group:
            yield group

    def _update(self, gradients: Gradients, batches: list[Batch], *, first: bool) -> list[LossResult]:
        """Make an update, and return the batches' losses; raise if the ``first`` of an epoch trains nothing."""
        losses: list[LossResult] = []

        def compute_loss(batch: Batch) -> LossResult:
            outputs, result = self._compute(batch)
            if not losses:
                with torch.no_grad():
                    self._update_metrics(ModelOutput(outputs.logits.detach()), batch)
            return result

        def closure() -> Tensor:
            loss, results = gradients.compute(compute_loss, batches)
            if not losses:
                self._updates += 1
                if first and not gradients.measured():
                    raise TrainingError(
                        "nothing trains: no parameter of the optimizer has a gradient. Create the optimizer from the "
                        "parameters of the model that the loop trains, such as SGD(model.parameters(), lr=0.1)"
                    )
                losses.extend(results)
            return loss

        gradients.update(closure)
        return losses

    def _check_gradients(self, model: nn.Module) -> None:
        """Let the monitor check unscaled, unclipped gradients, if a check is due."""
        monitor = self.gradient_monitor
        if monitor is None or self._updates % monitor.check_interval:
            return
        health = monitor.check_step(model)
        if self._scaler is not None and getattr(health, "has_nan_gradients", False):
            return  # normal in fp16: the scaler skips the update and lowers its scale
        if health.has_exploding_gradients and getattr(monitor, "on_critical", "fail") == "fail":
            raise TrainingError(
                f"gradients explode: the largest norm in update {self._updates} is {health.max_norm:.4g}. Lower the "
                "learning rate, or raise norm_threshold_critical if such norms are normal"
            )


class ValidationLoop(_Epoch):
    """Evaluates a model for an epoch, in evaluation mode and without gradients.

    Args:
        loss_strategy: as for :class:`TrainingLoop`.
        precision: the precision of the forward pass.
        metrics: metrics of the outputs.

    Raises:
        ValueError: an option is invalid.
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
        """Evaluate every batch once; afterwards each layer is in its previous mode.

        Args:
            epoch: the epoch's number, for the result.
            model: the model; it is moved to ``device``.
            val_loader: as for :meth:`TrainingLoop.run_epoch`.
            device: the device to evaluate on.
            metrics_callback: called with each batch's loss and its zero-based index; reading the loss waits for the
                device.

        Raises:
            TrainingError: there are no batches.
            DeviceError: the device does not exist.
        """
        target, started = resolve_device(str(device)), time.monotonic()
        log, count = self._start(model, target), 0
        with torch.no_grad(), evaluating(model, self._loss):
            for index, raw in enumerate(val_loader):
                batch = to_device(as_batch(raw), target)
                outputs, result = self._compute(batch)
                log.add(result, batch_size(batch))
                self._update_metrics(outputs, batch)
                if metrics_callback is not None:
                    metrics_callback(float(result.total), index)
                count = index + 1
        return self._result(epoch, log, started, count)
