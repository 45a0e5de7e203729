"""One call of ``fit``: the epochs of a run, from its start or its checkpoint to the test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dovetail.train.checkpoints.state import collect_state
from dovetail.train.checks.first_batch import try_evaluation
from dovetail.train.errors import NoBatchesError
from dovetail.train.events import Events
from dovetail.train.modes import set_evaluating, start_modes
from dovetail.train.phases import enter_phase, last_step, phase_over, training_over
from dovetail.train.seeds import set_rng_state
from dovetail.train.signals import stopping_on_signals
from dovetail.train.state import Outcome
from dovetail.train.step import UpdateLoop

if TYPE_CHECKING:
    from dovetail.train.context import Run
    from dovetail.train.trainer import StandardTrainer


class Session:
    """Drives one trainer through one run."""

    def __init__(self, trainer: StandardTrainer, run: Run) -> None:
        """Prepare; nothing is trained yet."""
        self._trainer, self._run = trainer, run
        self._loop = UpdateLoop(trainer, run)
        self._events = Events(trainer, run, self._loop, self._collect_state)
        #: Whether the epoch has been trained, and everything done that is due at its end.
        self._epoch_ended = True
        #: The layers in evaluation mode at the start of training, by module.
        self._modes: Mapping[str, Sequence[str]] = {}

    def fit(self) -> Outcome:
        """Train, test, and return the outcome."""
        run, state, events = self._run, self._run.state, self._events
        with stopping_on_signals(run), run.metrics_log, events.saver.finishing():
            if run.resumed is None:
                self._modes = start_modes(run.parts.modules())
                try_evaluation(self._trainer, run)
            else:
                self._resume(run.resumed)
            while not training_over(run):
                self._start_epoch()
                self._train()
                run.agree()
            events.save()
            events.saver.wait()
            test = events.test()
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
        for path, module in run.parts.modules().items():
            set_evaluating(module, self._modes[path])
        for layer in run.phase.still:
            layer.eval()
        run.hooks.dovetail_epoch_start(run=run, epoch=state.epoch)
        self._events.start_epoch()

    def _train(self) -> None:
        """Train on the remaining batches of the epoch, and do what is due at its end."""
        run = self._run
        if self._loop.run_epoch(self._events.when_due):
            self._events.check_length()
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

    def _collect_state(self) -> dict[str, Any]:
        """Return the whole state of the run, for a checkpoint."""
        self._run.metrics_log.write()
        self._loop.metrics.measure()
        losses = self._run.group.all_gather(self._loop.losses.state_dict())
        session = {"ended": self._epoch_ended, "modes": self._modes, **self._events.state_dict()}
        return collect_state(self._run, {"losses": losses, "session": session})

    def _resume(self, resumed: Mapping[str, Any]) -> None:
        """Continue where a checkpoint was saved, and finish the epoch that it was saved in."""
        run = self._run
        self._epoch_ended, self._modes = resumed["session"]["ended"], resumed["session"]["modes"]
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
