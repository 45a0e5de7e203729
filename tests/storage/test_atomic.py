"""Tests of files and folders that appear complete or not at all."""

from __future__ import annotations

import fcntl
import os
import time

import pytest

from dovetail.storage.atomic import PREFIX, remove_folder, remove_leftovers, staged_folder, write_atomic


def test_a_staged_folder_appears_complete_or_not_at_all(tmp_path):
    """It never replaces another folder, not even an empty one."""
    with staged_folder(tmp_path / "a") as staging:
        (staging / "file").write_bytes(b"x")
        assert not (tmp_path / "a").exists()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]

    with pytest.raises(KeyError), staged_folder(tmp_path / "b"):
        raise KeyError
    with pytest.raises(FileExistsError), staged_folder(tmp_path / "a"):
        pass
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileExistsError), staged_folder(tmp_path / "empty"):
        pass

    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "empty"]


def test_a_removed_folder_is_gone_and_write_atomic_does_not_create_it(tmp_path):
    """remove_folder leaves nothing behind; write_atomic needs an existing folder."""
    (tmp_path / "a" / "b").mkdir(parents=True)

    remove_folder(tmp_path / "a")

    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "a" / "b", b"")


def test_only_old_unlocked_leftovers_are_removed(tmp_path):
    """A locked file is still being written; a file less than a minute old may not be locked yet."""
    young, old, held, link = (tmp_path / f"{PREFIX}{name}" for name in ("young", "old", "held", "link"))
    folder = tmp_path / f"{PREFIX}folder"
    (folder / "inside").mkdir(parents=True)
    for path in (young, old, held):
        path.write_bytes(b"")
    link.symlink_to(old)
    (tmp_path / "normal").write_bytes(b"")
    two_minutes_ago = (time.time() - 120,) * 2
    for path in (old, held, folder, tmp_path / "normal"):
        os.utime(path, two_minutes_ago)
    os.utime(link, two_minutes_ago, follow_symlinks=False)
    with held.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        removed = remove_leftovers(tmp_path)

    assert sorted(removed) == [folder, link, old]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([young.name, held.name, "normal"])
