"""What happens between updates and after epochs: logging, validation, checkpoints, the budget, the test."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from dovetail.record.formatting import plural
from dovetail.train.best import Best
from dovetail.train.checkpoints.save import RunSaver
from dovetail.train.checkpoints.state import restore_best
from dovetail.train.clock import Budget, Cadence, Stopwatch, per_second
from dovetail.train.evaluate import evaluate
from dovetail.train.figures import format_figures, learning_rates, scalars
from dovetail.train.loss_log import merge_sums

if TYPE_CHECKING:
    from dovetail.train.context import Run
    from dovetail.train.step import UpdateLoop
    from dovetail.train.trainer import StandardTrainer

_logger: Final = logging.getLogger("dovetail.train")


class Events:
    """Logs, validates and saves when it is due, and tells the update loop when to call next."""

    def __init__(
        self, trainer: StandardTrainer, run: Run, loop: UpdateLoop, collect: Callable[[], Mapping[str, Any]]
    ) -> None:
        """Start the clocks.

        Args:
            trainer: evaluates the batches of a validation.
            run: the run.
            loop: the update loop, which calls :meth:`when_due`.
            collect: returns the whole state of the run, for a checkpoint.
        """
        self._trainer, self._run, self._loop = trainer, run, loop
        self._validating = Cadence(run.config.training.validate_every)
        self._log_every = run.config.logging.every
        self.budget, self.best = Budget(run), Best(run)
        self.saver = RunSaver(run, self.budget, collect)
        self._interval_time = self._epoch_time = Stopwatch()
        #: The figures of the last complete epoch, and of the last validation in the current one.
        self.metrics: dict[str, float] = {}
        self._validation: dict[str, float] = {}
        #: The update after which anything but a log is due.
        self._next: float = 0
        #: The updates of the last validation and the last log.
        self._validated = self._logged = 0

    # --- called by the session and the update loop --------------------------------------------------------------------

    def start_epoch(self) -> None:
        """Start the clocks and figures of an epoch."""
        self._validation = {}
        self._loop.losses.start_interval()
        self._interval_time, self._epoch_time = Stopwatch(), Stopwatch()
        self._schedule_next()

    def when_due(self) -> None:
        """Do what is due between two updates of an epoch."""
        run, step = self._run, self._run.state.step
        self._log_training()
        # By rank 0's clock, since all ranks must do the same.
        if run.group.broadcast(step < self._next and self._loop.pace.next() < self._loop.due_at):
            self._loop.due_step = min(self._next, self._next_log())
            return
        self.saver.notify()
        self.saver.try_encoding()
        if self._validating.due(step) and self._validated != step:
            self._validate()
        self.budget.check(self._loop.pace.next())
        if run.stop is not None and run.stop.at_once:
            return
        if self.saver.due():
            self.save()
        self._schedule_next()

    def end_epoch(self, *, validate: bool) -> dict[str, float] | None:
        """Do what is due after the last update of an epoch.

        Args:
            validate: validate even if the cadence does not ask for it.

        Returns:
            The figures that describe the current weights; None if the run was asked to end during the validation, so
            that a resumed run has to end the epoch.
        """
        run, state = self._run, self._run.state
        self._log_training()
        self._loop.nan_policy.check()
        due = validate or self._validating.due(state.step) or self._validating.due_after_epoch(state.epoch)
        if due and self._validated != state.step:
            self._validate()
            if run.stop is not None and run.stop.at_once:
                return None
        sums = merge_sums(run.group.all_gather(self._loop.losses.end_epoch()))
        speed = per_second(sums.samples, self._epoch_time.seconds())
        measured = {**sums.means("train"), **self._loop.metrics.end_epoch()}
        rates = learning_rates(run.parts.optimizer)
        self.metrics = {**measured, **self._validation, **rates, "samples_per_second": speed}
        if self._validated == state.step:
            measured |= self._validation
        if not self.best.of_validation:
            self.saver.improved |= self.best.update(self.metrics)
        if run.schedule is not None:
            run.schedule.after_epoch(self.metrics)
        run.log("epoch", self.metrics)
        _logger.info("epoch %d, step %d: %s", state.epoch, state.step, format_figures(self.metrics))
        return measured

    def check_length(self) -> None:
        """Alert once if a complete epoch has another number of updates than schedules expect."""
        run = self._run
        updates = math.ceil(run.state.batch / run.config.training.accumulate)
        planned = run.plan.steps_per_epoch
        if updates not in {0, planned}:
            run.alert(
                "epoch_length",
                f"epoch {run.state.epoch} had {plural(updates, 'update')}, not {planned}, so schedules as long as the "
                f"run end after {run.plan.total_steps} updates; override num_batches(loader) if batches() yields a "
                "different number",
                cooldown=math.inf,
                updates=updates,
                planned=planned,
            )

    def test(self) -> dict[str, Any]:
        """Evaluate the best checkpoint on the test split, if there is one, and time for it."""
        run, loader = self._run, self._run.parts.loaders.test
        ended = run.stop is not None and run.stop.at_once
        if loader is None or not run.config.training.test or ended or not self.budget.has_time_for_validation():
            return {}
        restore_best(run)
        figures = evaluate(self._trainer, run, loader, "test")
        if figures is None:
            return {}
        run.log("test", figures)
        _logger.info("test: %s", format_figures(scalars(figures)))
        return figures

    def save(self, measured: Mapping[str, float] | None = None) -> None:
        """Save a checkpoint of the current weights, unless there is one.

        Args:
            measured: the figures of these very weights; by default those of a validation that was just made.
        """
        if not self.saver.needed:
            return
        if measured is None:
            measured = self._validation if self._validated == self._run.state.step else {}
        self._loop.nan_policy.check_weights()
        began = time.monotonic()
        self.saver.save(measured)
        self._took("checkpoint", began)
        self.saver.notify()

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs to continue the current epoch."""
        return {
            "validated": self._validated,
            "logged": self._logged,
            "metrics": self.metrics,
            "validation": self._validation,
            "interval_seconds": self._interval_time.seconds(),
            "epoch_seconds": self._epoch_time.seconds(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that :meth:`state_dict` returned."""
        self._validated, self._logged, self.saver.saved = state["validated"], state["logged"], self._run.state.step
        self.metrics, self._validation = dict(state["metrics"]), dict(state["validation"])
        self._interval_time = Stopwatch(state["interval_seconds"])
        self._epoch_time = Stopwatch(state["epoch_seconds"])

    # --- when and what ------------------------------------------------------------------------------------------------

    def _schedule_next(self) -> None:
        """Tell the update loop when to call next."""
        step = self._run.state.step
        due = min(self._validating.next_step(step), self.saver.cadence.next_step(step))
        self._next = due if self.saver.settled else step + 1
        self._loop.due_step = min(self._next, self._next_log())
        self._loop.due_at = min(self.budget.due_at, self.saver.cadence.due_at)

    def _next_log(self) -> int:
        return (self._run.state.step // self._log_every + 1) * self._log_every

    def _log_training(self) -> None:
        """Log the training figures since the last log, if that is due."""
        run, loop, step = self._run, self._loop, self._run.state.step
        if step % self._log_every or self._logged == step:
            return
        if run.group.size > 1 or loop.losses.broken():  # all ranks act on what one has seen
            loop.nan_policy.check()
        loop.losses.end_interval()
        rates, train_metrics = learning_rates(run.parts.optimizer), loop.metrics.figures_later()
        seconds = self._interval_time.lap()
        self._logged = step

        def figures() -> dict[str, float]:
            sums = merge_sums(run.group.all_gather(loop.losses.take_interval()))
            speed = per_second(sums.samples, seconds)
            found = {**sums.means("train"), **train_metrics(), **rates, "samples_per_second": speed}
            if sums.gradient_norm is not None:
                found["grad_norm"] = sums.gradient_norm
            return found

        run.log("train", figures)

    def _validate(self) -> None:
        run, loader = self._run, self._run.parts.loaders.validation
        if loader is None or not self.budget.has_time_for_validation():
            return
        self._loop.nan_policy.check_weights()
        began = time.monotonic()
        figures = evaluate(self._trainer, run, loader, "val")
        self._took("validation", began)
        if figures is None:
            return
        self._validated, self._validation = run.state.step, scalars(figures)
        self.saver.saved = None  # a checkpoint of these weights that was saved before lacks these figures
        if self.best.of_validation:
            self.saver.improved |= self.best.update(self._validation)
        run.log("validation", figures)
        run.hooks.dovetail_validation_end(run=run, metrics=self._validation)

    def _took(self, what: str, began: float) -> None:
        """Record the duration of a validation or checkpoint, which does not count as training time."""
        seconds = time.monotonic() - began
        self.budget.took(what, seconds)
        self._interval_time.leave_out(seconds)
        self._epoch_time.leave_out(seconds)
