"""The console: what a run prints while it trains and at its end.

The console is a listener of the run's lifecycle. On a terminal it shows a live panel. Anywhere else it prints plain
lines: one per epoch or validation, and a progress line whenever nothing has been printed for a while. Both read the
run's counters from a thread of their own, a few times per second at most, so the training loop does nothing for them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO

from dovetail.config.diagnostics import ConfigError
from dovetail.record.formatting import (
    compute_precision,
    format_clock,
    format_duration,
    format_metric,
    format_metrics,
    format_rate,
    plural,
)
from dovetail.record.layout import LOG, REPORT
from dovetail.record.progress import Progress

if TYPE_CHECKING:
    from dovetail.monitor.alerts import Alert
    from dovetail.record.live_panel import LivePanel
    from dovetail.train.context import Run
    from dovetail.train.state import Outcome

_logger: Final = logging.getLogger("dovetail.record")

#: Seconds without output after which a plain console prints the progress.
SILENCE: Final = 15.0

DisplayMode = Literal["live", "plain", "summary", "silent"]

_SHOWS_NO_PROGRESS: Final = ("summary", "silent")


class Console:
    """Shows one run."""

    def __init__(
        self, stream: TextIO | None = None, *, mode: DisplayMode | None = None, silence: float = SILENCE
    ) -> None:
        """Choose where and how to show the run.

        Args:
            stream: the stream to write to; standard output by default.
            mode: by default ``"live"`` if ``stream`` is a terminal, else ``"plain"``. ``"summary"`` shows only alerts
                and the summary at the end, ``"silent"`` nothing.
            silence: seconds without output after which a plain console prints the progress.
        """
        self.stream = sys.stdout if stream is None else stream
        self.mode: DisplayMode = mode or ("live" if self.stream.isatty() else "plain")
        self.silence = silence
        #: The run's folder and its log file, once the run has started.
        self.folder: Path | None = None
        self.log: Path | None = None
        self.progress: Progress | None = None
        #: The position, metrics and "is the best so far" of a validation whose epoch may still add metrics.
        self._pending: tuple[str, dict[str, float], bool] | None = None
        self._last_output = 0.0
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._panel: LivePanel | None = None

    # --- the run's lifecycle ------------------------------------------------------------------------------------------

    def dovetail_run_start(self, run: Run) -> None:
        """Print what starts, and start to show the progress."""
        self.folder, self.log = run.store.path, run.store.logs / LOG
        self.progress = Progress(run)
        if self.mode in _SHOWS_NO_PROGRESS:
            return
        model = run.parts.model
        facts = [
            run.config.run.name,
            str(run.device),
            compute_precision(run.config.training.precision, model),
            f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters",
            f"{plural(self.progress.epochs, 'epoch')} of {run.plan.steps_per_epoch:,} steps",
        ]
        self._print(" · ".join(facts))
        if self.progress.step:
            self._print(f"resuming at {_position(self.progress)}")
        if self.mode == "live":
            from dovetail.record.live_panel import LivePanel

            self._panel = LivePanel(self.stream, self.progress)
            self._guard(self._panel.start)
        else:
            threading.Thread(target=self._break_silence, name="dovetail-console", daemon=True).start()

    def dovetail_log(self, event: str, metrics: Mapping[str, float]) -> None:
        """Store metrics, and print a line for each epoch and for each validation within an epoch."""
        progress = self.progress
        if progress is None or self.mode in _SHOWS_NO_PROGRESS:
            return
        progress.add(event, metrics)
        if event == "validation":
            self._flush()
            self._pending = (_position(progress), dict(metrics), progress.is_best())
        elif event == "epoch":
            position = _position(progress)
            if self._pending and self._pending[0] != position:
                self._flush()
            _, validated, best = self._pending or (position, {}, False)
            # The epoch repeats the metrics of an earlier validation, which already has its line.
            own = {name: value for name, value in metrics.items() if not name.startswith("val_")}
            self._pending = (position, {**own, **validated}, best)
            self._flush()
        elif self._pending:
            self._flush()

    def dovetail_alert(self, alert: Alert) -> None:
        """Print an alert."""
        if self.mode != "silent":
            self._print(f"{alert.severity}: {alert.message}")

    def dovetail_run_end(self) -> None:
        """Stop showing progress."""
        self._flush()
        self._ended.set()
        if self._panel:
            self._guard(self._panel.stop)
            self._panel = None

    # --- the end ------------------------------------------------------------------------------------------------------

    def summarise(self, outcome: Outcome, command: Sequence[str]) -> None:
        """Print how the run ended, its folder, and ``command``, which repeats it."""
        if self.mode != "silent":
            for line in summary(outcome, self.progress, self.folder, command):
                self._print(line)

    # --- writing ------------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Print the line of a validation or epoch whose metrics are complete."""
        if self._pending and self.progress:
            position, metrics, best = self._pending
            self._pending = None
            self.progress.sample_counters()
            self._print(f"{position}  {format_metrics(metrics)}{'  best' if best else ''}")

    def _break_silence(self) -> None:
        """Run in a thread: print the progress after each silence, until the run ends."""
        wait = self.silence
        while not self._ended.wait(wait):
            wait = self._last_output + self.silence - time.monotonic()
            if wait <= 0 and self.progress is not None:
                self.progress.sample_counters()
                self._print(_progress_line(self.progress))
                wait = self.silence

    def _print(self, line: str) -> None:
        with self._lock:
            self._guard(lambda: self._panel.print(line) if self._panel else self._write(line))
            self._last_output = time.monotonic()

    def _write(self, line: str) -> None:
        self.stream.write(line + "\n")
        self.stream.flush()

    def _guard(self, write: Callable[[], None]) -> None:
        """Write to the stream; if it is closed, fall silent."""
        try:
            write()
        except OSError as error:
            self._fall_silent(error)

    def _fall_silent(self, error: OSError) -> None:
        """Stop writing: the reader of the stream is gone, and the run matters more than its output."""
        _logger.warning("cannot write to the console, so it is silent from now on: %s", error)
        self.mode = "silent"
        self._ended.set()
        # Discard what parts print from now on, and what Python flushes when it exits.
        with contextlib.suppress(OSError), open(os.devnull, "w") as devnull:  # noqa: PTH123 (a device)
            os.dup2(devnull.fileno(), self.stream.fileno())


def _position(progress: Progress) -> str:
    epochs, steps = str(progress.epochs), f"{progress.steps:,}"
    return f"epoch {progress.epoch:>{len(epochs)}}/{epochs}  step {progress.step:>{len(steps)},}/{steps}"


def _progress_line(progress: Progress) -> str:
    loss = progress.metrics.get("train_loss")
    shown = [_position(progress)] + ([f"train_loss {format_metric('train_loss', loss)}"] if loss is not None else [])
    throughput = progress.throughput()
    if throughput is not None:
        shown += [f"{format_rate(throughput)} samples/s", f"eta {format_clock(progress.seconds_left())}"]
    return "  ".join(shown)


def summary(outcome: Outcome, progress: Progress | None, folder: Path | None, command: Sequence[str]) -> list[str]:
    """Return the last lines of a run: status, best, test, folder, report, and the command that repeats it."""
    signs = {"completed": "✓", "stopped_early": "✓", "failed": "✗"}
    status = outcome.status.replace("_", " ")
    # The command line prints on standard error why a run failed.
    why = f": {outcome.reason}" if outcome.reason and outcome.status != "failed" else ""
    lines = [f"{signs.get(outcome.status, '■')} {status} after {format_duration(outcome.total_time)}{why}"]
    rows: list[tuple[str, str]] = []
    if progress is not None and progress.step:
        rows.append(("trained", f"{plural(progress.epoch, 'epoch')}, {plural(progress.step, 'step')}"))
    if progress is not None and progress.best():
        rows.append(("best", progress.best()))
    tested = {name: value for name, value in outcome.test_metrics.items() if _is_number(value)}
    if tested:
        rows.append(("test", format_metrics(tested).replace("test_", "")))
    if folder is not None:
        rows.append(("run", str(folder)))
        if (folder / REPORT).is_file():
            rows.append(("report", str(folder / REPORT)))
    resume = resume_command(outcome, folder)
    if resume:
        rows.append(("resume", shlex.join(resume)))
    if command:
        rows.append(("repeat", shlex.join(command)))
    return [*lines, *(f"  {name:<8} {value}" for name, value in rows)]


def resume_command(outcome: Outcome, folder: Path | None) -> list[str]:
    """Return the command that resumes an unfinished run; empty if resuming cannot help, or there is no folder."""
    unfinished = outcome.status not in {"completed", "stopped_early"} and not isinstance(outcome.error, ConfigError)
    return ["dovetail", "resume", str(folder)] if unfinished and folder is not None else []


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
