"""Tests of dovetail.config.profiles: profiles and presets."""

from __future__ import annotations

from pathlib import Path

import pytest

from config_parts import make_plugins
from dovetail.config import profiles
from dovetail.config.api import Config
from dovetail.config.compose import compose, installed_profiles
from dovetail.config.freeze import origins
from dovetail.config.profiles import preset, preset_names
from dovetail.spec.plugins import Plugins
from places import EXAMPLES

#: Sections that say what is trained; a profile only says how.
WHAT = {"model", "loss", "optimizer", "scheduler", "collator", "metrics"}
NAMES = ["baseline", "ci_fast", "defaults", "distributed", "kaggle_safe", "low_memory", "production", "quick_prototype"]


def test_installed_profiles() -> None:
    """Every profile is listed by its qualified name, and made when it is chosen."""
    made = installed_profiles(make_plugins())

    assert list(made) == ["test-parts:layer"]
    assert made["test-parts:layer"]() == {"training": {"max_epochs": 2}}


def test_our_own_are_registered() -> None:
    """Our profiles are registered like any other."""
    assert sorted(installed_profiles(Plugins.discover(blocked=True))) == [f"dovetail:{name}" for name in NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_fits_any_run(name: str) -> None:
    """A profile sets neither model, loss nor learning rate, and names no dataset."""
    layer = getattr(profiles, name)()

    assert not WHAT & set(layer)
    assert set(layer.get("data", {})) <= {"split"}


@pytest.mark.parametrize("name", NAMES)
def test_every_profile_over_every_example(name: str) -> None:
    """Each example is valid with each profile, and has settings with its origin."""
    plugins = Plugins.discover(blocked=True)
    for path in sorted(EXAMPLES.glob("*.toml")):
        config = Config.load(path, name, plugins=plugins).build()

        changes = bool(getattr(profiles, name)())
        assert (f"profile {name} (dovetail)" in origins(config).values()) == changes


def test_ci_fast_is_fast() -> None:
    """ci_fast limits a run to 20 updates, 256 samples of each split, and five minutes."""
    config = Config.load(EXAMPLES / "digits.toml", "ci_fast").build()

    assert (config.training.max_epochs, config.training.max_steps) == (1, 20)
    assert config.data.reserved["split"].limit == 256
    assert config.data.reserved["split"].stratify
    assert config.budget.wall_clock_seconds == 300


def test_kaggle_safe_keeps_a_margin() -> None:
    """kaggle_safe stops before nine hours, uses at most 16 GB, and saves every half hour."""
    for name in ("digits.toml", "text.toml"):
        config = Config.load(EXAMPLES / name, "kaggle_safe").build()

        assert config.budget.wall_clock_seconds < 9 * 3600
        assert config.budget.gpu_memory_bytes == 16 * 10**9
        assert config.checkpoint.every.minutes == 30


def test_overrides_win_over_a_profile(tmp_path: Path) -> None:
    """A profile wins over the file, an override over both; each value has its origin."""
    path = tmp_path / "run.toml"
    path.write_text("[training]\nmax_epochs = 100\naccumulate = 2\n")
    tree = compose(
        path,
        profile="ci_fast",
        overrides=["training.max_steps=3"],
        installed_profiles=installed_profiles(Plugins.discover(blocked=True)),
    )
    training = tree.table["training"].table

    assert [
        (training[name].value, str(training[name].origin())) for name in ("max_epochs", "accumulate", "max_steps")
    ] == [
        (1, "profile ci_fast (dovetail)"),
        (2, f"{path}:3:14"),
        (3, "command line, argument 1"),
    ]


@pytest.mark.parametrize("name", preset_names())
def test_presets_are_valid(name: str) -> None:
    """Each preset can be built unchanged: a transformer and its loss with the profile of its name."""
    config = Config.preset(name)
    built = config.build()

    assert config.validate() == []
    assert (built.model.name, built.loss.name, built.run.name) == ("transformer", "language_modeling", name)
    assert preset(name)[1] == getattr(profiles, name)()
    assert origins(built)["model.type"] == f"preset {name}"
