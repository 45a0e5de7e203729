"""What a run logs, written many lines at a time and in the order in which it was logged."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dovetail.record.json_lines import event_line
from dovetail.train.figures import scalars

if TYPE_CHECKING:
    from dovetail.train.context import Run

#: So many lines, or seconds since lines were last written, are waited for: what a killed process can lose.
LINES: Final = 64
SECONDS: Final = 1.0
#: Events that come often enough to wait.
_FREQUENT: Final = frozenset({"train", "monitor"})

#: Figures by name, or what gives them once they are read from the device.
Figures = Mapping[str, Any] | Callable[[], Mapping[str, Any]]


class _Entry(NamedTuple):
    event: str
    epoch: int
    step: int
    #: Seconds since the run's start.
    time: float
    figures: Figures


class Journal:
    """Takes what a run logs, and writes it to ``metrics.jsonl`` and hands it on to whoever listens.

    Figures of training wait for one another, so that an update in which they are logged need not wait for the device or
    the disk: until there are 64 lines, or a second has passed since the last were written, or anything else is logged,
    or a checkpoint is made. Nothing waits where a callback listens, which may act on figures and shall do so at the
    same update each time, or where several processes put their figures together.
    """

    def __init__(self, run: Run) -> None:
        """Write for ``run``."""
        self._run = run
        self._waiting: list[_Entry] = []
        self._written_at = time.monotonic()
        #: Whether figures of training may wait.
        self.patient = run.group.size == 1 and not run.hooks.dovetail_log.at_once

    def __enter__(self) -> None:
        """Nothing waits yet."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what waits; where training failed, a failure of this says less than its own."""
        with contextlib.suppress(Exception) if error is not None else contextlib.nullcontext():
            self.write()

    def add(self, event: str, figures: Figures, step: int) -> None:
        """Take figures of an update."""
        run, now = self._run, time.monotonic()
        self._waiting.append(_Entry(event, run.state.epoch, step, run.elapsed(), figures))
        if (
            not self.patient
            or event not in _FREQUENT
            or len(self._waiting) >= LINES
            or now - self._written_at >= SECONDS
        ):
            self.write()

    def write(self) -> None:
        """Write what waits, waiting for the device where figures are still there."""
        run, listened = self._run, bool(self._run.hooks.dovetail_log)
        waiting, self._waiting = self._waiting, []
        told, lines = [], []
        for one in waiting:
            figures = one.figures() if callable(one.figures) else one.figures
            numbers = scalars(figures)
            # Lists, such as a confusion matrix, are written for the test only.
            written = figures if one.event == "test" else numbers
            lines.append(event_line(one.event, epoch=one.epoch, step=one.step, time=one.time, metrics=written))
            told.append((one, numbers))
        run.store.write_events("".join(lines))
        self._written_at = time.monotonic()
        if listened:
            for one, numbers in told:
                run.hooks.dovetail_log(
                    run=run, event=one.event, metrics=numbers, epoch=one.epoch, step=one.step, time=one.time
                )
