"""Tests of dovetail.config.check."""

# ruff: noqa: E501 (messages are written out whole)

from __future__ import annotations

import pytest

from config_parts import WHOLE, Check, Refusals, make_plugins
from dovetail.config.check import check_part
from dovetail.config.diagnostics import ConfigError
from dovetail.config.schema import Every
from dovetail.config.tree import Node


def test_defaults_complete_a_small_file(check: Check) -> None:
    """Missing sections have their defaults, and every run has an optimizer, a trainer and a collator."""
    config = check(WHOLE)

    assert config.run.name == "run"
    assert config.training.max_epochs == 10
    assert config.optimizer.name == "adamw"
    assert config.optimizer.options == {"lr": 1e-3, "betas": (0.9, 0.999)}
    assert (config.trainer.name, config.collator.name, config.scheduler) == ("standard", "default", None)
    assert config.metrics == config.callbacks == config.trackers == config.transforms == {}
    assert config.tree.table["model"].table["hidden"].to_python() == [8]


def test_an_integer_is_a_cadence_in_epochs(check: Check) -> None:
    """An integer counts epochs, so that all code sees one type."""
    config = check(WHOLE, "training.validate_every=2", "checkpoint.every={ minutes = 5 }")

    assert config.training.validate_every == Every(epochs=2)
    assert config.checkpoint.every == Every(minutes=5.0)


def test_requirements(check: Check) -> None:
    """A requirement that the installation meets passes."""
    assert check(WHOLE + '[plugins]\nrequire = ["test-parts>=1.0"]\n').plugins.require == ["test-parts>=1.0"]


def test_all_problems_together(refusals: Refusals) -> None:
    """All problems of all sections are reported together, sorted by position."""
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


def test_a_wrong_field_is_reported_once(refusals: Refusals) -> None:
    """A rule across fields is not applied if one of its fields is wrong itself."""
    assert refusals(WHOLE + "[training]\nmax_steps = 'x'\nmax_epochs = '@none'\n") == [
        'run.toml:9:13: training.max_steps: expected an integer, got the string "x"'
    ]


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
def test_messages_about_sections(refusals: Refusals, lines: str, message: str) -> None:
    """Every rule of Dovetail's own sections has its message."""
    assert refusals(WHOLE + lines + "\n") == [f"run.toml:{message}"]


def test_an_empty_file(refusals: Refusals) -> None:
    """An empty file lacks every required part."""
    assert refusals("") == [
        "run.toml:1:1: data: needs a 'type', the name of a dataset; there is digits",
        "run.toml:1:1: loss: needs a 'type', the name of a loss; there is broken, combined, contrastive, greedy, mse, needy",
        "run.toml:1:1: model: needs a 'type', the name of a model; there is net",
    ]


def test_sections_that_are_not_tables(refusals: Refusals) -> None:
    """A value in place of a section is reported like any other."""
    assert refusals("run = 3\nplugins = 1\n" + WHOLE) == [
        "run.toml:1:7: run: expected a table, got the integer 3",
        "run.toml:2:11: plugins: expected a table with the keys require, got the integer 1",
    ]


def test_one_part_by_itself() -> None:
    """check_part() checks one part, whatever is wrong with the others."""
    tree = Node.from_python({"model": {"type": "net", "hidden": [8]}, "loss": {"type": "no_such_loss"}})

    assert check_part(tree, "model", make_plugins()).options["hidden"] == [8]
    with pytest.raises(ConfigError, match=r"Python: loss.type: unknown loss 'no_such_loss'"):
        check_part(tree, "loss", make_plugins())
    with pytest.raises(ConfigError, match="Python: data: needs a 'type', the name of a dataset; there is digits"):
        check_part(tree, "data", make_plugins())


# --- phases -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "phases, length",
    [
        ("[[phases]]\nmax_epochs = 2\n[[phases]]\nmax_epochs = 3\n", (5, None)),
        ("[[phases]]\nmax_steps = 2\n[[phases]]\nmax_steps = 3\n", (None, 5)),
        ("[[phases]]\nmax_epochs = 2\n[[phases]]\nmax_steps = 3\n", (10, None)),
        ("[training]\nmax_epochs = 9\n[[phases]]\nmax_epochs = 2\n[[phases]]\nmax_epochs = 3\n", (9, None)),
    ],
)
def test_the_length_of_phases(check: Check, phases: str, length: tuple[int | None, int | None]) -> None:
    """A run is as long as its phases together, if all have a length in one unit and [training] sets none."""
    training = check(WHOLE + phases).training

    assert (training.max_epochs, training.max_steps) == length


def test_phases_that_never_end_or_start(refusals: Refusals) -> None:
    """Every phase but the last needs an end, and the last needs epochs to start in."""
    assert refusals(WHOLE + "[[phases]]\n[[phases]]\nmax_epochs = 1\n") == [
        "run.toml:8:1: phases[0]: needs max_epochs or max_steps; only the last phase may run until training ends"
    ]
    assert refusals(WHOLE + "[training]\nmax_epochs = 2\n[[phases]]\nmax_epochs = 2\n[[phases]]\n") == [
        "run.toml:9:14: training.max_epochs: the phases before the last take 2 epochs; with max_epochs = 2 the last never starts"
    ]
