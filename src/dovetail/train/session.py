"""One call of ``fit``: epochs, validation, checkpoints, logs, stopping and the test, around the training loop."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from dovetail.train import phases
from dovetail.train.best import Best
from dovetail.train.budget import Budget
from dovetail.train.cadence import Cadence
from dovetail.train.checkpoints.save import RunSaver
from dovetail.train.checkpoints.state import collect_state, restore_best
from dovetail.train.clock import Stopwatch, per_second
from dovetail.train.errors import NoBatchesError
from dovetail.train.evaluate import evaluate
from dovetail.train.figures import learning_rates, scalars
from dovetail.train.first_batch import try_evaluation
from dovetail.train.loss_log import add_up
from dovetail.train.seeds import set_rng_state
from dovetail.train.signals import stopping_on_signals
from dovetail.train.state import Outcome
from dovetail.train.step import RunLoop

if TYPE_CHECKING:
    from dovetail.train.context import Run
    from dovetail.train.trainer import StandardTrainer

_logger: Final = logging.getLogger("dovetail.train")


class Session:
    """Drives one trainer through one run."""

    def __init__(self, trainer: StandardTrainer, run: Run) -> None:
        """Set the clocks; nothing is trained yet."""
        config = run.config
        self._trainer, self._run, self._state, self._config = trainer, run, run.state, config
        self._loop = RunLoop(trainer, run)
        self._validating = Cadence(config.training.validate_every)
        self._budget, self._best = Budget(run), Best(run)
        self._saver = RunSaver(run, self._budget, self._collect)
        self._interval = self._epoch_time = Stopwatch()
        self._every = config.logging.every
        #: Figures of the last finished epoch, and of the last validation in the epoch under way.
        self._metrics: dict[str, float] = {}
        self._validation: dict[str, float] = {}
        #: The update after which something else than a log is due.
        self._next: float = 0
        #: After how many updates was last validated and logged.
        self._validated = self._logged = 0
        #: Whether the epoch has been trained and all been done that is due at its end.
        self._ended = True

    def fit(self) -> Outcome:
        """Train, test, and say how it ended."""
        run, state = self._run, self._state
        with stopping_on_signals(run), run.journal, self._saver.to_the_end():
            if run.resumed is None:
                try_evaluation(self._trainer, run)
            else:
                self._go_on(run.resumed)
            while not self._done():
                self._epoch()
                run.agree()
            self._save(self._validation if self._validated == state.step else {})
            self._saver.wait()
            test = self._test()
        stop = run.stop
        return Outcome(
            "completed" if stop is None else stop.status,
            "" if stop is None else stop.reason,
            None if stop is None else stop.by,
            best_epoch=state.best_epoch,
            best_metric=state.best_metric,
            best_val_loss=self._best.validation_loss(),
            metrics=self._metrics,
            test_metrics=test,
        )

    # --- epochs -----------------------------------------------------------------------------------------------------

    def _done(self) -> bool:
        epochs, steps = self._config.training.max_epochs, self._config.training.max_steps
        return (
            self._run.stop is not None
            or phases.last_over(self._run)
            or (epochs is not None and self._state.epoch >= epochs)
            or (steps is not None and self._state.step >= steps)
        )

    def _at_once(self) -> bool:
        return self._run.stop is not None and self._run.stop.at_once

    def _epoch(self) -> None:
        """Train for one epoch, and do what is due at its end."""
        run, state = self._run, self._state
        if phases.over(run):
            phases.enter(run, state.phase + 1)
            self._loop.look_up()
        state.epoch, state.batch = state.epoch + 1, 0
        self._validation, self._ended = {}, False
        for module in run.parts.modules().values():
            module.train()
        run.hooks.dovetail_epoch_start(run=run, epoch=state.epoch)
        self._loop.tape.start_interval()
        self._interval, self._epoch_time = Stopwatch(), Stopwatch()
        self._wind_up()
        self._train()

    def _train(self) -> None:
        """Train on the batches of the epoch that are left, and do what is due at its end."""
        run, state = self._run, self._state
        self._loop.run_epoch(self._when_due)
        if state.batch == 0 and run.stop is None:
            raise NoBatchesError(state.epoch)
        self._budget.check()
        run.agree()
        if not self._at_once():
            self._end_epoch()

    # --- saved and resumed ------------------------------------------------------------------------------------------

    def _collect(self) -> dict[str, Any]:
        """Return the whole state of the run."""
        self._run.journal.write()
        self._loop.running.settle()
        session = {
            "ended": self._ended,
            "validated": self._validated,
            "logged": self._logged,
            "metrics": self._metrics,
            "validation": self._validation,
            "interval_seconds": self._interval.seconds(),
            "epoch_seconds": self._epoch_time.seconds(),
        }
        losses = self._run.group.gather(self._loop.tape.state_dict())
        return collect_state(self._run, {"losses": losses, "session": session})

    def _go_on(self, resumed: Mapping[str, Any]) -> None:
        """Take up a run where a checkpoint was saved, and bring the epoch that was under way to its end."""
        session = resumed["session"]
        self._ended = session["ended"]
        self._validated, self._logged, self._saver.saved = session["validated"], session["logged"], self._state.step
        self._metrics, self._validation = dict(session["metrics"]), dict(session["validation"])
        self._interval = Stopwatch(session["interval_seconds"])
        self._epoch_time = Stopwatch(session["epoch_seconds"])
        self._loop.tape.take_up(resumed["losses"], self._run.group)
        states, rank = resumed["rng"], self._run.group.rank
        if rank < len(states):  # one that is new draws from its own seed
            set_rng_state(states[rank])
        if self._ended:
            return
        if self._run.stop is not None or self._state.step >= phases.last_step(self._run):
            self._end_epoch()
        else:
            # What was due at this update may not have been done any more: each looks for itself.
            self._loop.due_step = self._state.step
            self._train()

    def _wind_up(self) -> None:
        """Tell the loop when to call next."""
        step = self._state.step
        due = min(self._validating.next_step(step), self._saver.cadence.next_step(step))
        self._next = due if self._saver.settled else step + 1
        self._loop.due_step = min(self._next, self._next_log())
        self._loop.due_at = min(self._budget.due_at, self._saver.cadence.due_at)

    def _next_log(self) -> int:
        return (self._state.step // self._every + 1) * self._every

    def _when_due(self) -> None:
        """Do what is due between two updates of an epoch."""
        step = self._state.step
        self._log_training()
        # By the leader's clock, since they all do the same.
        if self._run.group.share(step < self._next and self._loop.pace.next() < self._loop.due_at):
            self._loop.due_step = min(self._next, self._next_log())
            return
        self._saver.tell()
        self._saver.try_once()
        if self._validating.due(step) and self._validated != step:
            self._validate()
        self._budget.check(self._loop.pace.next())
        if self._at_once():
            return
        if self._saver.due():
            self._save(self._validation if self._validated == step else {})
        self._wind_up()

    def _end_epoch(self) -> None:
        """Do what is due after the last update of an epoch."""
        run, state = self._run, self._state
        self._log_training()
        self._loop.check()
        ends = self._done() or phases.over(run)
        due = ends or self._validating.due(state.step) or self._validating.due_after_epoch(state.epoch)
        if due and self._validated != state.step:
            self._validate()
            if self._at_once():
                return
        # Not before: a validation that is broken off leaves the epoch as it is, to be ended by a resumed run.
        sums = add_up(run.group.gather(self._loop.tape.start_epoch()))
        speed = per_second(sums.samples, self._epoch_time.seconds())
        measured = {**sums.means("train"), **self._loop.running.start_epoch()}
        rates = learning_rates(run.parts.optimizer)
        self._metrics = {**measured, **self._validation, **rates, "samples_per_second": speed}
        if self._validated == state.step:
            measured |= self._validation
        if not self._best.of_validation:
            self._saver.improved |= self._best.note(self._metrics)
        if run.schedule is not None:
            run.schedule.after_epoch(self._metrics)
        run.log("epoch", self._metrics)
        _logger.info("epoch %d, step %d: %s", state.epoch, state.step, _in_words(self._metrics))
        run.hooks.dovetail_epoch_end(run=run, epoch=state.epoch, metrics=self._metrics)
        self._ended = True
        if ends or self._saver.due(epoch=state.epoch):
            self._save(measured)

    # --- what is done now and then ------------------------------------------------------------------------------------

    def _log_training(self) -> None:
        """Log the training figures since the last time, if it is time again."""
        step = self._state.step
        if step % self._every or self._logged == step:
            return
        if self._run.group.size > 1 or self._loop.tape.broken():  # what only one has seen, all act upon
            self._loop.check()
        self._loop.tape.cut()
        rates = learning_rates(self._run.parts.optimizer)
        running, seconds = self._loop.running.figures_as_they_are(), self._interval.lap()
        self._logged = step

        def figures() -> dict[str, float]:
            sums = add_up(self._run.group.gather(self._loop.tape.take_interval()))
            speed = per_second(sums.samples, seconds)
            found = {**sums.means("train"), **running(), **rates, "samples_per_second": speed}
            if sums.gradient_norm is not None:
                found["grad_norm"] = sums.gradient_norm
            return found

        self._run.log("train", figures)

    def _validate(self) -> None:
        run, loader = self._run, self._run.parts.loaders.validation
        if loader is None:
            return
        if not self._budget.has_time_for_validation():
            return
        self._loop.check_weights()
        began = time.monotonic()
        figures = evaluate(self._trainer, run, loader, "val")
        self._took("validation", began)
        if figures is None:
            return
        self._validated, self._validation = self._state.step, scalars(figures)
        self._saver.saved = None  # a checkpoint that was saved without these figures lacks them
        if self._best.of_validation:
            self._saver.improved |= self._best.note(self._validation)
        run.log("validation", figures)
        run.hooks.dovetail_validation_end(run=run, metrics=self._validation)

    def _save(self, measured: Mapping[str, float]) -> None:
        """Save a checkpoint together with the figures ``measured`` of these very weights, unless that is done."""
        if not self._saver.needed:
            return
        self._loop.check_weights()
        began = time.monotonic()
        self._saver.save(measured)
        self._took("checkpoint", began)
        self._saver.tell()

    def _took(self, what: str, began: float) -> None:
        """Note how long something took that was not training."""
        seconds = time.monotonic() - began
        self._budget.took(what, seconds)
        self._interval.leave_out(seconds)
        self._epoch_time.leave_out(seconds)

    def _test(self) -> dict[str, Any]:
        """Evaluate the best checkpoint on the test split, if there is one and there is time."""
        run, loader = self._run, self._run.parts.loaders.test
        if loader is None or not self._config.training.test or self._at_once():
            return {}
        if not self._budget.has_time_for_validation():
            return {}
        restore_best(run)
        figures = evaluate(self._trainer, run, loader, "test")
        if figures is None:
            return {}
        run.log("test", figures)
        _logger.info("test: %s", _in_words(scalars(figures)))
        return figures


def _in_words(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.6g}" for name, value in figures.items())
