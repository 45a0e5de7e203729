"""A run on disk: its folder, the files in it, and the lock that keeps other processes out."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import logging
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from dovetail.record.json_lines import jsonable, truncate
from dovetail.record.layout import ALERTS, LOG, METRICS, RECORD, RESOLVED, external_folder
from dovetail.record.lock import FolderLock, LockedError
from dovetail.storage.atomic import write_atomic
from dovetail.storage.errors import storage_error

_FORMAT: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class RunDirectoryError(OSError):
    """A run's folder cannot be created or written, or another process is using it."""


class RunDirectory:
    """The folder of one run, locked for one process.

    It holds ``resolved.toml``, ``run.json``, ``metrics.jsonl``, ``alerts.jsonl``, ``log.txt``, ``report.html``,
    ``plots/``, ``pictures/`` and ``checkpoints/``.
    """

    def __init__(self, path: Path, *, checkpoints: Path | None = None, logs: Path | None = None) -> None:
        """Lock an existing folder.

        Args:
            path: the run's folder.
            checkpoints: the folder for checkpoints; ``path/checkpoints`` by default.
            logs: the folder for ``log.txt``; ``path`` by default.

        Raises:
            RunDirectoryError: another process holds the lock, or the folder cannot be written.
        """
        self.path = path
        self.checkpoints = checkpoints or path / "checkpoints"
        self.logs = logs or path
        self._metrics: IO[str] | None = None
        self._lock = _lock(path)

    @classmethod
    def create(cls, output: Path, name: str, *, models: Path | None = None, logs: Path | None = None) -> Self:
        """Create and lock the folder ``output/name/<UTC time>-<6 hex digits>`` of a new run.

        Args:
            output: the folder of all runs.
            name: the run's name; the config has checked that it is a plain word.
            models: checkpoints go to ``models/name/<id>`` instead of into the folder.
            logs: ``log.txt`` goes to ``logs/name/<id>`` instead of into the folder.

        Raises:
            RunDirectoryError: the folder cannot be created; the message names the folder at fault and says why.
        """
        now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H-%M-%S")
        run_id = f"{now}-{secrets.token_hex(3)}"
        path = output / name / run_id
        checkpoints, log_folder = (external_folder(root, name, run_id) for root in (models, logs))
        for folder in (path, checkpoints, log_folder):
            if folder is not None:
                _create(folder)
        return cls(path, checkpoints=checkpoints, logs=log_folder)

    @property
    def id(self) -> str:
        """The run's id: the name of its folder."""
        return self.path.name

    def freeze(self, resolved: str) -> None:
        """Write the resolved config, as TOML.

        Raises:
            StorageError: the file cannot be written. The methods below that write raise it too.
        """
        _replace(self.path / RESOLVED, resolved)

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Replace ``run.json`` atomically."""
        text = json.dumps(jsonable(record), indent=2, ensure_ascii=False, allow_nan=False)
        _replace(self.path / RECORD, f"{text}\n")

    def write_events(self, lines: str) -> None:
        """Append lines from :func:`~dovetail.record.json_lines.event_line` to ``metrics.jsonl``."""
        if not lines:
            return
        path = self.path / METRICS
        with _explain_write_errors(path, lines):
            if self._metrics is None:
                self._metrics = path.open("a", encoding="utf-8")
            self._metrics.write(lines)
            self._metrics.flush()

    def log_sizes(self) -> dict[str, int]:
        """Flush ``metrics.jsonl`` to disk and return the sizes of it and of ``alerts.jsonl``, in bytes."""
        if self._metrics is None:
            self._metrics = (self.path / METRICS).open("a", encoding="utf-8")
        os.fsync(self._metrics.fileno())
        alerts = self.path / ALERTS
        return {
            "metrics": os.fstat(self._metrics.fileno()).st_size,
            "alerts": alerts.stat().st_size if alerts.exists() else 0,
        }

    def rewind(self, metrics: int = 0, alerts: int = 0) -> None:
        """Truncate ``metrics.jsonl`` and ``alerts.jsonl`` to the given sizes in bytes."""
        truncate(self.path / METRICS, metrics)
        truncate(self.path / ALERTS, alerts)

    def add_picture(self, name: str, svg: str) -> Path:
        """Add a picture to the report, replacing one of the same name.

        Args:
            name: a plain word; the report shows pictures in the order of their names.
            svg: an ``<svg>`` element of shapes and text, with an ``aria-label`` that says what it shows. The report's
                colours are available as CSS variables such as ``var(--ink)``.

        Returns:
            The picture's file, in ``pictures/``.

        Raises:
            PictureError: the name is not a plain word, or the picture contains anything but shapes and text.
            OSError: the file cannot be written.
        """
        from dovetail.record.report.pictures import write_picture

        return write_picture(self.path, name, svg)

    def log_alert(self, alert: Mapping[str, Any]) -> None:
        """Append an alert to ``alerts.jsonl``; the first alert creates the file."""
        line, path = json.dumps(jsonable(alert), ensure_ascii=False, allow_nan=False) + "\n", self.path / ALERTS
        with _explain_write_errors(path, line), path.open("a", encoding="utf-8") as file:
            file.write(line)

    @contextlib.contextmanager
    def logging(self) -> Iterator[None]:
        """Write log messages of Dovetail and its plugins, from level INFO on, to ``log.txt``."""
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
        """Close the files and release the lock."""
        if self._metrics is not None:
            with contextlib.suppress(OSError):  # lines that could not be written have raised before
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
    """A log file whose write errors are ignored: if the disk is full, the run itself fails and says so."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Ignore the error; logging would print a traceback for each line."""

    def close(self) -> None:
        """Close the file, even if its last lines cannot be written."""
        with contextlib.suppress(OSError):
            super().close()


@contextlib.contextmanager
def _explain_write_errors(path: Path, text: str) -> Iterator[None]:
    """Turn an ``OSError`` into a ``StorageError`` that names the file."""
    try:
        yield
    except OSError as error:
        raise storage_error(path, error, "write", needed=len(text.encode())) from error


def _replace(path: Path, text: str) -> None:
    with _explain_write_errors(path, text):
        write_atomic(path, text.encode())


def _create(path: Path) -> None:
    try:
        path.mkdir(parents=True)
    except OSError as error:
        at_fault = next(folder for folder in (path, *path.parents) if folder.exists())
        raise RunDirectoryError(
            f"{path}: cannot create the run's folder: {_reason(error)} (in {at_fault}); "
            "set paths.output to another folder"
        ) from error


def _lock(path: Path) -> FolderLock:
    """Lock the folder for the life of this process."""
    try:
        return FolderLock(path)
    except LockedError as error:
        raise RunDirectoryError(f"{path}: {error}") from None
    except OSError as error:
        raise RunDirectoryError(f"{path}: cannot write here: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
