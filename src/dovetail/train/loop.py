"""Optimizer updates, one after another: the innermost loop, with nothing in it that nobody asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch

from dovetail.data.batch import batch_size
from dovetail.record.formatting import plural
from dovetail.train import phases
from dovetail.train.clock import Pace
from dovetail.train.nonfinite import Recovery
from dovetail.train.precision import autocasting
from dovetail.train.reach import Reaching
from dovetail.train.running import RunningMetrics
from dovetail.train.tape import LossTape
from dovetail.train.trial import trying

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.losses.result import LossResult
    from dovetail.train.context import Run
    from dovetail.train.gradients import Gradients
    from dovetail.train.replicas import Replica, Shares
    from dovetail.train.standard import StandardTrainer


class RunLoop:
    """Trains on the batches of an epoch, ``training.accumulate`` of them to an update."""

    def __init__(self, trainer: StandardTrainer, run: Run) -> None:
        """Look everything up that a step need not look up."""
        self._trainer, self._run = trainer, run
        self.running = RunningMetrics(run)
        self._accumulate = run.config.training.accumulate
        # None where nobody listens, so that a step asks nobody.
        self._batch_start, self._batch_end = (
            run.hooks.dovetail_batch_start or None,
            run.hooks.dovetail_batch_end or None,
        )
        self.tape = LossTape(run.device, leave_out_faults=True)
        self._recover = Recovery(run)
        # Only the first update of all is watched: what does not fit is found there.
        self._update = self.step if run.state.step else self.first_step
        #: The update, and the ``time.monotonic()``, from which on ``when_due`` is to be called.
        self.due_step, self.due_at = math.inf, math.inf
        #: Of updates.
        self.pace = Pace()
        self.look_up()

    def look_up(self) -> None:
        """Look up what belongs to the phase under way."""
        run, trainer = self._run, self._trainer
        # None where one process trains alone.
        self._replica: Replica | Shares | None = None
        if run.group.size > 1:
            from dovetail.train.replicas import Replica, Shares

            together = Shares if run.group.mesh is not None else Replica
            self._replica = together(run.parts.modules().values(), trainer.compute_loss)
        compute = self._replica or trainer.compute_loss
        self._compute_loss = partial(autocasting(compute, run.config.training.precision, run.device), run)
        self._measuring = self.running.measuring(self._compute_loss) if run.parts.train_metrics else self._compute_loss
        self._gradients: Gradients | Reaching = run.gradients
        #: What follows each update.
        self._following: list[Callable[[], None]] = [] if self._replica is None else [self._replica.align]
        if run.parts.ema is not None:
            self._following.append(run.parts.ema.update)
        if run.schedule is not None and not run.schedule.per_epoch:
            self._following.append(run.schedule.after_update)
        self._last_step = phases.last_step(run)

    def run_epoch(self, when_due: Callable[[], None]) -> None:
        """Train on the epoch's batches, until they end, the run shall stop, or its phase has no more updates.

        Args:
            when_due: called between two updates of the epoch, never after its last one, once ``due_step`` or
                ``due_at`` has come, or would before another update is done.
        """
        run, state = self._run, self._run.state
        group: list[Batch] = []
        self.pace.pause()
        for batch in self._trainer.batches(run):
            if not group:
                due = self.pace.lap() >= self.due_at or state.step >= self.due_step
                if self._replica is not None:
                    due, broken = run.agree(due=due, broken=self.tape.broken())
                    if broken:  # anywhere: what is done about it, all do together
                        self.check()
                if due and not run.stop:
                    when_due()
                    run.agree()
                    self.pace.go_on()
                if run.stop:
                    return
            group.append(self._trainer.prepare_batch(run, batch))
            if len(group) == self._accumulate:
                self._update(group)
                group = []
                if run.stop or state.step >= self._last_step:
                    return
        if group:
            self._update(group)
        self._check_length()

    def _check_length(self) -> None:
        """Tell once of a trainer whose epochs are not as long as schedules believe."""
        run = self._run
        updates, planned = math.ceil(run.state.batch / self._accumulate), run.plan.steps_per_epoch
        if updates not in {0, planned}:
            run.alert(
                "epoch_length",
                f"epoch {run.state.epoch} had {plural(updates, 'update')}, not {planned}, so schedules as long as the "
                f"run end after {run.plan.total_steps} updates; a trainer whose batches() gives others than the loader "
                "says how many with num_batches(loader)",
                cooldown=math.inf,
                updates=updates,
                planned=planned,
            )

    def first_step(self, batches: list[Batch]) -> None:
        """Make the first update of all, and refuse what does not fit or would train nothing.

        Raises:
            MisfitError: the model, the loss or a metric does not take the batch, or no gradient reaches the model.
        """
        self._gradients = Reaching(self._trainer, self._run)
        with trying(self._run):
            self.step(batches)
        self._update, self._gradients = self.step, self._run.gradients

    def step(self, batches: list[Batch]) -> None:
        """Make one optimizer update from ``batches``, exactly averaged: the whole training step.

        Raises:
            NonFiniteLossError: an earlier update's loss was NaN or infinite, and ``training.nan_policy`` says to stop.
        """
        run, state, tape, gradients = self._run, self._run.state, self.tape, self._gradients
        replica = self._replica
        if replica is None and tape.broken():
            self._recover(tape.take_faults())
        if self._batch_start is not None:
            self._batch_start(run=run, step=state.step)
        first: list[LossResult] = []

        def closure() -> torch.Tensor:
            if replica is not None:
                replica.expect(len(batches))
            # An optimizer such as L-BFGS asks again, with other weights: what counts is the first answer.
            loss, results = gradients.compute(self._compute_loss if first else self._measuring, batches, run.group)
            if not first:
                first.extend(results)
            return loss

        loss = self._trainer.update(run, closure)
        for follow in self._following:
            follow()
        for batch, result in zip(batches, first, strict=True):
            samples = batch_size(batch)
            tape.add(result, samples)
            state.samples_seen += samples
        if gradients.norm is not None:
            tape.add_norm(gradients.norm)
        state.batch += len(batches)
        state.step += 1
        if self._batch_end is not None:
            self._batch_end(run=run, step=state.step, loss=loss)

    def check(self) -> None:
        """Wait for the device, and do what ``training.nan_policy`` says about a loss or a gradient that is no number.

        Raises:
            NonFiniteLossError: it says to stop, or there is no going on.
        """
        self._recover(self.tape.take_faults())

    def check_weights(self) -> None:
        """Do as :meth:`check`, and the same about weights that have become NaN or infinite without either.

        Raises:
            NonFiniteLossError: the policy says to stop, or there is no going on.
        """
        self.check()
        self._recover.look_at_weights()
