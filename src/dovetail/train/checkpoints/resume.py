"""Resuming an earlier run: from which checkpoint, and whether everything it depends on is unchanged."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, cast

from attrs import frozen

from dovetail.checkpoint.manifest import CheckpointError
from dovetail.config.freeze import LENGTH_KEYS, freeze
from dovetail.record.formatting import plural
from dovetail.record.resumable import Change, ResumeError, changed_settings, changes_as_json, check_changes, is_finished
from dovetail.record.runs import RunRecord, as_number, as_table, flat, load_run
from dovetail.train.checkpoints.sharded import Verifier, read_own_shards
from dovetail.train.checkpoints.state import restore_state
from dovetail.train.errors import TrainingError
from dovetail.train.state import Outcome

if TYPE_CHECKING:
    from dovetail.checkpoint.store import ResumePoint
    from dovetail.config.schema import RunConfig
    from dovetail.record.recorder import Recorder
    from dovetail.train.context import Run
    from dovetail.train.state import Status

#: Facts about the data that must not change.
_DATA_FACTS: Final = ("fingerprint", "sizes", "num_classes", "class_names")


@frozen
class Earlier:
    """The run to resume, as it was recorded, and the settings that have changed since."""

    record: RunRecord
    changed: list[Change]

    @classmethod
    def read(cls, folder: Path, config: RunConfig) -> Self:
        """Return the run in ``folder``, to be resumed with ``config``.

        Raises:
            ConfigError: a setting may not change.
            RunLookupError: there is no such run.
        """
        record = load_run(folder)
        changed = changed_settings(record, config)
        check_changes(record, config, changed)
        return cls(record, changed)

    @property
    def finished(self) -> bool:
        """Whether it has nothing left to do."""
        return is_finished(self.record) and not any(change.changes_length() for change in self.changed)

    def outcome(self) -> Outcome:
        """Return the outcome that its record holds."""
        record, best = self.record, as_table(self.record.data.get("best"))
        return Outcome(
            cast("Status", record.status),
            str(record.data.get("reason") or ""),
            record.data.get("stopped_by"),
            best_epoch=best.get("epoch"),
            best_metric=record.best[1] if record.best else None,
            best_val_loss=as_number(best.get("val_loss")),
            metrics=record.metrics,
            test_metrics=record.test,
            total_time=record.duration or 0.0,
            folder=record.folder,
        )

    def restore(self, run: Run, recorder: Recorder) -> list[str]:
        """Restore ``run``, which was just built, to its newest intact checkpoint; return warnings for the user.

        Raises:
            ResumeError: the data have changed, no checkpoint is intact, or a part does not accept its saved state. The
                record and the log stay unchanged.
        """
        self._check_data(run)
        point = self._point(run)
        warnings = [
            f"skipping a damaged checkpoint, the run resumes from the one before: {damage}"
            for damage in (point.damaged if point else ())
        ]
        if point is None:
            run.store.rewind()
            warnings.append("there is no checkpoint yet, so the run starts again")
        else:
            try:
                state = point.state if run.group.mesh is None else read_own_shards(run, point.checkpoint.path)
                restore_state(run, state)
            except TrainingError as error:
                raise ResumeError(f"{point.checkpoint.path}: {error}") from error
            before, now = run.resumed["layout"]["processes"] if run.resumed else 1, run.group.size
            if before != now:
                warnings.append(
                    f"with {plural(now, 'process')} instead of {before}, sums are rounded in another order, and random "
                    "numbers such as those of dropout differ"
                )
        changed = [change for change in self.changed if change.changes_length()]
        if changed or self._made_longer_since(run, point):
            run.state.stop = None  # requested when the run was planned to end earlier
        if changed and any(phase.scheduler is not None for phase in run.phases):
            lengths = "; ".join(map(str, changed))
            warnings.append(f"the learning rate now follows a schedule of the new length ({lengths})")
        versions = dict(self._other_versions(recorder.record))
        if versions:
            shown = ", ".join(f"{name} {before} → {now}" for name, (before, now) in versions.items())
            warnings.append(f"versions differ from those the run started with, so its numbers may differ: {shown}")
        run.store.freeze(freeze(run.config))
        recorder.resumed(run, point.checkpoint if point else None, {**changes_as_json(self.changed), **versions})
        return warnings

    def _made_longer_since(self, run: Run, point: ResumePoint | None) -> bool:
        """Return whether the run was extended at this very checkpoint, and ended before it saved another."""
        folder = None if point is None else os.path.relpath(point.checkpoint.path, run.store.path)
        return any(
            entry.get("checkpoint") == folder and any(key in LENGTH_KEYS for key in as_table(entry.get("changed")))
            for entry in self.record.data.get("resumes") or ()
        )

    def _check_data(self, run: Run) -> None:
        before = as_table(self.record.data.get("data"))
        for name in _DATA_FACTS:
            if name in before and before[name] != run.data.get(name):
                raise ResumeError(
                    f"{self.record.folder}: the data have changed since this run started ({name} was "
                    f"{before[name]!r}, and is {run.data.get(name)!r}); start a new run"
                )

    def _point(self, run: Run) -> ResumePoint | None:
        """Return the checkpoint to resume from, in all processes; shards are read later."""
        verifier, point = None if run.group.mesh is None else Verifier(run.group), None
        if run.group.leads:
            try:
                point = self._newest(run, verifier)
            finally:
                if verifier is not None:
                    verifier.end()
        elif verifier is not None:
            verifier.help()
        agreed: ResumePoint | None = run.group.broadcast(point)
        return agreed

    def _newest(self, run: Run, verifier: Verifier | None) -> ResumePoint | None:
        try:
            point = run.checkpoints.resume(verifier)
        except CheckpointError as error:
            raise ResumeError(f"{error}. dovetail run {self.record.folder}/resolved.toml starts it again") from error
        saved = self.record.data.get("checkpoint")
        if point is None and saved:
            raise ResumeError(
                f"{self.record.folder}: its checkpoints are missing: {saved} was the newest, but there is none in "
                f"{run.checkpoints.directory} (paths.models sets where they are)"
            )
        return point

    def _other_versions(self, record: Any) -> Iterator[tuple[str, tuple[Any, Any]]]:
        before, now = flat(as_table(self.record.data.get("versions"))), flat(record["versions"])
        for name in {**before, **now}:
            if before.get(name) != now.get(name):
                yield f"versions.{name}", (before.get(name), now.get(name))
        if self.record.data.get("device") != record["device"]:
            yield "device", (self.record.data.get("device"), record["device"])
