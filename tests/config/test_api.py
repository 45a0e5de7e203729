"""Tests of dovetail.config.api, .keywords, .objects, .files, .defaults and .omega: the Python face of run files."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest

import dovetail
from config_parts import WHOLE, Net, make_plugins, refusal, whole_config
from dovetail.config.api import Config
from dovetail.config.freeze import origins
from dovetail.config.schema import Every

PLUGINS = make_plugins()


# --- loading and saving -----------------------------------------------------------------------------------------


def test_config_is_a_public_name() -> None:
    """`from dovetail import Config` imports it."""
    assert dovetail.Config is Config


def test_load_a_file(tmp_path: Path) -> None:
    """A run file loads with a profile and overrides, as on the command line."""
    path = tmp_path / "run.toml"
    path.write_text(WHOLE + "[profile.fast.training]\nmax_epochs = 1\n")
    built = Config.load(path, "fast", ["optimizer.lr=3"], plugins=PLUGINS).build()

    assert (built.training.max_epochs, built.optimizer.options["lr"]) == (1, 3.0)
    assert Config.load(path, "layer", plugins=PLUGINS).build().training.max_epochs == 2
    assert origins(built)["training.max_epochs"] == f"{path}:9:14"


def test_load_the_defaults() -> None:
    """Without a file nothing is set, and every required part is reported as missing."""
    empty = Config.load(plugins=PLUGINS)

    assert empty.to_dict() == {}
    assert [problem.path for problem in empty.validate()] == ["data", "loss", "model"]
    assert Config.load(None, overrides=["run.seed=3"], plugins=PLUGINS).to_dict() == {"run": {"seed": 3}}
    assert Config(plugins=PLUGINS).to_dict() == {}


def test_validate_returns_every_problem(tmp_path: Path) -> None:
    """validate() returns every problem and raises nothing; a valid file has none."""
    path = tmp_path / "run.toml"
    path.write_text(WHOLE + "[run]\nsed = 1\n[loader]\nbatch_size = 0\n")

    assert [str(problem) for problem in Config.load(path, plugins=PLUGINS).validate()] == [
        f"{path}:9:1: run.sed: unknown key; did you mean 'seed'?",
        f"{path}:11:14: loader.batch_size: must be at least 1, got 0",
    ]
    assert whole_config().validate() == []


def test_the_default_name_has_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a path, the file is in the working directory and named after the run and the time."""
    monkeypatch.chdir(tmp_path)
    before = dt.datetime.now(dt.UTC).replace(microsecond=0)
    path = whole_config().with_logging(run_name="exp-1").save()
    name, _, rest = path.stem.partition("-1-")
    told = dt.datetime.strptime(rest, "%Y-%m-%dT%H-%M-%S").replace(tzinfo=dt.UTC)

    assert name == "exp"
    assert before <= told <= dt.datetime.now(dt.UTC)
    assert path.suffix == ".toml"
    assert path.is_file()
    assert whole_config().save().name.startswith("run-")


def test_missing_files(tmp_path: Path) -> None:
    """A missing file is one problem."""
    assert "no such file" in refusal(lambda: Config.load(tmp_path / "a.toml", plugins=PLUGINS))
    assert "no such file" in refusal(lambda: Config.load(tmp_path / "a.json", plugins=PLUGINS))


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    """save() replaces a file atomically or not at all."""
    path = whole_config().save(tmp_path / "a.toml")
    before = path.read_text()
    tmp_path.chmod(0o500)
    try:
        whole_config().with_logging(run_name="b").save(path)
    except OSError:
        assert path.read_text() == before
    finally:
        tmp_path.chmod(0o700)
    assert [item.name for item in tmp_path.iterdir()] == ["a.toml"]


# --- building fluently -----------------------------------------------------------------------------------------------


def test_the_documented_chain() -> None:
    """The documents' builder calls work word for word, except for the entry."""
    built = (
        Config.preset("baseline")
        .with_training(epochs=30, batch_size=8)
        .with_optimizer(gradient_accumulation_steps=4)
        .with_logging(run_name="custom-baseline")
        .build()
    )

    assert (built.training.max_epochs, built.loader.batch_size, built.training.accumulate) == (30, 8, 4)
    assert built.run.name == "custom-baseline"


def test_a_configuration_is_immutable() -> None:
    """Each method returns a new configuration and leaves the old one unchanged."""
    first = whole_config()
    second = first.with_training(epochs=3)

    assert first is not second
    assert "training" not in first.to_dict()
    assert second.with_training(epochs=4).to_dict()["training"] == {"max_epochs": 4}
    assert second.to_dict()["training"] == {"max_epochs": 3}
    assert repr(second) == "<Config: data, model, loss, training>"
    assert repr(Config()) == "<Config: nothing set>"


def test_parts_by_name_and_options() -> None:
    """A name chooses a component; another name drops the options of the first."""
    made = whole_config().with_optimizer("sgd", learning_rate=0.1, momentum=0.9).with_scheduler("plateau", factor=0.5)
    built = made.with_loss("combined", classification={"type": "mse"}).build()

    assert (built.optimizer.name, built.optimizer.options) == ("sgd", {"lr": 0.1, "momentum": 0.9})
    assert built.scheduler.options == {"factor": 0.5}
    assert built.loss.options["classification"].name == "mse"
    assert made.with_optimizer("adamw").build().optimizer.options["lr"] == 1e-3
    assert made.with_loss(reduction="sum").build().loss.options == {"reduction": "sum"}


def test_objects_as_parts() -> None:
    """Objects can be parts, by the method of the part or with with_parts, and are in the built configuration."""
    net, samples = Net(), [(1, 2), (3, 4)]
    built = whole_config().with_model(net).with_data(samples, validation_split=0.5, batch_size=2).build()

    assert built.model.live is net
    assert built.data.live is samples
    assert built.data.reserved["split"].validation == 0.5
    assert built.loader.batch_size == 2
    assert whole_config().with_parts(model=net, callbacks={"bell": net}).build().callbacks["bell"].live is net
    assert whole_config().with_model(net).to_dict()["model"] == {"type": net}
    assert whole_config().with_model(net).with_model("net", hidden=[1]).build().model.name == "net"
    assert Config.from_dict(whole_config().with_model(net).to_dict(), plugins=PLUGINS).build().model.live is net
    assert whole_config().with_parts(scheduler=None, data=samples).build().data.live is samples


def test_whole_sections() -> None:
    """with_parts takes any section as a run file has it."""
    built = (
        whole_config().with_parts(checkpoint={"every": {"minutes": 10}}, metrics={"a": {"type": "accuracy"}}).build()
    )

    assert built.checkpoint.every == Every(minutes=10.0)
    assert list(built.metrics) == ["a"]


def test_later_layers_win(tmp_path: Path) -> None:
    """A later layer wins over an earlier one, wherever each comes from."""
    made = Config.load(whole_config().save(tmp_path / "a.toml"), overrides=["training.max_epochs=7"], plugins=PLUGINS)

    assert made.build().training.max_epochs == 7
    assert made.with_training(epochs=8).build().training.max_epochs == 8


# --- what goes out ----------------------------------------------------------------------------------------------


def test_to_dict_of_a_built_configuration_is_complete() -> None:
    """to_dict() of a built configuration has every default, is JSON, and builds the same configuration."""
    built = whole_config().with_logging(tags=["a"]).build()
    values = built.to_dict()

    assert values["training"]["max_epochs"] == 10
    assert values["model"]["type"] == "net"
    assert Config.from_dict(json.loads(json.dumps(values)), plugins=PLUGINS).build() == built
