"""Saving the checkpoints of a run: when they are due, in the background, and notifying the parts once committed."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from dovetail.checkpoint.format import encode
from dovetail.checkpoint.saver import Saver, Write
from dovetail.train.checkpoints.sharded import ShardWriter
from dovetail.train.checkpoints.unsaved import UnsavedState
from dovetail.train.clock import Cadence

if TYPE_CHECKING:
    from dovetail.train.clock import Budget
    from dovetail.train.context import Run

_logger: Final = logging.getLogger("dovetail.train")


class RunSaver:
    """Saves the checkpoints of a run. With a sharded model, every method is a collective."""

    def __init__(self, run: Run, budget: Budget, collect: Callable[[], Mapping[str, Any]]) -> None:
        """Start without a checkpoint.

        Args:
            run: the run.
            budget: records how long writing takes.
            collect: returns the whole state of the run.
        """
        self._run, self._budget, self._collect = run, budget, collect
        self.cadence = Cadence(run.config.checkpoint.every)
        self._saver = Saver(run.checkpoints, background=run.config.checkpoint.background)
        # A process group of its own, since training continues meanwhile.
        self._sharded = None if run.group.mesh is None else ShardWriter(run.group.new_group())
        #: The update of the last checkpoint; None if there is something new since.
        self.saved: int | None = 0
        #: Whether the weights are the best so far, and not saved yet.
        self.improved = False
        self._encoding_tried = run.resumed is not None
        #: Finds state that no checkpoint holds; only between the first update and the first checkpoint.
        self._unsaved: UnsavedState | None = None

    @contextlib.contextmanager
    def finishing(self) -> Iterator[None]:
        """Finish what is being saved when the context ends, also after a failure, and notify the parts."""
        try:
            with self._saver:
                yield
        except BaseException:
            for saved in self._saver.take_saved():
                hook = self._run.hooks.dovetail_checkpoint_saved
                for failure in hook.call_all(run=self._run, checkpoint=saved.checkpoint):
                    _logger.exception("%s", failure, exc_info=failure)
            raise

    @property
    def settled(self) -> bool:
        """Whether nothing is being written, and the state is known to be encodable."""
        return self._encoding_tried and not self._saver.writing

    def try_encoding(self) -> None:
        """Refuse state that cannot be saved, after the first update rather than after hours of training.

        Raises:
            TypeError: the message names the path to it.
        """
        if not self._encoding_tried:
            self._encoding_tried = bool(encode(self._collect()))
            self._unsaved = UnsavedState(self._run)

    def due(self, *, epoch: int | None = None) -> bool:
        """Return whether to save now, by rank 0's clock; ``epoch`` is the one that just ended."""
        due = self.cadence.due(self._run.state.step) or (epoch is not None and self.cadence.due_after_epoch(epoch))
        return self.improved or bool(self._run.group.broadcast(due))

    @property
    def needed(self) -> bool:
        """Whether a checkpoint would hold anything new."""
        return self.improved or self.saved != self._run.state.step

    def save(self, measured: Mapping[str, float]) -> None:
        """Save a checkpoint with the figures ``measured`` of these very weights."""
        run, step = self._run, self._run.state.step
        run.state.elapsed = run.elapsed()
        if self._unsaved is not None:
            self._unsaved.alert()
            self._unsaved = None
        state = self._collect()
        write: Write = partial(run.checkpoints.save, step, run.state.epoch, measured, write_shards=self._sharded)
        if self._sharded is not None:
            write = partial(self._sharded.save, write)
        if self._sharded is not None or run.group.leads:
            self._saver.save(state, write)
        self.saved, self.improved = step, False
        self.cadence.done()

    def wait(self) -> None:
        """Wait until every checkpoint is committed, and notify the parts."""
        self._saver.wait()
        self.notify()

    def notify(self) -> None:
        """Notify the parts of checkpoints that were committed since the last call."""
        if self._sharded is not None:
            # All ranks finish, or fail, together with rank 0.
            if not self._run.group.broadcast(self._saver.done):
                return
            self._saver.wait()
        for saved in self._saver.take_saved():
            self._budget.took("checkpoint", saved.seconds)
            self._run.hooks.dovetail_checkpoint_saved(run=self._run, checkpoint=saved.checkpoint)
