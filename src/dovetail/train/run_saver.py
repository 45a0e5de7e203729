"""The checkpoints of a run: when they are due, their saving, and who hears of those that are on the disk."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from dovetail.checkpoint.format import encode
from dovetail.checkpoint.saver import Saver, Write
from dovetail.train.cadence import Cadence
from dovetail.train.together import ShardWriter
from dovetail.train.unsaved import Unsaved

if TYPE_CHECKING:
    from dovetail.train.budget import Budget
    from dovetail.train.context import Run

_logger: Final = logging.getLogger("dovetail.train")


class RunSaver:
    """Saves the checkpoints of a run; where its state is shared out, all processes do each of this together."""

    def __init__(self, run: Run, budget: Budget, collect: Callable[[], Mapping[str, Any]]) -> None:
        """Save nothing yet.

        Args:
            run: the run.
            budget: is told how long writing takes.
            collect: returns the whole state of the run.
        """
        self._run, self._budget, self._collect = run, budget, collect
        self.cadence = Cadence(run.config.checkpoint.every)
        self._saver = Saver(run.checkpoints, background=run.config.checkpoint.background)
        # Talking apart from training, which may go on meanwhile.
        self._shares = None if run.group.mesh is None else ShardWriter(run.group.apart())
        #: After how many updates was last saved; None where there is something new since.
        self.saved: int | None = 0
        #: Whether the best so far is still to be saved.
        self.improved = False
        self._tried = run.resumed is not None
        #: What looks for state that no checkpoint has; None before the first update and after the first checkpoint.
        self._unsaved: Unsaved | None = None

    @contextlib.contextmanager
    def to_the_end(self) -> Iterator[None]:
        """Wait for what is being saved, and tell of it, also where training fails meanwhile."""
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
        """Whether nothing is being written, and it was tried that the state can be."""
        return self._tried and not self._saver.writing

    def try_once(self) -> None:
        """Refuse what cannot be saved now, and not after hours of training.

        Raises:
            TypeError: the message names the path to it.
        """
        if not self._tried:
            self._tried = bool(encode(self._collect()))
            self._unsaved = Unsaved(self._run)

    def due(self, *, epoch: int | None = None) -> bool:
        """Say whether to save now, by the leader's clock; ``epoch`` is the one that has just ended."""
        due = self.cadence.due(self._run.state.step) or (epoch is not None and self.cadence.due_after_epoch(epoch))
        return self.improved or bool(self._run.group.share(due))

    @property
    def needed(self) -> bool:
        """Whether a checkpoint would hold what none has."""
        return self.improved or self.saved != self._run.state.step

    def save(self, measured: Mapping[str, float]) -> None:
        """Save a checkpoint together with the figures ``measured`` of these very weights."""
        run, step = self._run, self._run.state.step
        run.state.elapsed = run.elapsed()
        if self._unsaved is not None:
            self._unsaved.tell()
            self._unsaved = None
        state = self._collect()
        write: Write = partial(run.checkpoints.save, step, run.state.epoch, measured, write_shards=self._shares)
        if self._shares is not None:
            write = partial(self._shares.save, write)
        if self._shares is not None or run.group.leads:
            self._saver.save(state, write)
        self.saved, self.improved = step, False
        self.cadence.done()

    def wait(self) -> None:
        """Wait until everything is on the disk, and tell the parts."""
        self._saver.wait()
        self.tell()

    def tell(self) -> None:
        """Tell the parts of checkpoints that are on the disk by now."""
        if self._shares is not None:
            # The others are done, or fail, when the leader does: all go on alike.
            if not self._run.group.share(self._saver.done):
                return
            self._saver.wait()
        for saved in self._saver.take_saved():
            self._budget.took("checkpoint", saved.seconds)
            self._run.hooks.dovetail_checkpoint_saved(run=self._run, checkpoint=saved.checkpoint)
