"""A run's folder: how it is created, what is written to it, and what is cut off on resume."""

from __future__ import annotations

import json
import logging
import re

import pytest

from dovetail.record.run_directory import RunDirectory, RunDirectoryError


def test_a_new_folder_is_named_by_time_and_chance(tmp_path):
    """Two runs that start at once have different folders, and each knows its id."""
    with RunDirectory.create(tmp_path, "digits") as first, RunDirectory.create(tmp_path, "digits") as second:
        assert first.path != second.path
        for store in (first, second):
            assert store.path.parent == tmp_path / "digits"
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d-[0-9a-f]{6}", store.id)
            assert store.checkpoints == store.path / "checkpoints"


def test_checkpoints_and_log_may_be_elsewhere(tmp_path):
    """`models` and `logs` get a folder for the run, with the same name and id."""
    with RunDirectory.create(tmp_path / "runs", "a", models=tmp_path / "m", logs=tmp_path / "l") as store:
        with store.logging():
            logging.getLogger("dovetail.test").info("hello")

        assert store.checkpoints == tmp_path / "m" / "a" / store.id
        assert "hello" in (tmp_path / "l" / "a" / store.id / "log.txt").read_text(encoding="utf-8")
        assert not (store.path / "log.txt").exists()


def test_a_folder_that_cannot_be_created_is_explained(tmp_path):
    """The message has the path, the reason, and the folder at fault."""
    (tmp_path / "file").touch()
    expected = rf"cannot create the run's folder: not a directory \(in {tmp_path}/file\); set paths.output"
    with pytest.raises(RunDirectoryError, match=expected):
        RunDirectory.create(tmp_path / "file", "digits")


def test_events_and_alerts_go_back_to_the_checkpoint(tmp_path):
    """What was written after `log_sizes` is dropped by `rewind`, and new lines follow."""
    with RunDirectory(tmp_path) as store:
        assert store.log_sizes() == {"metrics": 0, "alerts": 0}
        store.write_events('{"step": 1}\n')
        store.log_alert({"message": "spike", "value": float("nan")})
        sizes = store.log_sizes()
        store.write_events('{"step": 2}\n')
        store.log_alert({"message": "lost"})
        store.rewind(**sizes)
        store.write_events("")
        store.write_events('{"step": 3}\n')

    assert (tmp_path / "metrics.jsonl").read_text(encoding="utf-8") == '{"step": 1}\n{"step": 3}\n'
    assert json.loads((tmp_path / "alerts.jsonl").read_text(encoding="utf-8")) == {"message": "spike", "value": "nan"}


def test_only_messages_of_dovetail_are_logged_and_only_during_the_run(tmp_path):
    """Other libraries' messages and later ones are not in log.txt; the logger's level is restored."""
    logger = logging.getLogger("dovetail")
    before = logger.level
    with RunDirectory(tmp_path) as store:
        with store.logging():
            logger.info("during")
            logger.debug("detail")
            logging.getLogger("other").warning("theirs")
        logger.warning("after")

    assert [line.rpartition(": ")[2] for line in (tmp_path / "log.txt").read_text().splitlines()] == ["during"]
    assert logger.level == before
