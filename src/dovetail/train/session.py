"""One call of ``fit``: the epochs of a run, from its start or its checkpoint to the test."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from dovetail.train.checkpoints.state import collect_state, restore_best
from dovetail.train.errors import NoBatchesError
from dovetail.train.evaluate import evaluate
from dovetail.train.events import Events
from dovetail.train.figures import format_figures, scalars
from dovetail.train.first_batch import try_evaluation
from dovetail.train.phases import enter_phase, last_step, phase_over, training_over
from dovetail.train.seeds import set_rng_state
from dovetail.train.signals import stopping_on_signals
from dovetail.train.state import Outcome
from dovetail.train.step import UpdateLoop

if TYPE_CHECKING:
    from dovetail.train.context import Run
    from dovetail.train.trainer import StandardTrainer

_logger: Final = logging.getLogger("dovetail.train")


class Session:
    """Drives one trainer through one run."""

    def __init__(self, trainer: StandardTrainer, run: Run) -> None:
        """Prepare; nothing is trained yet."""
        self._trainer, self._run = trainer, run
        self._loop = UpdateLoop(trainer, run)
        self._events = Events(trainer, run, self._loop, self._collect_state)
        #: Whether the epoch has been trained, and everything done that is due at its end.
        self._epoch_ended = True

    def fit(self) -> Outcome:
        """Train, test, and return the outcome."""
        run, state, events = self._run, self._run.state, self._events
        with stopping_on_signals(run), run.metrics_log, events.saver.finishing():
            if run.resumed is None:
                try_evaluation(self._trainer, run)
            else:
                self._resume(run.resumed)
            while not training_over(run):
                self._start_epoch()
                self._train()
                run.agree()
            events.save()
            events.saver.wait()
            test = self._test()
        return Outcome(
            "completed" if run.stop is None else run.stop.status,
            "" if run.stop is None else run.stop.reason,
            None if run.stop is None else run.stop.by,
            best_epoch=state.best_epoch,
            best_metric=state.best_metric,
            best_val_loss=events.best.validation_loss(),
            metrics=events.metrics,
            test_metrics=test,
        )

    def _start_epoch(self) -> None:
        run, state = self._run, self._run.state
        if phase_over(run):
            enter_phase(run, state.phase + 1)
            self._loop.bind_phase()
        state.epoch, state.batch = state.epoch + 1, 0
        self._epoch_ended = False
        for module in run.parts.modules().values():
            module.train()
        run.hooks.dovetail_epoch_start(run=run, epoch=state.epoch)
        self._events.start_epoch()

    def _train(self) -> None:
        """Train on the remaining batches of the epoch, and do what is due at its end."""
        run = self._run
        self._loop.run_epoch(self._events.when_due)
        if run.state.batch == 0 and run.stop is None:
            raise NoBatchesError(run.state.epoch)
        self._events.budget.check()
        run.agree()
        if run.stop is None or not run.stop.at_once:
            self._end_epoch()

    def _end_epoch(self) -> None:
        run, state = self._run, self._run.state
        last = training_over(run) or phase_over(run)
        measured = self._events.end_epoch(validate=last)
        if measured is None:
            return  # a resumed run ends the epoch
        run.hooks.dovetail_epoch_end(run=run, epoch=state.epoch, metrics=self._events.metrics)
        self._epoch_ended = True
        if last or self._events.saver.due(epoch=state.epoch):
            self._events.save(measured)

    def _test(self) -> dict[str, Any]:
        """Evaluate the best checkpoint on the test split, if there is one, and time for it."""
        run, loader = self._run, self._run.parts.loaders.test
        ended = run.stop is not None and run.stop.at_once
        if loader is None or not run.config.training.test or ended or not self._events.budget.has_time_for_validation():
            return {}
        restore_best(run)
        figures = evaluate(self._trainer, run, loader, "test")
        if figures is None:
            return {}
        run.log("test", figures)
        _logger.info("test: %s", format_figures(scalars(figures)))
        return figures

    def _collect_state(self) -> dict[str, Any]:
        """Return the whole state of the run, for a checkpoint."""
        self._run.metrics_log.write()
        self._loop.metrics.measure()
        losses = self._run.group.all_gather(self._loop.losses.state_dict())
        session = {"ended": self._epoch_ended, **self._events.state_dict()}
        return collect_state(self._run, {"losses": losses, "session": session})

    def _resume(self, resumed: Mapping[str, Any]) -> None:
        """Continue where a checkpoint was saved, and finish the epoch that it was saved in."""
        run = self._run
        self._epoch_ended = resumed["session"]["ended"]
        self._events.load_state_dict(resumed["session"])
        self._loop.losses.restore(resumed["losses"], run.group)
        states, rank = resumed["rng"], run.group.rank
        if rank < len(states):  # a new rank draws from its own seed
            set_rng_state(states[rank])
        if self._epoch_ended:
            return
        if run.stop is not None or run.state.step >= last_step(run):
            self._end_epoch()
        else:
            # What was due at this update may not have been done: each event checks for itself.
            self._loop.due_step = run.state.step
            self._train()
