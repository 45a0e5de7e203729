"""Tests of dovetail.config.formats."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config_parts import Net, make_plugins, refusal, whole_config
from config_strategies import configurations
from dovetail.config.api import Config
from dovetail.config.freeze import origins
from dovetail.kernel.secret import Env

PLUGINS = make_plugins()


def has_dates(value: Any) -> bool:
    """Tell whether there is a date or a time anywhere."""
    if isinstance(value, dict | list):
        return any(map(has_dates, value.values() if isinstance(value, dict) else value))
    return isinstance(value, dt.date | dt.time)


@pytest.mark.parametrize("suffix", ["toml", "json"])
def test_a_saved_configuration_loads(tmp_path: Path, suffix: str) -> None:
    """A saved configuration loads as the same configuration, with secrets and none."""
    made = whole_config().with_parts(
        checkpoint={"copy_to": {"type": "vault", "path": "x", "token": Env("TOKEN")}}, training={"max_grad_norm": None}
    )
    path = made.save(tmp_path / f"saved.{suffix}")
    again = Config.load(path, plugins=PLUGINS)

    assert path == tmp_path / f"saved.{suffix}"
    assert again.to_dict() == made.to_dict()
    assert again.build() == made.build()
    assert again.build().training.max_grad_norm is None


@pytest.mark.slow
@settings(max_examples=30)
@given(tables=configurations(PLUGINS))
@pytest.mark.parametrize("suffix", ["toml", "json"])
def test_any_saved_configuration_loads(
    tables: dict[str, Any], suffix: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Saving and loading is the identity for any configuration, valid or not; JSON refuses dates."""
    made = Config.from_dict(tables, plugins=PLUGINS)
    target = tmp_path_factory.mktemp("saved") / f"saved.{suffix}"
    if suffix == "json" and has_dates(made.to_dict()):
        assert refusal(lambda: made.save(target)) == "Python: JSON has no dates and times; save as .toml"
    else:
        assert Config.load(made.save(target), plugins=PLUGINS).to_dict() == made.to_dict()


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    """A Python object is refused with its path, and so is an unknown suffix."""
    message = "is a Python object, which a file cannot hold; name a component by its type instead"

    assert (
        refusal(lambda: whole_config().with_model(Net()).save(tmp_path / "a.toml")) == f"Python: model.type: {message}"
    )
    dated = whole_config().with_data(when=dt.date(2024, 2, 29))
    assert refusal(lambda: dated.save(tmp_path / "a.json")) == "Python: JSON has no dates and times; save as .toml"
    assert "must end in .toml or .json" in refusal(lambda: whole_config().save(tmp_path / "a.yaml"))
    assert list(tmp_path.iterdir()) == []


def test_a_json_file_keeps_its_origin(tmp_path: Path) -> None:
    """Values of a JSON file have the file as their origin, overrides the command line."""
    path = whole_config().save(tmp_path / "a.json")
    built = Config.load(path, overrides=["run.seed=3", "model.hidden=[1]"], plugins=PLUGINS).build()

    assert origins(built)["data.type"] == str(path)
    assert origins(built)["model.hidden"] == "command line, argument 2"
    assert Config.load(path, "layer", plugins=PLUGINS).build().training.max_epochs == 2


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", ":1:2: is not JSON: expecting property name enclosed in double quotes"),
        ('{"a": 1,}', "is not JSON: "),
        ("[]", ": expected a JSON object, got an empty array"),
        ('{"a": 1, "a": 2}', ": the key 'a' appears twice in one object"),
        ("9" * 5000, ": Exceeds the limit (4300 digits) for integer string conversion"),
        ('{"a":' * 5000 + "1" + "}" * 5000, ": nested too deep"),
        (b"\xff", "is not UTF-8"),
        (" " * 1_000_001, "is larger than 1 MB"),
    ],
)
def test_json_that_is_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    """Hostile JSON gets one line, like hostile TOML."""
    path = tmp_path / "a.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    said = refusal(lambda: Config.load(path, plugins=PLUGINS))

    assert message in said
    assert "\n" not in said
    assert said.startswith(str(path))


def test_omegaconf(monkeypatch: pytest.MonkeyPatch) -> None:
    """OmegaConf gets everything, defaults included; secrets are read on access, and dollar signs are literal."""
    odd = ["${run.name}", r"\${x}", r"a\\${b}", "$x", "x${", "100 %"]
    made = (
        whole_config()
        .with_logging(notes="costs ${HOME}", tags=odd)
        .with_parts(
            checkpoint={"copy_to": {"type": "vault", "path": "x", "token": Env("TOKEN")}},
            data={"type": "digits", "when": dt.date(2024, 2, 29)},
        )
    )
    converted = made.to_omegaconf()
    monkeypatch.setenv("TOKEN", "s3cret")

    assert type(converted).__name__ == "DictConfig"
    assert converted.training.max_epochs == 10
    assert converted.training.max_steps is None
    assert converted.run.notes == "costs ${HOME}"
    assert list(converted.run.tags) == odd
    assert converted.data.when == "2024-02-29"
    assert converted.checkpoint.copy_to.token == "s3cret"  # noqa: S105 (a password of this test only)
    assert converted.model.kernel == [3, 3]


@given(st.text(st.sampled_from("\\${}a:."), max_size=8))
def test_omegaconf_leaves_text_alone(text: str) -> None:
    """No text is taken for an interpolation."""
    if text.endswith("\\") or text == "???":  # OmegaConf has no way to say these
        text += "a"

    assert whole_config().with_logging(notes=text).to_omegaconf().run.notes == text


def test_without_omegaconf() -> None:
    """The error names the missing extra."""
    code = (
        "import sys; sys.modules['omegaconf'] = None\n"
        "from dovetail.config.formats import to_omegaconf\n"
        "try:\n    to_omegaconf(None)\nexcept ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "OmegaConf is not installed; pip install 'dovetail[omegaconf]'\n"
