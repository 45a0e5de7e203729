"""Copies of a run's checkpoints in a second place."""

from __future__ import annotations

import json
from pathlib import Path

from dovetail.checkpoint.verify import verify
from dovetail.main import resume, run
from dovetail.storage.errors import StorageError
from dovetail.storage.local import LocalStorage
from small_runs import only_run, small


def copies(folder: Path) -> list[str]:
    """Return the names of the copied checkpoints."""
    return sorted(path.parent.name for path in folder.glob("run/*/*/manifest.json"))


def test_every_kept_checkpoint_is_copied_whole(tmp_path):
    """Under the run's name and id; each copy passes verification."""
    config = small(tmp_path / "runs", checkpoint={"copy_to": {"type": "local", "path": str(tmp_path / "copies")}})
    run(config).check()

    kept = sorted(path.name for path in (only_run(tmp_path / "runs") / "checkpoints").glob("step-*"))
    assert copies(tmp_path / "copies") == kept
    for path in (tmp_path / "copies").glob("run/*/step-*"):
        verify(path)


class Unreachable:
    """A local store that is unreachable until :attr:`up` is set."""

    def __init__(self, path: Path) -> None:
        self.store, self.up = LocalStorage(path=path), False

    def __getattr__(self, name: str) -> object:
        """Use the local store."""
        return getattr(self.store, name)

    def put(self, key: str, source: Path | bytes) -> None:
        """Fail as a network does."""
        if not self.up:
            raise StorageError(Path(key), "no route to host")
        self.store.put(key, source)


def test_a_store_that_fails_does_not_end_the_run(tmp_path):
    """Each lost copy is an alert that names the checkpoint; a resumed run copies what is missing."""
    store = Unreachable(tmp_path / "copies")
    outcome = run(small(tmp_path / "runs", checkpoint={"copy_to": store, "copy_patience": 0.2})).check()

    alerts = [json.loads(line) for line in (outcome.folder / "alerts.jsonl").read_text().splitlines()]
    assert outcome.status == "completed"
    assert {alert["type"] for alert in alerts} == {"checkpoint_copy"}
    assert "checkpoint.copy_to: step-" in alerts[0]["message"]
    assert "no route to host" in alerts[0]["message"]

    store.up = True
    config = small(tmp_path / "runs", checkpoint={"copy_to": store, "copy_patience": 0.2}, training={"max_epochs": 3})
    resume(outcome.folder, config).check()
    kept = sorted(path.name for path in (outcome.folder / "checkpoints").glob("step-*"))
    assert copies(tmp_path / "copies") == kept
