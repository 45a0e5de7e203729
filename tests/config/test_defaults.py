"""Tests of dovetail.config.defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from config_parts import refusal
from dovetail.config.api import Config
from dovetail.config.defaults import _limit, default_file, write_defaults
from dovetail.config.freeze import config_hash
from dovetail.config.schema import sections
from dovetail.spec.limits import AtLeast, Between, MoreThan
from dovetail.spec.plugins import Plugins


def test_default_files(tmp_path: Path) -> None:
    """The commented files contain exactly the defaults, and every setting."""
    paths = Config.create_default_configs(tmp_path / "new" / "folder")
    plugins = Plugins.discover(blocked=True)
    written = Config.load(paths[0], plugins=plugins).build()
    bare = Config.from_dict(
        {
            "data": {"type": "digits"},
            "model": {"type": "mlp", "hidden_dims": [128, 64]},
            "loss": {"type": "cross_entropy"},
        },
        plugins=plugins,
    ).build()

    assert [path.name for path in paths] == ["default.toml", "profiles.toml"]
    assert written == bare
    assert config_hash(written) == config_hash(bare)
    for section in sections():
        assert f"--- {section.name}: {section.metadata['help']}" in default_file()


def test_default_files_work_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run file that extends the profiles may choose any of them."""
    monkeypatch.chdir(tmp_path)
    write_defaults(tmp_path)
    Path("run.toml").write_text('extends = ["default.toml", "profiles.toml"]\n')
    plugins = Plugins.discover(blocked=True)

    assert Config.load("run.toml", "low_memory", plugins=plugins).build().training.accumulate == 8
    assert Config.load("run.toml", "ci_fast", plugins=plugins).build().budget.wall_clock == "5m"


def test_limits_in_default_files() -> None:
    """Each sort of limit has its words."""
    assert [_limit(limit) for limit in (Between(0, 1), AtLeast(1), MoreThan(0.5))] == [
        "0 to 1",
        "at least 1",
        "more than 0.5",
    ]


def test_default_files_replace_nothing(tmp_path: Path) -> None:
    """A folder that has one of the files is left unchanged."""
    (tmp_path / "default.toml").write_text("mine")

    assert (
        refusal(lambda: write_defaults(tmp_path)) == f"{tmp_path}/default.toml: already exists; choose another folder"
    )
    assert [item.name for item in tmp_path.iterdir()] == ["default.toml"]
