"""Tests of dovetail.config.json_schema: the schema accepts what Dovetail accepts."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tomli
from hypothesis import assume, given, settings
from jsonschema import Draft202012Validator

from config_parts import WHOLE, make_plugins
from config_strategies import configurations, jsonable
from dovetail.config.check import check_config
from dovetail.config.compose import compose
from dovetail.config.defaults import default_file, profiles_file
from dovetail.config.diagnostics import ConfigError
from dovetail.config.freeze import freeze
from dovetail.config.json_schema import json_schema
from dovetail.config.profiles import preset, preset_names
from dovetail.config.tree import Node
from dovetail.spec.plugins import Plugins
from places import ROOT

PLUGINS = make_plugins()


@cache
def validator(*, own: bool = False) -> Draft202012Validator:
    """Return a validator with the schema of the test's parts, or of Dovetail's own."""
    return Draft202012Validator(json_schema(Plugins.discover(blocked=True) if own else PLUGINS))


def complaints(text: str, *, own: bool = False) -> list[str]:
    """Return the paths at which the schema refuses a TOML text."""
    return sorted({error.json_path for error in validator(own=own).iter_errors(jsonable(tomli.loads(text)))})


@pytest.mark.parametrize("own", [False, True])
def test_the_schema_is_a_schema(own: bool) -> None:
    """The schema is valid JSON and valid Draft 2020-12."""
    schema = validator(own=own).schema

    Draft202012Validator.check_schema(schema)
    assert json.loads(json.dumps(schema, allow_nan=False)) == schema


@pytest.mark.slow
@settings(max_examples=60)
@given(configurations(PLUGINS))
def test_what_dovetail_accepts_the_schema_accepts(tables: dict[str, Any]) -> None:
    """Every configuration that Dovetail accepts is valid, and so is its resolved file."""
    try:
        config = check_config(Node.from_python(tables), PLUGINS)
    except ConfigError:
        assume(False)

    assert [error.message for error in validator().iter_errors(jsonable(tables))] == []
    assert complaints(freeze(config)) == []


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/*.toml")), ids=lambda path: path.name)
def test_every_example_is_valid(path: Path) -> None:
    """Examples are accepted by the schema and by Dovetail."""
    plugins = Plugins.discover(blocked=True)

    assert complaints(path.read_text(), own=True) == []
    check_config(compose(path), plugins)


def test_our_own_files_are_valid() -> None:
    """The first example, the default files and the presets are valid."""
    assert complaints(default_file(), own=True) == []
    assert complaints(f'extends = ["run.toml"]\n{profiles_file()}', own=True) == []
    assert complaints((ROOT / "src/dovetail/cli/digits.toml").read_text(), own=True) == []
    for name in preset_names():
        first, _ = preset(name)
        assert [error.message for error in validator(own=True).iter_errors(first)] == []


@pytest.mark.parametrize(
    "lines, path",
    [
        ("[run]\nsed = 1", "$.run"),
        ("[run]\nseed = -1", "$.run.seed"),
        ("[run]\nseed = '1'", "$.run.seed"),
        ("[run]\nname = '../x'", "$.run.name"),
        ("[hardware]\ndevice = 'gpu'", "$.hardware.device"),
        ("[hardware]\nstrategy = 'dp'", "$.hardware.strategy"),
        ("[hardware]\ncompile = 'true'", "$.hardware.compile"),
        ("[training]\nprecision = 'fp8'", "$.training.precision"),
        ("[training]\nmax_grad_norm = 0", "$.training.max_grad_norm"),
        ("[training]\nvalidate_every = { step = 1 }", "$.training.validate_every"),
        ("[budget]\nwall_clock = '9 hours'", "$.budget.wall_clock"),
        ("[optimizer]\nlearning_rate = 1", "$.optimizer"),
        ("[optimizer]\ntype = 'sgd'", "$.optimizer"),
        ("[optimizer]\ntype = 'sdg'\nlr = 1", "$.optimizer.type"),
        ("[optimizer]\nbetas = [1]", "$.optimizer.betas"),
        ("[optimizer]\nbetas = [1, 2, 3]", "$.optimizer.betas"),
        ("[scheduler]\nfactor = 1", "$.scheduler"),
        ("[metrics]\ntype = 'accuracy'", "$.metrics.type"),
        ("[callbacks.a]\ntype = 'early_stopping'\npatience = 0", "$.callbacks.a.patience"),
        ("[callbacks.a]\ntype = 'early_stopping'\npatienc = 1", "$.callbacks.a"),
        ("[checkpoint]\ncopy_to = 'x'", "$.checkpoint.copy_to"),
        ("[checkpoint]\ncopy_to = { type = 'vault' }", "$.checkpoint.copy_to"),
        ("[sectoin]\na = 1", "$"),
    ],
)
def test_what_both_refuse(lines: str, path: str) -> None:
    """An editor marks typical mistakes at the key where Dovetail reports them."""
    text = f"{WHOLE}{lines}\n"

    assert path in complaints(text)
    with pytest.raises(ConfigError):
        check_config(Node.from_python(tomli.loads(text)), PLUGINS)


@pytest.mark.parametrize(
    "old, new, path",
    [
        ("hidden = [8]", "", "$.model"),
        ("hidden = [8]", "hidden = [0]", "$.model.hidden[0]"),
        ("hidden = [8]", "hidden = [8]\ncolour = 'blue'", "$.model.colour"),
        ("hidden = [8]", "hidden = [8]\ntensor2 = 1", "$.model"),
        ("hidden = [8]", "hidden = [8]\nband = {}", "$.model.band"),
        ("hidden = [8]", "hidden = [8]\nby_class = { 1 = 'x' }", "$.model.by_class"),
        ('type = "mse"', "", "$.loss"),
        ('type = "mse"', 'type = "combined"\nclassification = "mse"', "$.loss.classification"),
        ('type = "mse"', 'type = "combined"\nclassification = {}', "$.loss.classification"),
        ('[loss]\ntype = "mse"', "", "$"),
    ],
)
def test_what_both_refuse_in_parts(old: str, new: str, path: str) -> None:
    """Mistakes in options, nested tables and nested parts are marked too."""
    text = WHOLE.replace(old, new)

    assert any(found.startswith(path) for found in complaints(text))
    with pytest.raises(ConfigError):
        check_config(Node.from_python(tomli.loads(text)), PLUGINS)


def test_layers_may_be_incomplete() -> None:
    """A file that extends another, and a profile, may be incomplete, but have no unknown keys."""
    layer = 'extends = ["base.toml"]\n[optimizer]\nlr = 1\n[training]\nmax_steps = "@unset"\n'
    profile = WHOLE + "[profile.fast.model]\nhidden = [1]\n[profile.fast.training]\nmax_epochs = 1\n"

    assert complaints(layer) == []
    assert complaints(profile) == []
    assert complaints(layer.replace("max_steps", "max_step")) == ["$.training"]
    assert complaints(profile.replace("max_epochs", "max_epoch")) != []
    assert complaints(WHOLE + '[training]\nmax_epochs = "@unset"\n') == ["$.training.max_epochs"]


def test_help_and_defaults_are_in_the_schema() -> None:
    """Editors get the help, the defaults and the names of types."""
    schema = validator(own=True).schema
    definitions = schema["$defs"]
    loader = definitions["dovetail.config.schema.LoaderSection"]

    assert loader["properties"]["batch_size"]["description"] == "samples per batch"
    assert loader["properties"]["batch_size"]["default"] == 32
    assert "mlp" in definitions["model"]["properties"]["type"]["anyOf"][0]["enum"]
    assert definitions["model.dovetail:mlp"]["description"].startswith("A multilayer perceptron")
    assert definitions["optimizer.dovetail:adamw"]["properties"]["lr"]["default"] == 1e-3


def test_a_component_that_cannot_be_imported_is_allowed() -> None:
    """A component that cannot be imported may have any options."""
    assert complaints(WHOLE.replace('"mse"', '"broken"\nanything = 1')) == []


def test_ambiguous_names_need_a_distribution() -> None:
    """An ambiguous name is refused; with its distribution it is accepted."""
    check = Draft202012Validator(json_schema(make_plugins(rival=True)))

    assert list(check.iter_errors(tomli.loads(WHOLE)))
    assert not list(check.iter_errors(tomli.loads(WHOLE.replace('"mse"', '"rival:mse"'))))
