"""Where a run happens: its folder, its lock, and the earlier run that it resumes."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve

from dovetail.config.diagnostics import ConfigError
from dovetail.main import run
from dovetail.record.resumable import ResumeError
from dovetail.train.workspace import open_workspace, temporary_workspace
from small_runs import small


def test_a_new_run_has_a_folder_of_its_own(tmp_path):
    """Two runs of the same config never share a folder."""
    config = small(tmp_path)
    with open_workspace(config, None) as first, open_workspace(config, None) as second:
        assert first.store.path.parent == tmp_path / "run"
        assert first.store.path != second.store.path
        assert first.earlier is None
        assert (first.group.size, str(first.device)) == (1, "cpu")


def test_a_folder_is_used_by_one_process_at_a_time(tmp_path):
    """While it is open no other process can resume it; afterwards any process can."""
    outcome = run(small(tmp_path)).check()
    config = small(tmp_path)
    with open_workspace(config, outcome.folder) as space:
        assert space.earlier.finished
        with pytest.raises(ResumeError), open_workspace(config, outcome.folder):
            pytest.fail("two processes have the folder")
    with open_workspace(config, outcome.folder):
        pass


def test_a_moved_run_is_resumed_in_its_new_place(tmp_path):
    """``paths.output`` follows the folder, so that nothing is written to the old place."""
    outcome = run(small(tmp_path / "old")).check()
    (tmp_path / "old").rename(tmp_path / "new")
    moved = tmp_path / "new" / outcome.folder.relative_to(tmp_path / "old")
    with open_workspace(small(tmp_path / "old"), moved) as space:
        assert space.config.paths.output == tmp_path / "new"
    assert not (tmp_path / "old").exists()


def test_a_finished_run_is_not_resumed(tmp_path):
    """``checkpoint.resume`` finds nothing to resume after a finished run, and says nothing."""
    outcome = run(small(tmp_path)).check()
    with open_workspace(small(tmp_path, checkpoint={"resume": "auto"}), None) as space:
        assert space.store.path != outcome.folder
        assert space.warnings == ()


def test_a_folder_that_cannot_be_written_is_bad_input(tmp_path):
    """The message is placed at ``paths.output``."""
    (tmp_path / "file").write_text("")
    config = small(tmp_path)
    config = evolve(config, paths=evolve(config.paths, output=tmp_path / "file"))
    with pytest.raises(ConfigError, match=r"paths\.output"), open_workspace(config, None):
        pytest.fail("a file was used as a folder")


def test_a_temporary_workspace_leaves_nothing(tmp_path):
    """Neither in the output folder nor in its own."""
    with temporary_workspace(small(tmp_path)) as space:
        folder = Path(space.store.path)
        assert folder.is_dir()
    assert not folder.exists()
    assert list(tmp_path.iterdir()) == []
