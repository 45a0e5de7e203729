"""Which run `checkpoint.resume` finds, and which settings may change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dovetail.config.diagnostics import ConfigError
from dovetail.config.freeze import config_hash, freeze, numeric_hash, origins
from dovetail.record.resumable import (
    changed_settings,
    changes_as_json,
    check_changes,
    find_resumable,
)
from dovetail.record.runs import load_run
from dovetail.spec.process import LAUNCH_ID
from small_runs import small

DATA = {"type": "digits"}


def record(output: Path, run_id: str, status: str = "interrupted", launch: str | None = None, **sections: object):
    """Write the record of a run with these settings, and return it."""
    config = small(output, data=DATA, **sections)
    folder = output / "run" / run_id
    folder.mkdir(parents=True)
    (folder / "resolved.toml").write_text(freeze(config), encoding="utf-8")
    data = {"id": run_id, "name": "run", "status": status, "started": run_id, "launch": launch}
    hashes = {"config_hash": config_hash(config), "numeric_hash": numeric_hash(config), "origins": origins(config)}
    (folder / "run.json").write_text(json.dumps({**data, **hashes}), encoding="utf-8")
    return load_run(folder)


def asking(output: Path, policy: str, **sections: object):
    """Return a config with this `checkpoint.resume`."""
    return small(output, data=DATA, checkpoint={"resume": policy}, **sections)


def test_auto_finds_the_newest_unfinished_run_with_the_same_settings(tmp_path):
    """Finished runs, and runs with other results, are passed over; other paths are no difference."""
    wanted = record(tmp_path, "1", logging={"every": 7})
    record(tmp_path, "2", optimizer={"type": "adamw", "lr": 0.5})
    record(tmp_path, "3", status="completed")

    assert find_resumable(asking(tmp_path, "auto")).run == wanted
    assert find_resumable(asking(tmp_path, "must")).run.id == "3"
    assert find_resumable(asking(tmp_path, "never")).run is None


def test_a_run_that_differs_is_named_with_its_differences(tmp_path):
    """`auto` starts a new run with a warning; `must` is an error."""
    record(tmp_path, "1", optimizer={"type": "adamw", "lr": 0.5})
    found = find_resumable(asking(tmp_path, "auto"))

    assert found.run is None
    assert found.warning.startswith("starting a new run: the newest unfinished one, 1, differs in optimizer.lr: 0.5 ")
    with pytest.raises(ConfigError, match=r"checkpoint\.resume: there is no run with these settings .* 1, differs in"):
        find_resumable(asking(tmp_path, "must"))


def test_a_restart_finds_the_run_of_its_command(tmp_path, monkeypatch):
    """Its settings and `checkpoint.resume` do not matter; before that run exists, a new one is started."""
    monkeypatch.setenv(LAUNCH_ID, "abc")
    record(tmp_path, "1")
    assert find_resumable(asking(tmp_path, "never")).run is None
    started = record(tmp_path, "2", launch="abc", optimizer={"type": "adamw", "lr": 0.5})

    assert find_resumable(asking(tmp_path, "never")).run == started


def test_only_settings_that_do_not_affect_results_and_the_length_may_change(tmp_path):
    """Every other change is an error with both values and the run."""
    earlier = record(tmp_path, "1")
    allowed = small(tmp_path, data=DATA, training={"max_epochs": 9}, logging={"every": 7})
    changed = changed_settings(earlier, allowed)
    check_changes(earlier, allowed, changed)
    assert changes_as_json(changed)["training.max_epochs"] == [2, 9]
    assert {change.path for change in changed if change.changes_length()} == {"training.max_epochs"}

    refused = small(tmp_path, data=DATA, loader={"batch_size": 8}, optimizer={"type": "adamw", "lr": 0.5})
    with pytest.raises(ConfigError) as caught:
        check_changes(earlier, refused, changed_settings(earlier, refused))
    assert {problem.path for problem in caught.value.problems} == {"loader.batch_size", "optimizer.lr"}
    assert "optimizer.lr: cannot change on resume: was 0.01" in str(caught.value)
    assert "when run/1 started, now 0.5" in str(caught.value)


@pytest.mark.parametrize(
    "devices, batch_size, message",
    [
        (2, 8, ""),
        (4, 8, r"would be of 32 samples, but was of 16 when run/1 .*loader\.batch_size=4 training\.accumulate=1"),
    ],
)
def test_the_number_of_processes_may_change_if_updates_keep_their_size(tmp_path, devices, batch_size, message):
    """Otherwise the error names settings that keep the size of an update."""
    earlier = record(tmp_path, "1")
    hardware = {"devices": devices, "strategy": "ddp", "device": "cpu", "threads": 1}
    config = small(tmp_path, data=DATA, hardware=hardware, loader={"batch_size": batch_size})
    changed = changed_settings(earlier, config)
    if not message:
        check_changes(earlier, config, changed)
        return
    with pytest.raises(ConfigError, match=message):
        check_changes(earlier, config, changed)
