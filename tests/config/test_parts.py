"""Tests of dovetail.config.parts."""

# ruff: noqa: E501 (messages are written out whole)

from __future__ import annotations

from typing import Any

import pytest

from config_parts import WHOLE, Check, Recorder, Refusals, make_plugins, model
from dovetail.config.check import check_config
from dovetail.config.diagnostics import ConfigError
from dovetail.config.schema import RunConfig
from dovetail.config.tree import Node
from dovetail.kernel.build import Part, build
from dovetail.kernel.secret import Env


def test_options_of_the_default_optimizer_need_no_type(check: Check) -> None:
    """Options without a type belong to the default component."""
    config = check(WHOLE, "optimizer.lr=1")

    assert config.optimizer.name == "adamw"
    assert config.optimizer.options["lr"] == 1.0
    assert type(config.optimizer.options["lr"]) is float


def test_nested_parts(check: Check) -> None:
    """A parameter annotated with a protocol takes a table with a type: alone, in a list, in a table, at any depth."""
    config = check(
        WHOLE.replace('type = "mse"', 'type = "combined"')
        + 'classification = { type = "combined", classification = { type = "mse", reduction = "sum" } }\n'
        'terms = [{ type = "mse" }, { type = "mse", reduction = "sum" }]\nnamed = { a = { type = "mse" } }\n'
    )
    loss = config.loss

    assert loss.options["classification"].path == "loss.classification"
    assert loss.options["classification"].options["classification"].path == "loss.classification.classification"
    assert [item.path for item in loss.options["terms"]] == ["loss.terms[0]", "loss.terms[1]"]
    assert loss.options["named"]["a"].path == "loss.named.a"
    built = build(loss, {})
    assert built.options["classification"].options["classification"] == Recorder(reduction="sum")


def test_parts_of_other_kinds(check: Check) -> None:
    """A part may consist of parts of any kind."""
    config = check(
        WHOLE + '[metrics.m]\ntype = "nested"\nmetric = { type = "accuracy" }\nstore = { type = "vault", path = "x" }\n'
    )

    assert config.metrics["m"].options["metric"].kind == "metric"
    assert config.metrics["m"].options["store"].kind == "storage"
    assert config.metrics["m"].path == "metrics.m"


def test_named_parts_keep_their_order(check: Check) -> None:
    """The order in the file is the order of the calls."""
    config = check(
        WHOLE + '[callbacks.zz]\ntype = "early_stopping"\n[callbacks.aa]\ntype = "early_stopping"\npatience = 3\n'
    )

    assert list(config.callbacks) == ["zz", "aa"]
    assert config.callbacks["aa"].options["patience"] == 3


def test_reserved_keys_are_no_options(check: Check) -> None:
    """The reserved keys of a kind are not among the options, and have their defaults."""
    config = check(
        WHOLE
        + '[scheduler]\ntype = "plateau"\nevery = "epoch"\nmonitor = "val_f1"\n[optimizer]\nno_decay = ["bias"]\n'
        + '[transforms.n]\ntype = "noise"\n'
    )

    assert config.scheduler == Part(
        config.scheduler.registered, "scheduler", "scheduler", {"factor": 0.1}, {"every": "epoch", "monitor": "val_f1"}
    )
    assert config.optimizer.reserved == {"no_decay": ["bias"]}
    assert config.data.reserved == {"split": None}
    assert "splits" in config.transforms["n"].reserved


def test_a_split_is_read_like_any_table(check: Check) -> None:
    """An options class that a kind names as text is imported on use."""
    config = check(WHOLE.replace('"digits"', '"digits"\nsplit = { validation = 0.2, test = 0.1, stratify = true }'))

    assert (config.data.reserved["split"].validation, config.data.reserved["split"].stratify) == (0.2, True)


def test_secrets_stay_references(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret is checked as a string and read only when its part is built."""
    monkeypatch.setenv("TOKEN", "s3cret")
    config = check(
        WHOLE + '[checkpoint]\ncopy_to = { type = "vault", path = { env = "TOKEN" }, token = { env = "TOKEN" },'
        ' headers = { Authorization = { env = "TOKEN" } } }\n'
    )
    store = config.checkpoint.copy_to

    assert store.options["token"] == store.options["headers"]["Authorization"] == Env("TOKEN")
    assert "s3cret" not in repr(config)
    assert build(store, {}).options["headers"] == {"Authorization": "s3cret"}


def test_secrets_and_parts_are_not_validated_early(check: Check) -> None:
    """An options class with a secret or a part is validated as far as its values are known."""
    config = check(
        WHOLE.replace(
            'type = "mse"', 'type = "contrastive"\nsecret = { env = "X" }\ninner = { type = "mse" }\nmargin = 1.5'
        )
    )

    assert config.loss.options["secret"] == Env("X")


def test_defaults_are_recorded_with_the_part(check: Check) -> None:
    """A part has every default that a run file can express, and none that the run provides."""
    config = check(WHOLE.replace('"mse"', '"contrastive"'))

    assert config.loss.options == {
        "temperature": 0.1,
        "margin": 0.0,
        "words": [],
        "offset": 0.0,
        "secret": "",
        "inner": None,
        "num_classes": 0,
    }
    assert "seed" not in config.data.options
    assert "bands" in config.model.options
    assert "tensor" not in config.model.options


def test_provided_values_may_be_set(check: Check) -> None:
    """A value in the run file wins over the value that the run would provide."""
    assert check(model("num_classes = 3")).model.options["num_classes"] == 3
    assert check(WHOLE.replace('"mse"', '"needy"\nratio = 1')).loss.options == {"ratio": 1.0}


def test_a_distribution_before_the_name(check: Check) -> None:
    """If two packages offer a name, the distribution before it chooses."""
    config = check(WHOLE.replace('"mse"', '"rival:mse"'), rival=True)

    assert config.loss.registered.distribution == "rival"


@pytest.mark.parametrize(
    "lines, messages",
    [
        (
            "",
            [
                "run.toml:7:1: loss: needs a 'type', the name of a loss; there is broken, combined, contrastive, greedy, mse, needy"
            ],
        ),
        ('typ = "mse"', ["run.toml:8:1: loss.typ: unknown key; did you mean 'type'?"]),
        ("type = 3", ["run.toml:8:8: loss.type: expected the name of a loss, got the integer 3"]),
        ('type = "digits"', ["run.toml:8:8: loss.type: unknown loss 'digits'; 'digits' is a dataset, not a loss"]),
        (
            'type = "signals.envelope"',
            [
                (
                    "run.toml:8:8: loss.type: unknown loss 'signals.envelope'; 'signals.envelope' comes with dovetail-signals:"
                    " pip install dovetail-signals"
                )
            ],
        ),
        (
            'type = "python:a.B"',
            [
                "run.toml:8:8: loss.type: was a Python object (a.B) when this file was written; pass it from Python again"
            ],
        ),
        (
            'type = "broken"',
            [
                (
                    "run.toml:8:8: loss.type: loss 'broken' of test-parts (config_parts:no_such_thing) cannot be imported:"
                    " AttributeError: module 'config_parts' has no attribute 'no_such_thing'"
                )
            ],
        ),
        (
            'type = "greedy"',
            [
                (
                    "run.toml:8:8: loss.type: loss 'greedy' of test-parts (config_parts:simple): its signature has '**_', which"
                    " names no TOML key; give the component options="
                )
            ],
        ),
        (
            'type = "combined"',
            ["run.toml:7:1: loss: loss 'combined' needs 'classification' (a loss, a table such as { type = … })"],
        ),
        (
            'type = "combined"\nclassification = "mse"',
            ['run.toml:9:18: loss.classification: expected a table such as { type = "mse" }, got the string "mse"'],
        ),
        (
            'type = "combined"\nclassification = { type = "msee" }\nterms = [{ type = "mse", reductio = "sum" }, 3]',
            [
                "run.toml:9:27: loss.classification.type: unknown loss 'msee'; did you mean 'mse'?",
                "run.toml:10:26: loss.terms[0].reductio: unknown key; did you mean 'reduction'?",
                'run.toml:10:46: loss.terms[1]: expected a table such as { type = "…" }, got the integer 3',
            ],
        ),
        (
            'type = "contrastive"\ntemperature = 0\nmargin = 3',
            [
                "run.toml:9:15: loss.temperature: 'temperature' must be > 0: 0.0",
                "run.toml:10:10: loss.margin: 'margin' must be <= 2: 3.0",
            ],
        ),
        (
            'type = "contrastive"\nmargin = 1.5',
            ["run.toml:7:1: loss: margin must not be more than ten times the temperature"],
        ),
        (
            'type = "contrastive"\nmargin = 3\nsecret = { env = "X" }',
            ["run.toml:9:10: loss.margin: 'margin' must be <= 2: 3.0"],
        ),
        ('type = "contrastive"\nclass_counts = [1]', ["run.toml:9:16: loss.class_counts: comes from the run"]),
        ('type = "needy"', ["run.toml:7:1: loss: loss 'needy' needs 'ratio' (a number)"]),
        ('type = "needy"\nratio = -1', ["run.toml:9:9: loss.ratio: 'ratio' must be >= 0: -1.0"]),
        (
            'type = "mse"\nweight_decay = 1',
            ["run.toml:9:1: loss.weight_decay: unknown key; did you mean 'optimizer.weight_decay'?"],
        ),
        ('type = "mse"\nzzz = 1', ["run.toml:9:1: loss.zzz: unknown key; loss 'mse' takes reduction"]),
    ],
)
def test_messages_about_parts(refusals: Refusals, lines: str, messages: list[str]) -> None:
    """A missing, unknown or unusable type and wrong options are reported at their positions."""
    text = f'[data]\ntype = "digits"\n[model]\ntype = "net"\nhidden = [8]\n\n[loss]\n{lines}\n'

    assert refusals(text) == messages


def test_an_ambiguous_name(refusals: Refusals) -> None:
    """The message names both providers of a name and how to choose."""
    assert refusals(WHOLE, rival=True) == [
        (
            "run.toml:7:8: loss.type: loss 'mse' is offered by rival 2.0 and test-parts 1.0; choose with"
            ' type = "rival:mse" or type = "test-parts:mse"'
        )
    ]


class Bell:
    """A callback."""

    def dovetail_run_end(self) -> None:
        """Ring."""


def python(**tables_: Any) -> RunConfig:
    """Check plain Python tables."""
    whole = {"data": {"type": "digits"}, "model": {"type": "net", "hidden": [8]}, "loss": {"type": "mse"}}
    return check_config(Node.from_python({**whole, **tables_}), make_plugins())


def test_objects_as_parts() -> None:
    """A Python object is a part, and may have the reserved keys of its kind beside it."""
    bell, loss = Bell(), lambda outputs, batch: 0

    config = python(
        callbacks={"bell": bell},
        loss=loss,
        scheduler={"type": type("S", (), {"step": 1, "state_dict": 1})(), "every": "update"},
    )

    assert config.callbacks["bell"].live is bell
    assert (config.callbacks["bell"].path, config.callbacks["bell"].name) == ("callbacks.bell", "Bell")
    assert config.loss.live is loss
    assert config.scheduler.reserved == {"every": "update", "monitor": None}
    assert build(config.loss, {}) is loss


@pytest.mark.parametrize(
    "tables_, message",
    [
        ({"loss": Bell()}, "Python: loss.type: expected a loss, got a Bell object without __call__"),
        ({"data": Bell()}, "Python: data.type: expected a dataset, got a Bell object without __len__ and __getitem__"),
        (
            {"optimizer": Bell},
            "Python: optimizer.type: expected an optimizer, got the class Bell; make an object of it",
        ),
        (
            {"metrics": {"a": Bell()}},
            "Python: metrics.a.type: expected a metric, got a Bell object without update and compute and reset",
        ),
        (
            {"callbacks": {"a": Bell}},
            "Python: callbacks.a.type: expected a callback, got the class Bell; make an object of it",
        ),
        (
            {"callbacks": {"a": {"type": Bell(), "b": 1}}},
            "Python: callbacks.a.b: unknown key; a callback object from Python takes nothing",
        ),
        ({"run": {"name": Bell()}}, "Python: run.name: expected a string, got a Bell object"),
    ],
)
def test_objects_that_are_no_part(tables_: dict[str, Any], message: str) -> None:
    """The message names what an object lacks; the object is not called."""
    with pytest.raises(ConfigError) as raised:
        python(**tables_)

    assert str(raised.value) == message


def test_objects_in_options_of_any_type() -> None:
    """An option without a type takes an object too."""
    bell = Bell()

    assert python(model={"type": "net", "hidden": [1], "anything": {"a": [bell]}}).model.options["anything"] == {
        "a": [bell]
    }
