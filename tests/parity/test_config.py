"""Our config has the documents' settings, methods and presets, as listed in config.toml."""

from __future__ import annotations

from functools import cache
from typing import Any

import attrs
import pytest

from dovetail.config.aliases import ELSEWHERE
from dovetail.config.api import Config
from dovetail.config.diagnostics import ConfigError
from dovetail.config.schema import sections
from dovetail.kernel.build import build
from dovetail.kernel.signature import MISSING, read_signature
from dovetail.spec.plugins import Plugins
from parity_tables import each, load_table

TABLE = load_table("config")
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
    """Return Dovetail's own parts."""
    return Plugins.discover(blocked=True)


def value_at(values: Any, path: str) -> Any:
    """Return the value at a dotted path."""
    for name in path.split("."):
        values = values[name]
    return values


@each(entry for entry in SETTINGS if "method" in entry)
def test_documented_keyword(entry: dict[str, Any]) -> None:
    """Each documented keyword of a documented method changes our setting."""
    config = getattr(Config(), entry["method"])(**{entry["name"]: entry["example"]})

    assert value_at(config.to_dict(), entry["ours"]) == entry.get("gives", entry["example"])


@each(SETTINGS)
def test_our_setting_exists(entry: dict[str, Any]) -> None:
    """Our setting is in a section or in the signature of the named part, and has the documented default."""
    section, _, rest = entry["ours"].partition(".")
    if "component" in entry:
        registered = plugins().find(KINDS[section], entry["component"])
        parameter = read_signature(registered).parameters[rest.rpartition(".")[2]]
        default = None if parameter.default is MISSING else parameter.default
    elif rest.startswith("split."):
        from dovetail.data import SplitOptions

        default = attrs.fields_dict(SplitOptions)[rest.partition(".")[2]].default
    else:
        cls: Any = next(known.type for known in sections() if known.name == section)
        default = getattr(cls(), rest)
    if "difference" in entry:
        assert default != entry["default"]
    elif "default" in entry:
        assert default == entry["default"]


@each(entry for entry in SETTINGS if "preset" in entry)
def test_preset_keeps_documented_default(entry: dict[str, Any]) -> None:
    """If our default differs, the document's preset keeps the documented one."""
    assert (
        value_at(Config.preset(entry["preset"], plugins=plugins()).build().to_dict(), entry["ours"]) == entry["default"]
    )


@each(entry for entry in TABLE["setting"] if "later" in entry)
def test_setting_of_another_package(entry: dict[str, Any]) -> None:
    """The error for a setting outside the core names the package that provides it."""
    assert entry["later"] in ELSEWHERE[entry["name"]]
    with pytest.raises(ConfigError, match=entry["later"]):
        Config().with_training(**{entry["name"]: 1})


@each(TABLE["method"])
def test_documented_method(entry: dict[str, Any]) -> None:
    """Each documented method is a method of Config or comes with another package."""
    assert ("later" in entry) or callable(getattr(Config, entry["ours"]))


@each(TABLE["preset"])
def test_preset_settings(entry: dict[str, Any]) -> None:
    """Presets have the documented epochs, devices, batch sizes and checkpoints."""
    built = Config.preset(entry["name"], plugins=plugins()).build()

    assert built.training.max_epochs == entry.get("epochs", 10)
    assert built.hardware.devices == entry.get("devices", 1)
    assert built.hardware.strategy == ("ddp" if "devices" in entry else "none")
    assert built.loader.batch_size == entry.get("batch_size", 4)
    assert built.training.accumulate == entry.get("accumulate", 1)
    assert built.checkpoint.keep_best + built.checkpoint.keep_last >= entry.get("checkpoints", 0)


@pytest.mark.slow
@each(entry for entry in TABLE["preset"] if "million_parameters" in entry)
def test_preset_size(entry: dict[str, Any]) -> None:
    """A preset's model, built on the meta device, has about the documented number of parameters."""
    import torch

    with torch.device("meta"):
        model = build(Config.preset(entry["name"], plugins=plugins()).build().model, {})

    size = sum(parameter.numel() for parameter in model.parameters())
    assert size == pytest.approx(entry["million_parameters"] * 1e6, rel=0.05)
