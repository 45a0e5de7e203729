"""A run on disk: its folder, the files in it, and the lock that keeps other processes out."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import logging
import math
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from dovetail.record.files import ALERTS, LOG, METRICS, RECORD, RESOLVED
from dovetail.record.line_file import rewind
from dovetail.record.lock import FolderLock, LockedError
from dovetail.storage.atomic import write_atomic
from dovetail.storage.errors import storage_error

_encode: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_FORMAT: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class RunDirectoryError(OSError):
    """A run's folder cannot be made, or is in use."""


class RunDirectory:
    """The folder of one run, held by one process.

    In it are ``resolved.toml``, ``run.json``, ``metrics.jsonl``, ``alerts.jsonl``, ``log.txt``, ``report.html``,
    ``plots/``, ``pictures/`` and ``checkpoints/``.
    """

    def __init__(self, path: Path, *, checkpoints: Path | None = None, logs: Path | None = None) -> None:
        """Take an existing folder into use.

        Args:
            path: the run's folder.
            checkpoints: where checkpoints go; inside the folder unless given.
            logs: where ``log.txt`` goes; inside the folder unless given.

        Raises:
            RunDirectoryError: another process holds it, or nothing can be written there.
        """
        self.path = path
        self.checkpoints = checkpoints or path / "checkpoints"
        self.logs = logs or path
        self._metrics: IO[str] | None = None
        self._lock = _locked(path)

    @classmethod
    def create(cls, output: Path, name: str, *, models: Path | None = None, logs: Path | None = None) -> Self:
        """Make the folder ``output/name/<UTC time>-<6 hex digits>`` for a new run and take it into use.

        Args:
            output: the folder of all runs.
            name: the run's name, which the config has checked to be a plain word.
            models: checkpoints go to ``models/name/<id>`` instead of into the folder.
            logs: ``log.txt`` goes to ``logs/name/<id>`` instead of into the folder.

        Raises:
            RunDirectoryError: it cannot be made; the message names the folder at fault and says why.
        """
        now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H-%M-%S")
        run_id = f"{now}-{secrets.token_hex(3)}"
        path, elsewhere = output / name / run_id, [apart(one, name, run_id) for one in (models, logs)]
        for one in (path, *elsewhere):
            if one is not None:
                _make(one)
        return cls(path, checkpoints=elsewhere[0], logs=elsewhere[1])

    @property
    def id(self) -> str:
        """The run's id: the name of its folder."""
        return self.path.name

    def freeze(self, resolved: str) -> None:
        """Write the resolved config, as TOML.

        Raises:
            StorageError: it cannot be written; as with the record, the events and the alerts.
        """
        _replace(self.path / RESOLVED, resolved)

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Replace ``run.json``, whole or not at all."""
        text = json.dumps(jsonable(record), indent=2, ensure_ascii=False, allow_nan=False)
        _replace(self.path / RECORD, f"{text}\n")

    def write_events(self, lines: str) -> None:
        """Append events to ``metrics.jsonl``, each a line that :func:`event_line` made."""
        if not lines:
            return
        path = self.path / METRICS
        with _told(path, lines):
            if self._metrics is None:
                self._metrics = path.open("a", encoding="utf-8")
            self._metrics.write(lines)
            self._metrics.flush()

    def logged(self) -> dict[str, int]:
        """Return how many bytes there are of ``metrics.jsonl``, all of them on the disk, and of ``alerts.jsonl``."""
        if self._metrics is None:
            self._metrics = (self.path / METRICS).open("a", encoding="utf-8")
        os.fsync(self._metrics.fileno())
        alerts = self.path / ALERTS
        return {
            "metrics": os.fstat(self._metrics.fileno()).st_size,
            "alerts": alerts.stat().st_size if alerts.exists() else 0,
        }

    def rewind(self, metrics: int = 0, alerts: int = 0) -> None:
        """Drop what was written to ``metrics.jsonl`` and ``alerts.jsonl`` after so many bytes of each."""
        rewind(self.path / METRICS, metrics)
        rewind(self.path / ALERTS, alerts)

    def add_picture(self, name: str, svg: str) -> Path:
        """Give the report a picture, replacing one of the same name.

        Args:
            name: a plain word; pictures are shown in the order of their names.
            svg: an ``<svg>`` element of shapes and text, whose ``aria-label`` says what it shows. The report's colours
                are there as CSS variables such as ``var(--ink)``.

        Returns:
            Where it is kept, in ``pictures/``.

        Raises:
            PictureError: the name is no plain word, or the picture holds anything but shapes and text.
            OSError: it cannot be written.
        """
        from dovetail.record.pictures import write_picture

        return write_picture(self.path, name, svg)

    def log_alert(self, alert: Mapping[str, Any]) -> None:
        """Append an alert to ``alerts.jsonl``, which is not there before the first."""
        line, path = json.dumps(jsonable(alert), ensure_ascii=False, allow_nan=False) + "\n", self.path / ALERTS
        with _told(path, line), path.open("a", encoding="utf-8") as file:
            file.write(line)

    @contextlib.contextmanager
    def logging(self) -> Iterator[None]:
        """Write what Dovetail and its plugins log, from INFO on, to ``log.txt``."""
        logger = logging.getLogger("dovetail")
        handler = _LogFile(self.logs / LOG, encoding="utf-8")
        handler.setFormatter(logging.Formatter(_FORMAT))
        before = logger.level
        logger.addHandler(handler)
        logger.setLevel(min(logging.INFO, before or logging.INFO))
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(before)
            handler.close()

    def close(self) -> None:
        """Close the files and give up the lock."""
        if self._metrics is not None:
            with contextlib.suppress(OSError):  # of what could not be written before, which was said then
                self._metrics.close()
            self._metrics = None
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _LogFile(logging.FileHandler):
    """The log, which is done without where it cannot be written: the run that it tells of says so itself."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Say nothing: logging itself would print a traceback for each line."""

    def close(self) -> None:
        """Close the file, whether or not the rest of it can be written."""
        with contextlib.suppress(OSError):
            super().close()


@contextlib.contextmanager
def _told(path: Path, text: str) -> Iterator[None]:
    """Say of which file it is that the operating system does not take ``text``."""
    try:
        yield
    except OSError as error:
        raise storage_error(path, error, "write", needed=len(text.encode())) from error


def _replace(path: Path, text: str) -> None:
    with _told(path, text):
        write_atomic(path, text.encode())


def apart(root: Path | None, name: str, run_id: str) -> Path | None:
    """Return where below ``root`` a run has what it keeps outside of its folder; None where it keeps that inside."""
    return root and root / name / run_id


def _make(path: Path) -> None:
    try:
        path.mkdir(parents=True)
    except OSError as error:
        at_fault = next(one for one in (path, *path.parents) if one.exists())
        reason = (error.strerror or str(error)).lower()
        message = f"{path}: cannot make the run's folder: {reason} (in {at_fault}); paths.output says where runs go"
        raise RunDirectoryError(message) from error


def _locked(path: Path) -> FolderLock:
    """Lock the folder for as long as this process lives."""
    try:
        return FolderLock(path)
    except LockedError as error:
        raise RunDirectoryError(f"{path}: {error}") from None
    except OSError as error:
        raise RunDirectoryError(f"{path}: cannot write here: {(error.strerror or str(error)).lower()}") from error


def event_line(event: str, *, epoch: int, step: int, time: float, metrics: Mapping[str, Any]) -> str:
    """Return an event as a line of ``metrics.jsonl``.

    Args:
        event: ``"train"``, ``"validation"``, ``"epoch"``, ``"test"`` or ``"monitor"``.
        epoch: the epoch under way, counted from 1.
        step: optimizer updates so far.
        time: seconds since the run's start.
        metrics: figures by name.
    """
    line = {"event": event, "epoch": epoch, "step": step, "time": round(time, 6), "metrics": metrics}
    try:
        return _encode(line) + "\n"
    except (TypeError, ValueError):  # not finite, or nothing that JSON knows: rare, and slow to look for
        return _encode(jsonable(line)) + "\n"


def jsonable(value: Any) -> Any:
    """Return ``value`` as JSON can say it.

    What is not finite becomes ``"nan"``, ``"inf"`` or ``"-inf"``; what JSON does not know, such as paths, becomes text.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(name): jsonable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(inner) for inner in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)
