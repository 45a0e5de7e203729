"""The documents' configuration settings, methods and presets compared with ours (tests/parity/config.toml)."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import attrs
import pytest
import tomli

from dovetail.config.aliases import ELSEWHERE
from dovetail.config.api import Config
from dovetail.config.diagnostics import ConfigError
from dovetail.config.schema import sections
from dovetail.kernel.build import build
from dovetail.kernel.signature import MISSING, read_signature
from dovetail.spec.plugins import Plugins

TABLE: dict[str, Any] = tomli.loads((Path(__file__).parent / "config.toml").read_text())
SETTINGS = [entry for entry in TABLE["setting"] if "ours" in entry]
KINDS = {
    "model": "model",
    "optimizer": "optimizer",
    "scheduler": "scheduler",
    "data": "dataset",
    "callbacks": "callback",
}


@cache
def plugins() -> Plugins:
    """Return Dovetail's own components."""
    return Plugins.discover(blocked=True)


def named(entries: list[dict[str, Any]]) -> Any:
    """Parametrize over entries of the table."""
    return pytest.mark.parametrize(
        "entry", entries, ids=[f"{entry.get('id', 'preset')}-{entry['name']}" for entry in entries]
    )


def at(values: Any, path: str) -> Any:
    """Return the value at a dotted path."""
    for name in path.split("."):
        values = values[name]
    return values


@named([entry for entry in SETTINGS if "method" in entry])
def test_the_documents_name_is_accepted(entry: dict[str, Any]) -> None:
    """Each documented keyword of the documented method sets our setting."""
    made = getattr(Config(), entry["method"])(**{entry["name"]: entry["example"]})

    assert at(made.to_dict(), entry["ours"]) == entry.get("gives", entry["example"])


@named(SETTINGS)
def test_our_setting_exists(entry: dict[str, Any]) -> None:
    """Our setting is in a section, or in the signature of the named component, and has the documents' default."""
    section, _, rest = entry["ours"].partition(".")
    if "component" in entry:
        registered = plugins().find(KINDS[section], entry["component"])
        parameter = read_signature(registered).parameters[rest.rpartition(".")[2]]
        default = None if parameter.default is MISSING else parameter.default
    elif rest.startswith("split."):
        from dovetail.data import SplitOptions

        default = attrs.fields_dict(SplitOptions)[rest.partition(".")[2]].default
    else:
        cls: Any = next(field.type for field in sections() if field.name == section)
        default = getattr(cls(), rest)
    if "difference" in entry:
        assert default != entry["default"]
    elif "default" in entry:
        assert default == entry["default"]


@named([entry for entry in SETTINGS if "preset" in entry])
def test_a_preset_keeps_the_documents_default(entry: dict[str, Any]) -> None:
    """If our default differs, the documented preset has the documented value."""
    assert at(Config.preset(entry["preset"], plugins=plugins()).build().to_dict(), entry["ours"]) == entry["default"]


@named([entry for entry in TABLE["setting"] if "later" in entry])
def test_settings_of_other_packages(entry: dict[str, Any]) -> None:
    """The message about a setting that the core does not have names its package."""
    assert entry["later"] in ELSEWHERE[entry["name"]]
    with pytest.raises(ConfigError, match=entry["later"]):
        Config().with_training(**{entry["name"]: 1})


@named(TABLE["method"])
def test_methods(entry: dict[str, Any]) -> None:
    """Each documented method is a method of Config, or comes with another package."""
    assert ("later" in entry) or callable(getattr(Config, entry["ours"]))


@named(TABLE["preset"])
def test_presets_have_the_documented_settings(entry: dict[str, Any]) -> None:
    """Epochs, devices, batches and checkpoints are the documented ones."""
    built = Config.preset(entry["name"], plugins=plugins()).build()

    assert built.training.max_epochs == entry.get("epochs", 10)
    assert built.hardware.devices == entry.get("devices", 1)
    assert built.hardware.strategy == ("ddp" if "devices" in entry else "none")
    assert built.loader.batch_size == entry.get("batch_size", 4)
    assert built.training.accumulate == entry.get("accumulate", 1)
    assert built.checkpoint.keep_best + built.checkpoint.keep_last >= entry.get("checkpoints", 0)


@pytest.mark.slow
@named([entry for entry in TABLE["preset"] if "million_parameters" in entry])
def test_presets_have_the_documented_size(entry: dict[str, Any]) -> None:
    """The model, built on the meta device, has about the documented number of parameters."""
    import torch

    with torch.device("meta"):
        model = build(Config.preset(entry["name"], plugins=plugins()).build().model, {})

    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(
        entry["million_parameters"] * 1e6, rel=0.05
    )
