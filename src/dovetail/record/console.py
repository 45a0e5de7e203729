"""The console: what a run says while it goes on, and at its end.

A listener of the run's lifecycle, chosen by whoever starts the run. On a terminal it shows a live panel; anywhere else
it writes plain lines: one per epoch or validation, and one now and then in between, so that a log shows that it lives.
Both look at the run from a thread of their own a few times per second at most: the training loop calls nothing for it.
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
from dovetail.record.files import LOG, REPORT
from dovetail.record.progress import Progress, in_words
from dovetail.record.words import clock, duration, plural, precision, rate, share

if TYPE_CHECKING:
    from dovetail.monitor.alerts import Alert
    from dovetail.record.live import LivePanel
    from dovetail.train.context import Run
    from dovetail.train.state import Outcome

_logger: Final = logging.getLogger("dovetail.record")

#: Seconds without a word after which a plain console says that the run lives.
SILENCE: Final = 15.0

Mode = Literal["live", "plain", "summary", "silent"]

_NOT_WATCHING: Final = ("summary", "silent")


class Console:
    """Shows one run."""

    def __init__(self, stream: TextIO | None = None, *, mode: Mode | None = None, silence: float = SILENCE) -> None:
        """Say where and how to show the run.

        Args:
            stream: what to write to; standard output by default.
            mode: by default ``"live"`` where ``stream`` is a terminal, else ``"plain"``. ``"summary"`` shows only the
                end, ``"silent"`` nothing.
            silence: seconds without a word after which a plain console says that the run lives.
        """
        self.stream = sys.stdout if stream is None else stream
        self.mode: Mode = mode or ("live" if self.stream.isatty() else "plain")
        self.silence = silence
        #: The run's folder and its log, once it has them.
        self.folder: Path | None = None
        self.log: Path | None = None
        self.progress: Progress | None = None
        #: Where, figures, and whether it is the best so far: of a validation whose epoch may have more to say.
        self._pending: tuple[str, dict[str, float], bool] | None = None
        self._spoke_at = 0.0
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._panel: LivePanel | None = None

    # --- the run's lifecycle ------------------------------------------------------------------------------------------

    def dovetail_run_start(self, run: Run) -> None:
        """Say what starts, and begin to watch."""
        self.folder, self.log = run.store.path, run.store.logs / LOG
        self.progress = Progress(run)
        if self.mode in _NOT_WATCHING:
            return
        model = run.parts.model
        parameters = sum(one.numel() for one in model.parameters())
        computing = precision(run.config.training.precision, model)
        about = [run.config.run.name, str(run.device), computing, f"{parameters:,} parameters"]
        self._say(
            " · ".join([*about, f"{plural(self.progress.epochs, 'epoch')} of {run.plan.steps_per_epoch:,} steps"])
        )
        if self.progress.step:
            self._say(f"going on at {_where(self.progress)}")
        if self.mode == "live":
            from dovetail.record.live import LivePanel

            self._panel = LivePanel(self.stream, self.progress)
            self._write(self._panel.start)
        else:
            threading.Thread(target=self._show_life, name="dovetail-console", daemon=True).start()

    def dovetail_log(self, event: str, metrics: Mapping[str, float]) -> None:
        """Take in figures, and write a line for each epoch, and for each validation within one."""
        progress = self.progress
        if progress is None or self.mode in _NOT_WATCHING:
            return
        progress.take(event, metrics)
        if event == "validation":
            self._flush()
            self._pending = (_where(progress), dict(metrics), progress.is_best())
        elif event == "epoch":
            where = _where(progress)
            if self._pending and self._pending[0] != where:
                self._flush()
            _, validated, best = self._pending or (where, {}, False)
            # Of an earlier validation the epoch tells again what has had its line.
            own = {name: value for name, value in metrics.items() if not name.startswith("val_")}
            self._pending = (where, {**own, **validated}, best)
            self._flush()
        elif self._pending:
            self._flush()

    def dovetail_alert(self, alert: Alert) -> None:
        """Pass on a warning."""
        if self.mode != "silent":
            self._say(f"{alert.severity}: {alert.message}")

    def dovetail_run_end(self) -> None:
        """Stop watching."""
        self._flush()
        self._ended.set()
        if self._panel:
            self._write(self._panel.stop)
            self._panel = None

    # --- the end ------------------------------------------------------------------------------------------------------

    def summarise(self, outcome: Outcome, command: Sequence[str]) -> None:
        """Write how the run ended, where it is, and the command that repeats it, if there is one."""
        if self.mode != "silent":
            for line in summary(outcome, self.progress, self.folder, command):
                self._say(line)

    # --- writing ------------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Write the line of a validation, or an epoch, whose figures are all there."""
        if self._pending and self.progress:
            where, metrics, best = self._pending
            self._pending = None
            self.progress.look()
            self._say(f"{where}  {in_words(metrics)}{'  best' if best else ''}")

    def _show_life(self) -> None:
        """Run in a thread: write a line after each silence, until the end."""
        wait = self.silence
        while not self._ended.wait(wait):
            wait = self._spoke_at + self.silence - time.monotonic()
            if wait <= 0 and self.progress is not None:
                self.progress.look()
                self._say(_life(self.progress))
                wait = self.silence

    def _say(self, line: str) -> None:
        with self._lock:
            self._write(lambda: self._panel.print(line) if self._panel else self._print(line))
            self._spoke_at = time.monotonic()

    def _print(self, line: str) -> None:
        self.stream.write(line + "\n")
        self.stream.flush()

    def _write(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            self._fall_silent(error)

    def _fall_silent(self, error: OSError) -> None:
        """Do without what is shown, as nobody reads it any more: a run is worth more than its lines."""
        _logger.warning("nothing can be written to the console any more, so it is silent: %s", error)
        self.mode = "silent"
        self._ended.set()
        # What parts print is lost as well, and so is what is still to be written when Python ends.
        with contextlib.suppress(OSError), open(os.devnull, "w") as nowhere:  # noqa: PTH123 (a device)
            os.dup2(nowhere.fileno(), self.stream.fileno())


def _where(progress: Progress) -> str:
    epochs, steps = str(progress.epochs), f"{progress.steps:,}"
    return f"epoch {progress.epoch:>{len(epochs)}}/{epochs}  step {progress.step:>{len(steps)},}/{steps}"


def _life(progress: Progress) -> str:
    loss = progress.figures.get("train_loss")
    said = [_where(progress)] + ([f"train_loss {share('train_loss', loss)}"] if loss is not None else [])
    speed = progress.speed()
    if speed is not None:
        said += [f"{rate(speed)} samples/s", f"eta {clock(progress.left())}"]
    return "  ".join(said)


def summary(outcome: Outcome, progress: Progress | None, folder: Path | None, command: Sequence[str]) -> list[str]:
    """Return the last lines of a run: status, best, test, folder, report, and the command that repeats it."""
    signs = {"completed": "✓", "stopped_early": "✓", "failed": "✗"}
    words = outcome.status.replace("_", " ")
    # Why a run failed is said on standard error, by whoever started it.
    why = f": {outcome.reason}" if outcome.reason and outcome.status != "failed" else ""
    lines = [f"{signs.get(outcome.status, '■')} {words} after {duration(outcome.total_time)}{why}"]
    rows: list[tuple[str, str]] = []
    if progress is not None and progress.step:
        rows.append(("trained", f"{plural(progress.epoch, 'epoch')}, {plural(progress.step, 'step')}"))
    if progress is not None and progress.best():
        rows.append(("best", progress.best()))
    tested = {name: value for name, value in outcome.test_metrics.items() if _is_number(value)}
    if tested:
        rows.append(("test", in_words(tested).replace("test_", "")))
    if folder is not None:
        rows.append(("run", str(folder)))
        if (folder / REPORT).is_file():
            rows.append(("report", str(folder / REPORT)))
    resume = resume_command(outcome, folder)
    if resume:
        rows.append(("go on", shlex.join(resume)))
    if command:
        rows.append(("again", shlex.join(command)))
    return [*lines, *(f"  {name:<8} {value}" for name, value in rows)]


def resume_command(outcome: Outcome, folder: Path | None) -> list[str]:
    """Return the command that goes on with a run; none where that would come to nothing, or there is no folder."""
    unfinished = outcome.status not in {"completed", "stopped_early"} and not isinstance(outcome.error, ConfigError)
    return ["dovetail", "resume", str(folder)] if unfinished and folder is not None else []


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
