"""Fixtures that check a run file, or return the messages about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from config_parts import Check, Refusals, make_plugins
from dovetail.config.check import check_config
from dovetail.config.compose import compose
from dovetail.config.diagnostics import ConfigError
from dovetail.config.schema import RunConfig


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Check a text as run.toml in the working directory, with overrides."""
    monkeypatch.chdir(tmp_path)

    def check(text: str, *overrides: str, rival: bool = False) -> RunConfig:
        Path("run.toml").write_text(text)
        return check_config(compose("run.toml", overrides=overrides), make_plugins(rival=rival))

    return check


@pytest.fixture
def refusals(check: Check) -> Refusals:
    """Return the messages about a run file that is refused."""

    def refusals(text: str, *overrides: str, **more: Any) -> list[str]:
        with pytest.raises(ConfigError) as raised:
            check(text, *overrides, **more)
        return str(raised.value).splitlines()

    return refusals
