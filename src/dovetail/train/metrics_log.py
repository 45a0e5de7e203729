"""The figures of a run, written to ``metrics.jsonl`` many lines at a time, in the order in which they were logged."""

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

#: Figures wait for at most this many lines, or seconds since the last write: what a killed process can lose.
LINES: Final = 64
SECONDS: Final = 1.0
#: Events that are frequent enough to wait.
_FREQUENT: Final = frozenset({"train", "monitor"})

#: Figures by name, or a function that reads them from the device.
Figures = Mapping[str, Any] | Callable[[], Mapping[str, Any]]


class _Entry(NamedTuple):
    event: str
    epoch: int
    step: int
    #: Seconds since the start of the run.
    time: float
    figures: Figures


class MetricsLog:
    """Writes what a run logs to ``metrics.jsonl``, and passes it on to ``dovetail_log``.

    Training figures are buffered, so that an update that logs waits for neither the device nor the disk. They are
    written after 64 lines, a second after the last write, when anything else is logged, and before a checkpoint.
    Nothing is buffered where a callback listens, since it may act on figures and must do so at the same update every
    time, or where several processes merge their figures.
    """

    def __init__(self, run: Run) -> None:
        """Write for ``run``."""
        self._run = run
        self._entries: list[_Entry] = []
        self._written_at = time.monotonic()
        #: Whether training figures may wait.
        self.buffers = run.group.size == 1 and not run.hooks.dovetail_log.at_once

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the buffered figures; after an error, a failure to write them is suppressed."""
        with contextlib.suppress(Exception) if error is not None else contextlib.nullcontext():
            self.write()

    def add(self, event: str, figures: Figures, step: int) -> None:
        """Log the figures of an update."""
        run, now = self._run, time.monotonic()
        self._entries.append(_Entry(event, run.state.epoch, step, run.elapsed(), figures))
        if (
            not self.buffers
            or event not in _FREQUENT
            or len(self._entries) >= LINES
            or now - self._written_at >= SECONDS
        ):
            self.write()

    def write(self) -> None:
        """Write the buffered figures, waiting for the device if they are still there."""
        run, listened = self._run, bool(self._run.hooks.dovetail_log)
        entries, self._entries = self._entries, []
        numbers, lines = [], []
        for entry in entries:
            figures = entry.figures() if callable(entry.figures) else entry.figures
            numbers.append(scalars(figures))
            # Lists, such as a confusion matrix, are written for the test only.
            written = figures if entry.event == "test" else numbers[-1]
            lines.append(event_line(entry.event, epoch=entry.epoch, step=entry.step, time=entry.time, metrics=written))
        run.store.write_events("".join(lines))
        self._written_at = time.monotonic()
        if listened:
            for entry, metrics in zip(entries, numbers, strict=True):
                run.hooks.dovetail_log(
                    run=run, event=entry.event, metrics=metrics, epoch=entry.epoch, step=entry.step, time=entry.time
                )
