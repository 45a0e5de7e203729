"""Tests of dovetail.config.freeze: the resolved file and the hashes."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from config_parts import make_plugins
from config_strategies import configurations
from dovetail.config.check import check_config
from dovetail.config.compose import compose
from dovetail.config.diagnostics import ConfigError
from dovetail.config.document import parse_document
from dovetail.config.freeze import (
    NON_NUMERIC_KEYS,
    canonical_json,
    config_hash,
    freeze,
    leaves,
    live_parts,
    numeric_hash,
    origins,
    parts_of,
)
from dovetail.config.schema import RunConfig, sections
from dovetail.config.tree import Node, resolve
from dovetail.kernel.secret import Env

PLUGINS = make_plugins()
WHOLE: dict[str, Any] = {"data": {"type": "digits"}, "model": {"type": "net", "hidden": [8]}, "loss": {"type": "mse"}}


def structured(**tables: Any) -> RunConfig:
    """Check plain tables."""
    return check_config(Node.from_python({**WHOLE, **tables}), PLUGINS)


def thawed(text: str) -> RunConfig:
    """Load a resolved file."""
    return check_config(resolve(parse_document(text, "resolved.toml").tree(), []), PLUGINS)


def test_a_resolved_file() -> None:
    """The file has every part with its distribution, every default, and none where nothing is set."""
    text = freeze(structured(optimizer={"lr": 1}, callbacks={"stop": {"type": "early_stopping"}}))

    assert '[loss]\ntype = "test-parts:mse"\nreduction = "mean"\n' in text
    assert '[callbacks.stop]\ntype = "test-parts:early_stopping"\nmonitor = "val_loss"\npatience = 10\n' in text
    assert "floor = -inf\nsince = 2024-02-29\n" in text
    assert "lr = 1.0\n" in text
    assert 'max_steps = "@none"\nmax_epochs = 10\n' in text
    assert "[training.validate_every]\nepochs = 1\n" in text
    assert text.startswith("# The resolved configuration of a run")


def test_the_resolved_file_gives_the_same_run() -> None:
    """Loading the file gives the same configuration and the same hash."""
    config = structured(
        model={
            "type": "net",
            "hidden": [8],
            "tags": ["b", "a"],
            "band": {"low": 0},
            "colour": "green",
            "weights": None,
        },
        loss={"type": "combined", "classification": {"type": "mse"}, "terms": [{"type": "mse", "reduction": "sum"}]},
        checkpoint={"best_only": True, "copy_to": {"type": "vault", "path": "x", "token": Env("TOKEN")}},
        training={"max_steps": 5},
        budget={"wall_clock": "9h"},
    )

    again = thawed(freeze(config))

    assert again == config
    assert freeze(again) == freeze(config)
    assert (config_hash(again), numeric_hash(again)) == (config_hash(config), numeric_hash(config))


@pytest.mark.slow
@settings(max_examples=60)
@given(configurations(PLUGINS))
def test_any_resolved_file_gives_the_same_run(tables: dict[str, Any]) -> None:
    """The same holds for any configuration."""
    try:
        config = check_config(Node.from_python(tables), PLUGINS)
    except ConfigError:
        assume(False)
    text = freeze(config)

    again = thawed(text)

    assert again == config
    assert freeze(again) == text
    assert config_hash(again) == config_hash(config)


def test_secrets_are_never_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The record has the variable's name; its value is in no text and changes no hash."""
    tables = {"checkpoint": {"copy_to": {"type": "vault", "path": "x", "token": Env("TOKEN")}}}
    monkeypatch.setenv("TOKEN", "hunter2")
    config = structured(**tables)
    before = config_hash(config)
    monkeypatch.setenv("TOKEN", "other")

    assert 'env = "TOKEN"' in freeze(config)
    assert config_hash(structured(**tables)) == before
    assert "hunter2" not in freeze(config) + json.dumps(config.to_dict()) + repr(config)
    assert config.to_dict()["checkpoint"]["copy_to"]["token"] == {"env": "TOKEN"}


class Net:
    """A model."""

    def __call__(self) -> None:
        """Do nothing."""

    def state_dict(self) -> None:
        """Have nothing."""


def test_python_objects_are_described() -> None:
    """The file has the class of a Python object and says so; loading it reports what is missing."""
    config = structured(model=Net())
    text = freeze(config)

    assert f'type = "python:{__name__}.Net"' in text
    assert f"# - model: {__name__}.Net\n" in text
    assert [path for path, _ in live_parts(config)] == ["model"]
    with pytest.raises(ConfigError, match=r"model.type: was a Python object .* pass it from Python again"):
        thawed(text)


def test_hashes_tell_runs_apart() -> None:
    """Any difference changes the hash; a setting that affects no numbers does not change the numeric hash."""
    base = structured()
    renamed, reseeded = structured(run={"name": "other"}), structured(run={"seed": 1})

    assert len({config_hash(config) for config in (base, renamed, reseeded)}) == 3
    assert numeric_hash(base) == numeric_hash(renamed) != numeric_hash(reseeded)
    assert len(config_hash(base)) == 64


@pytest.mark.parametrize(
    "tables",
    [
        {"loader": {"num_workers": 4, "pin_memory": True}},
        {"paths": {"output": "elsewhere"}},
        {"logging": {"every": 1, "console": False}},
        {"report": {"enabled": False}},
        {"budget": {"wall_clock": "1h"}},
        {"checkpoint": {"every": {"steps": 5}, "keep_best": 1, "copy_to": {"type": "vault", "path": "x"}}},
        {"trackers": {"a": {"type": "board"}}},
        {"data": {"type": "digits", "path": "/elsewhere"}},
        {"plugins": {"require": ["test-parts"]}},
        {"training": {"test": False}},
    ],
)
def test_what_may_change_on_resume(tables: dict[str, Any]) -> None:
    """Each entry of the published list is outside of the numeric hash."""
    assert numeric_hash(structured(**tables)) == numeric_hash(structured())
    assert config_hash(structured(**tables)) != config_hash(structured())


@pytest.mark.parametrize(
    "tables",
    [
        {"loader": {"batch_size": 4}},
        {"checkpoint": {"monitor": "val_f1"}},
        {"training": {"precision": "bf16"}},
        {"data": {"type": "digits", "seed": 3}},
        {"hardware": {"threads": 1}},
        {"callbacks": {"a": {"type": "early_stopping"}}},
    ],
)
def test_what_may_not_change_on_resume(tables: dict[str, Any]) -> None:
    """Every setting that may affect a number is in the numeric hash."""
    assert numeric_hash(structured(**tables)) != numeric_hash(structured())


def test_the_published_list_names_settings_that_exist() -> None:
    """A renamed setting cannot drop out of the list unnoticed."""
    whole = structured(data={"type": "digits", "path": "x"}).to_dict()
    for key in NON_NUMERIC_KEYS:
        value: Any = whole
        for name in key.split("."):
            assert name in value, key
            value = value[name]


def test_the_hash_is_that_of_canonical_json() -> None:
    """The order of keys does not matter; values that JSON does not have get one notation each."""
    assert canonical_json({"b": 1, "a": {"z": None, "y": [True, 1.5]}}) == '{"a":{"y":[true,1.5],"z":null},"b":1}'
    assert canonical_json({"a": float("inf"), "b": float("nan"), "c": dt.date(2024, 1, 2), "d": dt.time(1)}) == (
        '{"a":{"@float":"inf"},"b":{"@float":"nan"},"c":{"@date":"2024-01-02"},"d":{"@time":"01:00:00"}}'
    )


@given(st.permutations(list(WHOLE)))
def test_the_order_of_sections_does_not_count(names: list[str]) -> None:
    """Two files that differ only in order are the same run."""
    config = check_config(Node.from_python({name: WHOLE[name] for name in names}), PLUGINS)

    assert config_hash(config) == config_hash(structured())


def test_origins_of_every_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A default has the origin default; a short form gives its origin to all that it sets."""
    monkeypatch.chdir(tmp_path)
    Path("run.toml").write_text(
        '[data]\ntype = "digits"\n[model]\ntype = "net"\nhidden = [8]\n[loss]\ntype = "mse"\n'
        '[checkpoint]\ncopy_to = { type = "vault", path = "x", token = { env = "T" } }\n'
    )
    config = check_config(compose("run.toml", overrides=["training.validate_every=2"]), PLUGINS)
    told = origins(config)

    assert told["model.hidden"] == "run.toml:5:10"
    assert told["model.dropout"] == "default"
    assert told["training.validate_every.epochs"] == "command line, argument 1"
    assert told["checkpoint.copy_to.token"] == "run.toml:9:49"
    assert told["callbacks"] == "default"
    assert {path.partition(".")[0] for path in told} == {item.name for item in sections()}
    assert ("model.hidden", [8]) in [(path, value) for path, value, _ in leaves(config)]


def test_parts_of_a_configuration() -> None:
    """Nested parts follow the part they are in, from lists, tables and sections too."""
    config = structured(
        loss={"type": "combined", "classification": {"type": "mse"}, "named": {"a": {"type": "mse"}}},
        checkpoint={"copy_to": {"type": "vault", "path": "x"}},
    )

    assert [part.path for part in parts_of(config)] == [
        "data",
        "collator",
        "model",
        "loss",
        "loss.classification",
        "loss.named.a",
        "optimizer",
        "trainer",
        "checkpoint.copy_to",
    ]
