"""The innermost loop: one optimizer update after another, with no work that no part asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from dovetail.data.batch import batch_size
from dovetail.distributed.parallel import parallelize
from dovetail.train.checks.first_batch import GradientCheck, watch_parts
from dovetail.train.clock import Pace
from dovetail.train.hardware import autocasting
from dovetail.train.loss_log import LossLog
from dovetail.train.nan_policy import NanPolicy
from dovetail.train.phases import last_step
from dovetail.train.train_metrics import TrainMetrics

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.losses.result import LossResult
    from dovetail.train.context import Run
    from dovetail.train.trainer import StandardTrainer


class UpdateLoop:
    """Trains on the batches of an epoch, ``training.accumulate`` of them per update."""

    def __init__(self, trainer: StandardTrainer, run: Run) -> None:
        """Cache what does not change between updates."""
        self._trainer, self._run = trainer, run
        self._accumulate = run.config.training.accumulate
        # None if no part implements the hook.
        self._batch_start = run.hooks.dovetail_batch_start or None
        self._batch_end = run.hooks.dovetail_batch_end or None
        self.losses = LossLog(run.device, leave_out_faults=True)
        self.metrics = TrainMetrics(run)
        self.nan_policy = NanPolicy(trainer, run, self.losses)
        # Only the very first update is checked for parts that do not fit.
        self._update = self.step if run.state.step else self.first_step
        #: The update, and the ``time.monotonic()``, from which on ``when_due`` is called.
        self.due_step, self.due_at = math.inf, math.inf
        #: The pace of the updates.
        self.pace = Pace()
        self.bind_phase()

    def bind_phase(self) -> None:
        """Cache what does not change while a phase lasts."""
        run = self._run
        self._parallel = parallelize(run.group, self._trainer.compute_loss, run.parts.modules().values())
        self._gradients: Any = run.gradients
        self._after_update = [*self._parallel.after_update]
        if run.parts.ema is not None:
            self._after_update.append(run.parts.ema.update)
        if run.schedule is not None and not run.schedule.per_epoch:
            self._after_update.append(run.schedule.after_update)
        self._last_step = last_step(run)
        self._bind(run)

    def _bind(self, run: Run) -> None:
        """Compute losses with the model, loss and metrics of ``run``, which may be a watched view of the run."""
        compute = autocasting(self._parallel.compute_loss, run.config.training.precision, run.device)
        self._compute_loss = partial(compute, run)
        self._measured_loss = self.metrics.measuring(compute, run)

    def run_epoch(self, when_due: Callable[[], None]) -> bool:
        """Train on the rest of the epoch's batches; return False if the run or the phase ends before they do.

        Args:
            when_due: called between two updates, never after the last one, once ``due_step`` or ``due_at`` is reached
                or would be before the next update is done.
        """
        run, state = self._run, self._run.state
        group: list[Batch] = []
        self.pace.pause()
        for batch in self._trainer.batches(run):
            if not group:
                due = self.pace.lap() >= self.due_at or state.step >= self.due_step
                due, broken = run.agree(due=due, broken=self.losses.broken())
                if broken:
                    self.nan_policy.check()
                if due and not run.stop:
                    when_due()
                    run.agree()
                    self.pace.restart()
                if run.stop:
                    return False
            group.append(self._trainer.prepare_batch(run, batch))
            if len(group) == self._accumulate:
                self._update(group)
                group = []
                if run.stop or state.step >= self._last_step:
                    return False
        if group:
            self._update(group)
        return True

    def first_step(self, batches: list[Batch]) -> None:
        """Make the very first update, and refuse parts that do not fit or a loss that trains nothing.

        Raises:
            MisfitError: the model, the loss or a metric does not accept the batch, or no gradient reaches the model.
        """
        with watch_parts(self._run) as watched:
            self._bind(watched)
            self._gradients = GradientCheck(self._trainer, self._run)
            self.step(batches)
        self._update, self._gradients = self.step, self._run.gradients
        self._bind(self._run)

    def step(self, batches: list[Batch]) -> None:
        """Make one optimizer update from ``batches``, exactly averaged: the whole training step."""
        run, state, losses, gradients = self._run, self._run.state, self.losses, self._gradients
        if self._batch_start is not None:
            self._batch_start(run=run, step=state.step)
        first: list[LossResult] = []

        def closure() -> torch.Tensor:
            self._parallel.begin_update(len(batches))
            # An optimizer such as L-BFGS evaluates again, with other weights: the first evaluation is the one to log.
            compute_loss = self._compute_loss if first else self._measured_loss
            loss: torch.Tensor
            loss, results = gradients.compute(compute_loss, batches, run.group)
            if not first:
                first.extend(results)
            return loss

        loss = self._trainer.update(run, closure)
        for call in self._after_update:
            call()
        for batch, result in zip(batches, first, strict=True):
            samples = batch_size(batch)
            losses.add(result, samples)
            state.samples_seen += samples
        if gradients.norm is not None:
            losses.add_norm(gradients.norm)
        state.batch += len(batches)
        state.step += 1
        if self._batch_end is not None:
            self._batch_end(run=run, step=state.step, loss=loss)
