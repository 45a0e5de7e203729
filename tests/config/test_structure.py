"""Tests of dovetail.config.check, .converter, .parts, .validators, .hints and .words: strict types, and what is said."""

# ruff: noqa: E501 (messages are written out whole)

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import config_parts as parts
from config_parts import WHOLE, Colour, Level, Range, Recorder, make_plugins
from dovetail.config.annotations import accepts, describe
from dovetail.config.check import check_config
from dovetail.config.compose import compose
from dovetail.config.convert import Converter, Slot
from dovetail.config.diagnostics import ConfigError, toml_type
from dovetail.config.schema import Every, RunConfig
from dovetail.config.tree import Entry, Node, origin_of
from dovetail.kernel.build import Part, build
from dovetail.kernel.secret import Env
from dovetail.spec.limits import AtLeast, Between, MoreThan
from dovetail.spec.protocols import Loss

Check = Callable[..., RunConfig]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Structure a run file in the working directory."""
    monkeypatch.chdir(tmp_path)

    def check(text: str, *overrides: str, rival: bool = False) -> RunConfig:
        Path("run.toml").write_text(text)
        return check_config(compose("run.toml", overrides=overrides), make_plugins(rival=rival))

    return check


@pytest.fixture
def refusals(check: Check) -> Callable[..., list[str]]:
    """What is said about a run file that is not accepted."""

    def refusals(text: str, *overrides: str, **more: Any) -> list[str]:
        with pytest.raises(ConfigError) as raised:
            check(text, *overrides, **more)
        return str(raised.value).splitlines()

    return refusals


def model(line: str, options: str = "hidden = [8]\n") -> str:
    """A run file with a line more in the model's table, which is line 7."""
    return f'[data]\ntype = "digits"\n[loss]\ntype = "mse"\n[model]\ntype = "net"\n{line}\n{options}'


# --- what is accepted --------------------------------------------------------------------------------------------


def test_a_small_file_becomes_a_whole_configuration(check: Check) -> None:
    """Sections that nobody wrote have their defaults, and every run has optimizer, trainer and collator."""
    config = check(WHOLE)

    assert config.run.name == "run"
    assert config.training.max_epochs == 10
    assert config.optimizer.name == "adamw"
    assert config.optimizer.options == {"lr": 1e-3, "betas": (0.9, 0.999)}
    assert (config.trainer.name, config.collator.name, config.scheduler) == ("standard", "default", None)
    assert config.metrics == config.callbacks == config.trackers == config.transforms == {}
    assert config.tree.table["model"].table["hidden"].to_python() == [8]


def test_options_of_the_default_optimizer_need_no_type(check: Check) -> None:
    """A learning rate alone is one for the optimizer that is meant anyway."""
    config = check(WHOLE, "optimizer.lr=1")

    assert config.optimizer.name == "adamw"
    assert config.optimizer.options["lr"] == 1.0
    assert type(config.optimizer.options["lr"]) is float


@pytest.mark.parametrize(
    "line, name, expected",
    [
        ("dropout = 1", "dropout", 1.0),
        ("kernel = [5, 7]", "kernel", (5, 7)),
        ("strides = []", "strides", ()),
        ('activation = "gelu"', "activation", "gelu"),
        ("bias = false", "bias", False),
        ('colour = "green"', "colour", Colour.GREEN),
        ("level = 2", "level", Level.HIGH),
        ("band = { low = 1 }", "band", None),
        ("bands = { a = { low = 0.5, unit = 'rpm' } }", "bands", {"a": Range(0.5, unit="rpm")}),
        ('names = ["a", "b"]', "names", ["a", "b"]),
        ('tags = ["a", "a"]', "tags", frozenset({"a"})),
        ("weights = 2", "weights", 2.0),
        ("weights = [1, 2.5]", "weights", [1.0, 2.5]),
        ('weights = "balanced"', "weights", "balanced"),
        ('weights = "@none"', "weights", None),
        ("scale = 3", "scale", 3),
        ("scale = 3.5", "scale", 3.5),
        ("by_class = { 0 = 1, -1 = 2.0 }", "by_class", {0: 1.0, -1: 2.0}),
        ('either = "red"', "either", Colour.RED),
        ("either = 7", "either", 7),
        ("anything = { a = [1, { b = 2020-01-01 }] }", "anything", {"a": [1, {"b": dt.date(2020, 1, 1)}]}),
        ("bare = [1, 'x']", "bare", [1, "x"]),
        ("half = { thing = { x = 1 } }", "half", parts.HalfKnown({"x": 1})),
    ],
)
def test_types_of_options(check: Check, line: str, name: str, expected: object) -> None:
    """Every type that a signature may have is read from TOML, exactly."""
    if name == "band":
        with pytest.raises(ConfigError, match=r"high must be more than low = 1"):
            check(model(line))
        return

    options = check(model(line)).model.options

    assert options[name] == expected
    assert type(options[name]) is type(expected)


def test_a_table_may_hold_tables_of_its_own_class(check: Check) -> None:
    """An attrs class may refer to itself."""
    config = check(model('tree = { name = "a", children = [{ name = "b", children = [{ name = "c" }] }] }'))

    assert config.model.options["tree"] == parts.Tree("a", [parts.Tree("b", [parts.Tree("c")])])


def test_dates_and_paths(check: Check) -> None:
    """A date is a date and not a time; a path is made of a string."""
    config = check(
        WHOLE.replace("[model]", 'path = "a/b"\nwhen = 2024-02-29\nat = 2024-02-29T12:00:00\nclock = 07:32:00\n[model]')
    )

    assert config.data.options == {
        "path": Path("a/b"),
        "when": dt.date(2024, 2, 29),
        "at": dt.datetime(2024, 2, 29, 12),  # noqa: DTZ001 (TOML's local time)
        "clock": dt.time(7, 32),
    }


def test_nested_parts_are_parts(check: Check) -> None:
    """A parameter annotated with a protocol takes a table with a type: alone, in a list, in a table, to any depth."""
    config = check(
        WHOLE.replace('type = "mse"', 'type = "combined"')
        + 'classification = { type = "combined", classification = { type = "mse", reduction = "sum" } }\n'
        'terms = [{ type = "mse" }, { type = "mse", reduction = "sum" }]\nnamed = { a = { type = "mse" } }\n'
    )
    loss = config.loss

    assert loss.options["classification"].path == "loss.classification"
    assert loss.options["classification"].options["classification"].path == "loss.classification.classification"
    assert [one.path for one in loss.options["terms"]] == ["loss.terms[0]", "loss.terms[1]"]
    assert loss.options["named"]["a"].path == "loss.named.a"
    built = build(loss, {})
    assert built.options["classification"].options["classification"] == Recorder(reduction="sum")


def test_parts_of_other_kinds(check: Check) -> None:
    """A part may be made of parts of any kind."""
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


def test_reserved_keys_are_taken_off(check: Check) -> None:
    """What a kind keeps for itself is not among the options, and has its default."""
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
    """The options class that a kind names as text is imported when it is needed."""
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


def test_options_that_wait_for_the_run_are_not_checked_before(check: Check) -> None:
    """An options class that holds a secret or a part is checked as far as it is known."""
    config = check(
        WHOLE.replace(
            'type = "mse"', 'type = "contrastive"\nsecret = { env = "X" }\ninner = { type = "mse" }\nmargin = 1.5'
        )
    )

    assert config.loss.options["secret"] == Env("X")


def test_defaults_are_recorded_with_the_part(check: Check) -> None:
    """A part holds every default that a run file could say; what the run provides is left to it."""
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
    """What the run file says wins over what the run would fill in."""
    assert check(model("num_classes = 3")).model.options["num_classes"] == 3
    assert check(WHOLE.replace('"mse"', '"needy"\nratio = 1')).loss.options == {"ratio": 1.0}


def test_a_name_may_say_whose(check: Check) -> None:
    """Where two packages offer a name, the distribution in front chooses."""
    config = check(WHOLE.replace('"mse"', '"rival:mse"'), rival=True)

    assert config.loss.registered.distribution == "rival"


def test_numbers_of_epochs_are_short_for_every(check: Check) -> None:
    """An integer counts epochs, so that consumers see one type."""
    config = check(WHOLE, "training.validate_every=2", "checkpoint.every={ minutes = 5 }")

    assert config.training.validate_every == Every(epochs=2)
    assert config.checkpoint.every == Every(minutes=5.0)


def test_requirements_that_are_met(check: Check) -> None:
    """A demand that the installation meets passes."""
    assert check(WHOLE + '[plugins]\nrequire = ["test-parts>=1.0"]\n').plugins.require == ["test-parts>=1.0"]


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line, message",
    [
        ('dropout = "0.5"', '7:11: model.dropout: expected a number, got the string "0.5"; write 0.5 without quotes'),
        ("dropout = 3.0", "7:11: model.dropout: must be between 0 and 1, got 3.0"),
        ("dropout = nan", "7:11: model.dropout: must be between 0 and 1, got nan"),
        ("dropout = true", "7:11: model.dropout: expected a number, got the boolean true"),
        ("dropout = '@none'", "7:11: model.dropout: expected a number, got none"),
        (
            'bias = "false"',
            '7:8: model.bias: expected true or false, got the string "false"; write false without quotes',
        ),
        ("bias = 1", "7:8: model.bias: expected true or false, got the integer 1"),
        ("kernel = [1]", "7:10: model.kernel: expected an array of 2 integers, got an array of 1 value"),
        ("kernel = [1, 2.0]", "7:14: model.kernel[1]: expected an integer, got the float 2.0; write 2"),
        ("kernel = 3", "7:10: model.kernel: expected an array of 2 integers, got the integer 3"),
        ("kernel = [true, 1]", "7:11: model.kernel[0]: expected an integer, got the boolean true"),
        ('activation = "rellu"', "7:14: model.activation: 'rellu' is not one of 'relu', 'gelu'; did you mean 'relu'?"),
        ("activation = 1", "7:14: model.activation: the integer 1 is not one of 'relu', 'gelu'"),
        ('colour = "blue"', "7:10: model.colour: 'blue' is not one of 'red', 'green'"),
        ("level = true", "7:9: model.level: the boolean true is not one of 1, 2"),
        ("names = 'abc'", '7:9: model.names: expected an array of strings, got the string "abc"'),
        ("tags = [1]", "7:9: model.tags[0]: expected a string, got the integer 1"),
        ("weights = [1, 'x']", '7:15: model.weights[1]: expected a number, got the string "x"'),
        (
            "weights = 'balancd'",
            (
                "7:11: model.weights: expected a number, an array of numbers or 'balanced', got the string \"balancd\";"
                " did you mean 'balanced'?"
            ),
        ),
        (
            "weights = {}",
            "7:11: model.weights: expected a number, an array of numbers or 'balanced', got an empty table",
        ),
        ("by_class = { a = 1 }", '7:14: model.by_class.a: expected an integer, got the string "a"'),
        ("by_class = { 1 = 'x' }", '7:18: model.by_class.1: expected a number, got the string "x"'),
        ("by_class = 1", "7:12: model.by_class: expected a table, got the integer 1"),
        ("band = 3", "7:8: model.band: expected a table with the keys low, high, unit, got the integer 3"),
        ("band = {}", "7:8: model.band: this table needs 'low' (a number)"),
        ("band = { low = 0, hgh = 2 }", "7:19: model.band.hgh: unknown key; did you mean 'high'?"),
        ("band = { low = 1 }", "7:8: model.band.high: high must be more than low = 1"),
        ("band = { low = 0, unit = 'm' }", "7:26: model.band.unit: 'unit' must be in ['Hz', 'rpm'] (got 'm')"),
        (
            "bands = { a = { low = '1' } }",
            '7:23: model.bands.a.low: expected a number, got the string "1"; write 1 without quotes',
        ),
        ("tree = { name = 'a', children = [{}] }", "7:34: model.tree.children[0]: this table needs 'name' (a string)"),
        ("half = { count = 'x' }", None),
        ("hiden = [8]", "7:1: model.hiden: unknown key; did you mean 'hidden'?"),
        ("tensor = 1", None),
        ("either = 'blue'", "7:10: model.either: expected 'red', 'green' or an integer, got the string \"blue\""),
    ],
)
def test_what_is_said_of_an_option(
    refusals: Callable[..., list[str]], check: Check, line: str, message: str | None
) -> None:
    """Each message has the place, what was expected, what was found and, where it can be guessed, what was meant."""
    if message is None:  # nothing is known about the type, so nothing is refused
        check(model(line))
        return

    assert refusals(model(line)) == [f"run.toml:{message}"]


def test_a_number_beyond_floats(refusals: Callable[..., list[str]]) -> None:
    """An integer that no float can hold is refused, not turned into an exception."""
    (message,) = refusals(model(f"dropout = {'9' * 300}" + "9" * 10))[:1]

    assert message.startswith("run.toml:7:11")


def test_an_integer_beyond_floats() -> None:
    """The converter refuses what Python itself would raise an OverflowError for."""
    with pytest.raises(ConfigError, match="beyond the range"):
        fit(10**400, float)


def test_everything_at_once(refusals: Callable[..., list[str]]) -> None:
    """All problems are reported together, sorted by place, whatever section they are in."""
    text = (
        "[run]\nsed = 1\nseed = -1\n[data]\ntype = 'digts'\n[model]\ntype = 'net'\n[loss]\ntype = 'mse'\nreduction = 'men'\n"
        "[training]\nmax_epochs = '3'\nprecision = 'fp8'\n"
    )

    assert refusals(text, "loader.batch_size=0") == [
        "run.toml:2:1: run.sed: unknown key; did you mean 'seed'?",
        "run.toml:3:8: run.seed: must be between 0 and 1.84467e+19, got -1",
        "run.toml:5:8: data.type: unknown dataset 'digts'; did you mean 'digits'?",
        "run.toml:6:1: model: model 'net' needs 'hidden' (an array of integers)",
        "run.toml:10:13: loss.reduction: 'men' is not one of 'mean', 'sum'; did you mean 'mean'?",
        'run.toml:12:14: training.max_epochs: expected an integer, got the string "3"; write 3 without quotes',
        "run.toml:13:13: training.precision: 'fp8' is not one of 'fp32', 'bf16', 'fp16', 'tf32'",
        "command line, argument 1: loader.batch_size: must be at least 1, got 0",
    ]


def test_a_wrong_field_raises_no_second_complaint(refusals: Callable[..., list[str]]) -> None:
    """A rule across fields says nothing where one of its fields is itself wrong."""
    assert refusals(WHOLE + "[training]\nmax_steps = 'x'\nmax_epochs = '@none'\n") == [
        'run.toml:9:13: training.max_steps: expected an integer, got the string "x"'
    ]


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
def test_what_is_said_of_a_part(refusals: Callable[..., list[str]], lines: str, messages: list[str]) -> None:
    """A part without type, of an unknown or unusable type, with wrong options: each is answered at its place."""
    text = f'[data]\ntype = "digits"\n[model]\ntype = "net"\nhidden = [8]\n\n[loss]\n{lines}\n'

    assert refusals(text) == messages


@pytest.mark.parametrize(
    "lines, message",
    [
        ("[optimizer]\ntype = 'sgd'", "8:1: optimizer: optimizer 'sgd' needs 'lr' (a number)"),
        ("[optimizer]\nparams = 1", "9:10: optimizer.params: comes from the run"),
        ("[optimizer]\nlearning_rate = 1", "9:1: optimizer.learning_rate: unknown key; did you mean 'lr'?"),
        (
            "[optimizer]\nno_decay = 'bias'",
            '9:12: optimizer.no_decay: expected an array of strings, got the string "bias"',
        ),
        (
            "[scheduler]\ntype = 'plateau'\nevery = 'step'",
            "10:9: scheduler.every: 'step' is not one of 'update', 'epoch'",
        ),
        (
            "[scheduler]\ntype = 'plateau'\nwarmup_ratio = 1",
            "10:1: scheduler.warmup_ratio: unknown key; scheduler 'plateau' takes every, factor, monitor",
        ),
        (
            "[metrics.m]\ntype = 'unsayable'",
            "8:1: metrics.m: metric 'unsayable' needs 'handle' (takes an object that a run file cannot give)",
        ),
        (
            "[metrics.m]\ntype = 'unsayable'\nhandle = 1",
            "10:10: metrics.m.handle: takes an object that a run file cannot give",
        ),
        ("[metrics.m]\ntype = 'accuracy'\nx = 1", "10:1: metrics.m.x: unknown key; metric 'accuracy' takes nothing"),
        (
            "[metrics]\ntype = 'accuracy'",
            '8:1: metrics: each metric has a name: write [metrics.NAME] with type = "accuracy"',
        ),
        (
            "[[callbacks]]\ntype = 'early_stopping'",
            "8:1: callbacks: each callback has a name: write [callbacks.NAME], got an array of 1 value",
        ),
        (
            "[callbacks]\na = 'early_stopping'",
            '9:5: callbacks.a: expected a table such as { type = "early_stopping" }, got the string "early_stopping"',
        ),
        (
            "[run]\nname = '../x'",
            "9:8: run.name: must be 1 to 100 of the characters A-Z a-z 0-9 . _ - and not begin with '.', got '../x'",
        ),
        (
            "[run]\nname = { env = 'X' }",
            "9:8: run.name: expected a string, got the secret in the environment variable X",
        ),
        (
            "[hardware]\ndevice = 'gpu'",
            "9:10: hardware.device: 'gpu' is not a device such as 'auto', 'cpu', 'cuda' or 'cuda:0'; did you mean 'cuda'?",
        ),
        ("[hardware]\ndevices = 4", '8:1: hardware.strategy: 4 devices need strategy = "ddp" or "fsdp", got \'none\''),
        (
            "[training]\nmax_epochs = '@none'",
            "9:14: training.max_epochs: needs max_epochs or max_steps, or training never ends",
        ),
        ("[training]\nvalidate_every = 0", "9:18: training.validate_every: must be at least 1, got 0"),
        (
            "[training]\nvalidate_every = { minutes = 3 }",
            "9:18: training.validate_every: counts epochs or steps; 'minutes' is for checkpoints only",
        ),
        (
            "[training]\nvalidate_every = {}",
            "9:18: training.validate_every: needs 'epochs', 'steps' or 'minutes'",
        ),
        (
            "[training]\nvalidate_every = 'often'",
            '9:18: training.validate_every: expected an integer or a table, got the string "often"',
        ),
        ("[training]\nuse_amp = true", "9:1: training.use_amp: unknown key; did you mean 'precision'?"),
        (
            "[training]\ngradient_clip_norm = 1",
            "9:1: training.gradient_clip_norm: unknown key; did you mean 'max_grad_norm'?",
        ),
        ("[training]\nseed = 1", "9:1: training.seed: unknown key; did you mean 'run.seed'?"),
        ("[training]\nMax_Epochs = 1", "9:1: training.Max_Epochs: unknown key; did you mean 'max_epochs'?"),
        (
            "[training]\nearly_stopping_patience = 3",
            "9:1: training.early_stopping_patience: unknown key; did you mean 'callbacks.early_stopping.patience'?",
        ),
        ("[training]\nloader = 1", "9:1: training.loader: unknown key; did you mean 'loader'?"),
        (
            "[checkpoint]\nbest_only = true\nkeep_last = 5",
            "10:13: checkpoint.keep_last: best_only = true keeps 1, which contradicts 5",
        ),
        (
            "[checkpoint]\ncopy_to = 'vault'",
            '9:11: checkpoint.copy_to: expected a table such as { type = "vault" }, got the string "vault"',
        ),
        (
            "[budget]\nwall_clock = '9 hours'",
            '9:14: budget.wall_clock: expected a duration such as "9h", "1h30m" or "45s", got \'9 hours\'',
        ),
        (
            "[budget]\ngpu_memory = '16'",
            '9:14: budget.gpu_memory: expected a size such as "16GB" or "512MiB", got \'16\'',
        ),
        (
            '[paths]\noutput = "a\\u0000"',
            '9:10: paths.output: expected a path, got the string "a\\u0000", which contains a NUL character',
        ),
        ("[trainig]\na = 1", "8:2: trainig: unknown section; did you mean 'training'?"),
        ("[seed]\na = 1", "8:2: seed: unknown section; did you mean 'run.seed'?"),
        (
            "[run]\nwandb_project = 'x'",
            '9:1: run.wandb_project: unknown key; it comes with dovetail-trackers, as [trackers.wandb] with type = "trackers.wandb"',
        ),
        (
            "[plugins]\nrequire = ['test-parts>=2']",
            "9:12: plugins.require[0]: test-parts 1.0 is installed; pip install 'test-parts>=2'",
        ),
        ("[plugins]\nrequire = [1]", "9:12: plugins.require[0]: expected a string, got the integer 1"),
        ("[plugins]\nrequire = 'x'", '9:11: plugins.require: expected an array of strings, got the string "x"'),
    ],
)
def test_what_is_said_of_a_section(refusals: Callable[..., list[str]], lines: str, message: str) -> None:
    """Every rule of Dovetail's own sections has its message."""
    assert refusals(WHOLE + lines + "\n") == [f"run.toml:{message}"]


def test_an_ambiguous_name(refusals: Callable[..., list[str]]) -> None:
    """Two providers of a name are both named, with how to choose."""
    assert refusals(WHOLE, rival=True) == [
        (
            "run.toml:7:8: loss.type: loss 'mse' is offered by rival 2.0 and test-parts 1.0; choose with"
            ' type = "rival:mse" or type = "test-parts:mse"'
        )
    ]


def test_nothing_at_all(refusals: Callable[..., list[str]]) -> None:
    """An empty file is told what every run needs."""
    assert refusals("") == [
        "run.toml:1:1: data: needs a 'type', the name of a dataset; there is digits",
        "run.toml:1:1: loss: needs a 'type', the name of a loss; there is broken, combined, contrastive, greedy, mse, needy",
        "run.toml:1:1: model: needs a 'type', the name of a model; there is net",
    ]


def test_sections_that_are_no_tables(refusals: Callable[..., list[str]]) -> None:
    """A value in the place of a section is answered like any other."""
    assert refusals("run = 3\nplugins = 1\n" + WHOLE) == [
        "run.toml:1:7: run: expected a table, got the integer 3",
        "run.toml:2:11: plugins: expected a table with the keys require, got the integer 1",
    ]


# --- objects from Python -----------------------------------------------------------------------------------------


class Bell:
    """A callback."""

    def dovetail_run_end(self) -> None:
        """Ring."""


def python(**tables_: Any) -> RunConfig:
    """Structure plain Python tables."""
    whole = {"data": {"type": "digits"}, "model": {"type": "net", "hidden": [8]}, "loss": {"type": "mse"}}
    return check_config(Node.from_python({**whole, **tables_}), make_plugins())


def test_objects_stand_for_parts() -> None:
    """An object from Python is a part as it is, and its kind's own keys may stand beside it."""
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
def test_objects_that_cannot_stand_for_a_part(tables_: dict[str, Any], message: str) -> None:
    """What an object lacks is said, without calling it."""
    with pytest.raises(ConfigError) as raised:
        python(**tables_)

    assert str(raised.value) == message


def test_objects_go_through_where_anything_does() -> None:
    """An option without a type takes an object too."""
    bell = Bell()

    assert python(model={"type": "net", "hidden": [1], "anything": {"a": [bell]}}).model.options["anything"] == {
        "a": [bell]
    }


# --- the converter by itself ---------------------------------------------------------------------------------------


def fit(value: object, annotation: Any, *limits: Any, secrets: bool = False) -> Any:
    """Convert a plain value to a type."""
    return Converter(secrets=secrets).fit(Entry(Node.from_python(value)), Slot(annotation, limits=limits))


SCALARS = {
    bool: {"boolean"},
    int: {"integer"},
    float: {"integer", "float"},
    str: {"string"},
    Path: {"string"},
    dt.date: {"date"},
    dt.datetime: {"date and time"},
    dt.time: {"time"},
    type(None): {"none"},
}
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(st.characters(exclude_characters="\0")),
    st.dates(),
    st.datetimes(),
    st.times(),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)


@given(value=values, annotation=st.sampled_from(list(SCALARS)))
def test_no_type_is_turned_into_another(value: object, annotation: Any) -> None:
    """A value is taken exactly where TOML's type for it is, an integer also for a float; nothing else is."""
    try:
        fitted = fit(value, annotation)
    except ConfigError as error:
        assert toml_type(value) not in SCALARS[annotation]
        (problem,) = error.problems
        assert problem.path == ""
        assert problem.message.startswith(f"expected {describe(annotation)}, got ")
    else:
        assert toml_type(value) in SCALARS[annotation]
        assert isinstance(fitted, annotation)
        assert fitted == (Path(str(value)) if annotation is Path else value) or value != value  # noqa: PLR0124 (nan)


@given(value=values)
def test_anything_goes_through_unchanged(value: object) -> None:
    """Where nothing is known about a type, the value arrives as TOML has it, in plain tables."""
    fitted = fit(value, Any)

    assert repr(fitted) == repr(value)
    assert type(fitted) is type(value)


@pytest.mark.parametrize("annotation", [list, list[Any], tuple, dict, dict[str, Any], Any])
def test_what_is_inside_anything_is_plain(annotation: Any) -> None:
    """Where only the outside has a type, factories get plain tables and the very objects that were passed."""
    inside = {"a": [{"b": 1}], "c": Recorder()}
    value = {"x": inside} if annotation in {dict, dict[str, Any]} else [inside]

    fitted = fit(value, annotation, secrets=True)

    (found,) = fitted.values() if isinstance(fitted, dict) else fitted
    assert found == inside
    assert (type(found), type(found["a"][0]), type(found["c"])) == (dict, dict, Recorder)


@pytest.mark.parametrize(
    "annotation, words",
    [
        (int, "an integer"),
        (list, "an array"),
        (Annotated[int, AtLeast(1)], "an integer"),
        (list[Loss], "an array of loss tables"),
        (list[list[int]], "an array of arrays"),
        (list[Range], "an array of values"),
        (list[Annotated[int, AtLeast(1)]], "an array of integers"),
        (tuple[int, str], "an array of 2 values"),
        (dict[str, int], "a table"),
        (int | None, "an integer"),
        (int | list[str] | Literal["a", "b"], "an integer, an array of strings, 'a' or 'b'"),
        (type(None), '"@none"'),
        (Any, "a value"),
        (Recorder, "a Recorder object"),
        (Loss, "a loss, a table such as { type = … }"),
    ],
)
def test_types_in_words(annotation: Any, words: str) -> None:
    """A message names a type in the words of a run file."""
    assert describe(annotation) == words


def test_types_that_toml_cannot_say() -> None:
    """A type without any notation accepts nothing, and asking for it is refused in words."""
    assert accepts(Recorder) == frozenset()
    with pytest.raises(ConfigError, match="takes a Recorder object, which a run file cannot give"):
        fit(1, Recorder)


@pytest.mark.parametrize("limit", [Between(0, 1), AtLeast(0), MoreThan(0)])
def test_limits_hold_inside_arrays(limit: Any) -> None:
    """A limit on an array is one on each of its numbers."""
    assert fit([1, 0.5], list[float], limit) == [1.0, 0.5]
    with pytest.raises(ConfigError, match=r"got -1"):
        fit([1, -1], list[float], limit)
    with pytest.raises(ConfigError):
        fit([1, -1], Annotated[list[int], limit])


def test_the_origin_of_what_nobody_wrote() -> None:
    """A path that leads nowhere has the origin of the table where it ends."""
    tree = Node.from_python({"a": {"b": [1]}, "c": 1})

    assert str(origin_of(tree, ("a", "x", "y"))) == "Python"
    assert str(origin_of(tree, ("a", "b", 0))) == "Python"
    assert str(origin_of(tree, ("c", "d"))) == "Python"
