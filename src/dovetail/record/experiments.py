"""The experiment database: runs and their metrics in one SQLite file that many runs write to."""

from __future__ import annotations

import datetime as dt
import json
import math
import sqlite3
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

from dovetail.config.diagnostics import suggest
from dovetail.metrics.direction import direction
from dovetail.record.database import Database, DatabaseError
from dovetail.record.json_lines import jsonable

#: One script per schema version, applied in order; a released script is never edited.
_MIGRATIONS: Final = (
    """
    CREATE TABLE runs (
        run_id INTEGER PRIMARY KEY AUTOINCREMENT,
        run_name TEXT NOT NULL,
        config TEXT NOT NULL,
        notes TEXT NOT NULL,
        folder TEXT UNIQUE,
        status TEXT NOT NULL DEFAULT 'running',
        reason TEXT NOT NULL DEFAULT '',
        started TEXT NOT NULL,
        finished TEXT
    );
    CREATE TABLE metrics (
        run_id INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
        name TEXT NOT NULL,
        value REAL,
        epoch INTEGER,
        step INTEGER
    );
    CREATE INDEX metrics_by_run ON metrics (run_id, name);
    CREATE INDEX metrics_by_value ON metrics (name, value);
    """,
)
#: Identifies the file in its header.
_APPLICATION: Final = b"DvTl"


class ExperimentDB:
    """Runs and their metrics in an SQLite file, created if it does not exist.

    Many processes may use the file at once: it is in write-ahead-log mode, and each process waits for the others.
    Metrics are floats of any value; NaN and infinities are never the best.
    """

    def __init__(self, path: str | Path, *, timeout: float = 10.0) -> None:
        """Open the file.

        Args:
            path: the file; missing folders above it are created.
            timeout: seconds to wait for other processes, per operation.

        Raises:
            DatabaseError: the file is damaged, belongs to another program, comes from a newer Dovetail, cannot be
                opened, or is locked by another process for longer than ``timeout``.
        """
        self.path = Path(path)
        self._database = Database(self.path, application=_APPLICATION, migrations=_MIGRATIONS, timeout=timeout)

    # --- writing ------------------------------------------------------------------------------------------------------

    def log_run(
        self, run_name: str, config: Mapping[str, Any] | None = None, notes: str = "", *, folder: Path | None = None
    ) -> int:
        """Add a run and return its id, a positive integer.

        Args:
            run_name: the run's name; several runs may have the same one.
            config: the run's config as plain tables.
            notes: free text.
            folder: the run's folder. A resumed run, whose folder is known already, keeps its id and its metrics.

        Raises:
            DatabaseError: the file cannot be written.
        """
        text = json.dumps(jsonable(config or {}), ensure_ascii=False, allow_nan=False)
        with self._database.writing() as connection:
            row = connection.execute(
                "INSERT INTO runs (run_name, config, notes, folder, started) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (folder) DO UPDATE SET status = 'running', reason = '', finished = NULL,"
                " config = excluded.config RETURNING run_id",
                (run_name, text, notes, None if folder is None else str(folder.absolute()), _now()),
            ).fetchone()
        return int(row["run_id"])

    def log_metric(
        self, run_id: int, name: str, value: float, epoch: int | None = None, step: int | None = None
    ) -> None:
        """Add one value of a metric.

        Raises:
            DatabaseError: there is no such run, or the file cannot be written.
        """
        self.log_metrics(run_id, {name: value}, epoch=epoch, step=step)

    def log_metrics(
        self, run_id: int, metrics: Mapping[str, float], *, epoch: int | None = None, step: int | None = None
    ) -> None:
        """Add metrics of a run, all or none of them.

        Args:
            run_id: what :meth:`log_run` returned.
            metrics: values by name.
            epoch: the epoch, counted from 1.
            step: optimizer updates so far.

        Raises:
            DatabaseError: there is no such run, or the file cannot be written.
        """
        rows = [(run_id, name, float(value), epoch, step) for name, value in metrics.items()]
        with self._database.writing() as connection:
            self._check_run(run_id)
            connection.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, ?)", rows)

    def rewind(self, run_id: int, figures: int) -> None:
        """Delete all but the first ``figures`` values of a run, because it resumes from the checkpoint after them.

        Raises:
            DatabaseError: the file cannot be written.
        """
        with self._database.writing() as connection:
            connection.execute(
                "DELETE FROM metrics WHERE rowid IN"
                " (SELECT rowid FROM metrics WHERE run_id = ? ORDER BY rowid LIMIT -1 OFFSET ?)",
                (run_id, figures),
            )

    def finish_run(self, run_id: int, status: str = "completed", reason: str = "") -> None:
        """Record how a run ended.

        Raises:
            DatabaseError: there is no such run, or the file cannot be written.
        """
        with self._database.writing() as connection:
            self._check_run(run_id)
            connection.execute(
                "UPDATE runs SET status = ?, reason = ?, finished = ? WHERE run_id = ?",
                (status, reason, _now(), run_id),
            )

    # --- reading ------------------------------------------------------------------------------------------------------

    def get_run(self, run_id: int) -> dict[str, Any]:
        """Return a run: run_id, run_name, config, notes, folder, status, reason, started and finished (ISO 8601, UTC).

        Raises:
            DatabaseError: there is no such run, or the file cannot be read.
        """
        for row in self._database.read("SELECT * FROM runs WHERE run_id = ?", (run_id,)):
            return _run(row)
        raise self._unknown(run_id)

    def list_runs(self) -> list[dict[str, Any]]:
        """Return all runs, each as from :meth:`get_run`, oldest first.

        Raises:
            DatabaseError: the file cannot be read.
        """
        return [_run(row) for row in self._database.read("SELECT * FROM runs ORDER BY run_id")]

    def get_metrics(self, run_id: int, name: str | None = None) -> list[dict[str, Any]]:
        """Return a run's metrics, all or those of one name, in the order of logging: name, value, epoch, step.

        Raises:
            DatabaseError: there is no such run, or the file cannot be read.
        """
        self._check_run(run_id)
        rows = self._database.read(
            "SELECT name, value, epoch, step FROM metrics WHERE run_id = ? AND (? IS NULL OR name = ?) ORDER BY rowid",
            (run_id, name, name),
        )
        # SQLite has no NaN: it stores NULL instead.
        return [{**dict(row), "value": math.nan if row["value"] is None else row["value"]} for row in rows]

    def get_best_run(self, metric: str, mode: Literal["auto", "min", "max"] = "auto") -> dict[str, Any] | None:
        """Return the run with the best finite value of ``metric``; the older of two equal runs, None if there is none.

        The run is as from :meth:`get_run`, with ``best_value`` and the ``epoch`` and ``step`` of that value.

        Args:
            metric: its name, such as ``val_accuracy``.
            mode: whether a lower (``"min"``) or a higher (``"max"``) value is better; by default its name decides.

        Raises:
            DatabaseError: the file cannot be read.
            ValueError: there are metrics, but none of this name; ``mode`` is unknown, or the name does not say it.
        """
        if mode not in {"auto", "min", "max"}:
            raise ValueError(f"mode must be 'auto', 'min' or 'max', got {mode!r}")
        known = [row[0] for row in self._database.read("SELECT DISTINCT name FROM metrics ORDER BY name")]
        if known and metric not in known:
            raise ValueError(
                f"no run has a metric '{metric}'{suggest(metric, known) or '; there is ' + ', '.join(known)}"
            )
        better = direction(metric) if mode == "auto" else mode
        if better is None:
            raise ValueError(f"nothing says whether a lower or a higher {metric} is better: pass mode='min' or 'max'")
        rows = self._database.read(
            "SELECT runs.*, value AS best_value, epoch, step FROM metrics JOIN runs USING (run_id)"
            " WHERE name = ? AND value BETWEEN ? AND ? ORDER BY value * ?, run_id, metrics.rowid LIMIT 1",
            (metric, -sys.float_info.max, sys.float_info.max, 1 if better == "min" else -1),
        )
        return _run(rows[0]) if rows else None

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_run(self, run_id: int) -> None:
        if not self._database.read("SELECT 1 FROM runs WHERE run_id = ?", (run_id,)):
            raise self._unknown(run_id)

    def _unknown(self, run_id: int) -> DatabaseError:
        return DatabaseError(f"{self.path}: there is no run {run_id}")


def _run(row: sqlite3.Row) -> dict[str, Any]:
    return {**dict(row), "config": json.loads(row["config"])}


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
