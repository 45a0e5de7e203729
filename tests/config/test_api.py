"""Tests of dovetail.config.api, .keywords, .objects, .files, .defaults and .omega: the Python face of run files."""

# ruff: noqa: E501 (messages are written out whole)

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dovetail
from config_parts import WHOLE, make_plugins
from config_strategies import configurations
from dovetail.config.aliases import ALIASES, ELSEWHERE, unknown_key
from dovetail.config.api import Config
from dovetail.config.defaults import _limit, default_file, write_defaults
from dovetail.config.diagnostics import ConfigError
from dovetail.config.freeze import config_hash, origins
from dovetail.config.schema import Every, sections
from dovetail.kernel.plugins import Plugins
from dovetail.kernel.secret import Env
from dovetail.spec.limits import AtLeast, Between, MoreThan

PLUGINS = make_plugins()


def config() -> Config:
    """A configuration that is in order."""
    return Config.from_dict(
        {"data": {"type": "digits"}, "model": {"type": "net", "hidden": [8]}, "loss": {"type": "mse"}}, plugins=PLUGINS
    )


def refusal(made: Any) -> str:
    """What is said of a call that is refused."""
    with pytest.raises(ConfigError) as raised:
        made()
    return str(raised.value)


def has_dates(value: Any) -> bool:
    """Tell whether there is a date or a time anywhere."""
    if isinstance(value, dict | list):
        return any(map(has_dates, value.values() if isinstance(value, dict) else value))
    return isinstance(value, dt.date | dt.time)


class Net:
    """A model."""

    def __call__(self) -> None:
        """Do nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Have nothing."""
        return {}


# --- loading and saving -----------------------------------------------------------------------------------------


def test_it_is_a_public_name() -> None:
    """Config is what `from dovetail import Config` gives."""
    assert dovetail.Config is Config


def test_load_a_file(tmp_path: Path) -> None:
    """A run file with a profile and overrides, as on the command line."""
    path = tmp_path / "run.toml"
    path.write_text(WHOLE + "[profile.fast.training]\nmax_epochs = 1\n")
    built = Config.load(path, "fast", ["optimizer.lr=3"], plugins=PLUGINS).build()

    assert (built.training.max_epochs, built.optimizer.options["lr"]) == (1, 3.0)
    assert Config.load(path, "layer", plugins=PLUGINS).build().training.max_epochs == 2
    assert origins(built)["training.max_epochs"] == f"{path}:9:14"


def test_load_the_defaults() -> None:
    """Without a file nothing is set; what every run needs is still to be chosen."""
    empty = Config.load(plugins=PLUGINS)

    assert empty.to_dict() == {}
    assert [problem.path for problem in empty.validate()] == ["data", "loss", "model"]
    assert Config.load(None, overrides=["run.seed=3"], plugins=PLUGINS).to_dict() == {"run": {"seed": 3}}
    assert Config(plugins=PLUGINS).to_dict() == {}


def test_every_problem_of_a_file(tmp_path: Path) -> None:
    """validate() returns them all and raises nothing; a file in order has none."""
    path = tmp_path / "run.toml"
    path.write_text(WHOLE + "[run]\nsed = 1\n[loader]\nbatch_size = 0\n")

    assert [str(problem) for problem in Config.load(path, plugins=PLUGINS).validate()] == [
        f"{path}:9:1: run.sed: unknown key; did you mean 'seed'?",
        f"{path}:11:14: loader.batch_size: must be at least 1, got 0",
    ]
    assert config().validate() == []


@pytest.mark.parametrize("suffix", ["toml", "json"])
def test_saved_and_loaded(tmp_path: Path, suffix: str) -> None:
    """What is saved loads as the same configuration; secrets and none included."""
    made = config().with_parts(
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
def test_anything_saved_and_loaded(
    tables: dict[str, Any], suffix: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Saving and loading is the identity on whatever can be said, right or wrong; JSON refuses dates, which it has not."""
    made = Config.from_dict(tables, plugins=PLUGINS)
    target = tmp_path_factory.mktemp("saved") / f"saved.{suffix}"
    if suffix == "json" and has_dates(made.to_dict()):
        assert refusal(lambda: made.save(target)) == "Python: JSON has no dates and times; save as .toml"
    else:
        assert Config.load(made.save(target), plugins=PLUGINS).to_dict() == made.to_dict()


def test_the_default_name_has_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a path, the file is named after the run and the moment, in the working directory."""
    monkeypatch.chdir(tmp_path)
    before = dt.datetime.now(dt.UTC).replace(microsecond=0)
    path = config().with_logging(run_name="exp-1").save()
    name, _, rest = path.stem.partition("-1-")
    told = dt.datetime.strptime(rest, "%Y-%m-%dT%H-%M-%S").replace(tzinfo=dt.UTC)

    assert name == "exp"
    assert before <= told <= dt.datetime.now(dt.UTC)
    assert path.suffix == ".toml"
    assert path.is_file()
    assert config().save().name.startswith("run-")


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    """An object from Python is named with its place; so is a suffix that nobody reads."""
    message = "is a Python object, which a file cannot hold; name a component by its type instead"

    assert refusal(lambda: config().with_model(Net()).save(tmp_path / "a.toml")) == f"Python: model.type: {message}"
    assert "must end in .toml or .json" in refusal(lambda: config().save(tmp_path / "a.yaml"))
    assert list(tmp_path.iterdir()) == []


def test_a_json_file_keeps_its_origin(tmp_path: Path) -> None:
    """Values of a JSON file come from it, overrides from the command line."""
    path = config().save(tmp_path / "a.json")
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


def test_files_that_are_not_there(tmp_path: Path) -> None:
    """A missing file is one problem."""
    assert "no such file" in refusal(lambda: Config.load(tmp_path / "a.toml", plugins=PLUGINS))
    assert "no such file" in refusal(lambda: Config.load(tmp_path / "a.json", plugins=PLUGINS))


def test_a_broken_save_leaves_the_old_file(tmp_path: Path) -> None:
    """What is there is replaced at once or not at all."""
    path = config().save(tmp_path / "a.toml")
    before = path.read_text()
    tmp_path.chmod(0o500)
    try:
        config().with_logging(run_name="b").save(path)
    except OSError:
        assert path.read_text() == before
    finally:
        tmp_path.chmod(0o700)
    assert [one.name for one in tmp_path.iterdir()] == ["a.toml"]


# --- building fluently -----------------------------------------------------------------------------------------------


def test_the_documented_chain() -> None:
    """The documents' builder calls, word for word but for the entry."""
    built = (
        Config.preset("baseline")
        .with_training(epochs=30, batch_size=8)
        .with_optimizer(gradient_accumulation_steps=4)
        .with_logging(run_name="custom-baseline")
        .build()
    )

    assert (built.training.max_epochs, built.loader.batch_size, built.training.accumulate) == (30, 8, 4)
    assert built.run.name == "custom-baseline"


def test_the_documented_methods() -> None:
    """Each of the documents' keywords reaches its setting."""
    made = (
        Config()
        .with_model(
            model_name="custom-gpt",
            vocab_size=50257,
            d_model=768,
            num_layers=12,
            num_heads=12,
            d_ff=3072,
            max_seq_len=512,
        )
        .with_training(learning_rate=5e-5, batch_size=16, epochs=20, warmup_ratio=0.1, validation_split=0.1)
        .with_optimizer(weight_decay=0.01, max_grad_norm=1.0, gradient_accumulation_steps=4)
        .with_hardware(use_amp=True, compile_mode="default", devices=1, precision="bf16-mixed")
        .with_logging(run_name="exp-1", notes="Testing new augmentation")
    )

    assert made.to_dict() == {
        "run": {"experiment": "custom-gpt", "name": "exp-1", "notes": "Testing new augmentation"},
        "model": {
            "type": "transformer",
            "vocab_size": 50257,
            "d_model": 768,
            "num_layers": 12,
            "num_heads": 12,
            "d_ff": 3072,
            "max_seq_len": 512,
        },
        "optimizer": {"lr": 5e-5, "weight_decay": 0.01},
        "loader": {"batch_size": 16},
        "training": {"max_epochs": 20, "max_grad_norm": 1.0, "accumulate": 4, "precision": "bf16"},
        "scheduler": {"type": "warmup_cosine", "warmup": 0.1},
        "data": {"split": {"validation": 0.1}},
        "hardware": {"compile": True, "devices": 1},
    }


def test_it_is_immutable() -> None:
    """Each method returns a new configuration and leaves the old one as it was."""
    first = config()
    second = first.with_training(epochs=3)

    assert first is not second
    assert "training" not in first.to_dict()
    assert second.with_training(epochs=4).to_dict()["training"] == {"max_epochs": 4}
    assert second.to_dict()["training"] == {"max_epochs": 3}
    assert repr(second) == "<Config: data, model, loss, training>"
    assert repr(Config()) == "<Config: nothing set>"


def test_parts_by_name_and_options() -> None:
    """A name chooses a component, and another name drops the first one's options."""
    made = config().with_optimizer("sgd", learning_rate=0.1, momentum=0.9).with_scheduler("plateau", factor=0.5)
    built = made.with_loss("combined", classification={"type": "mse"}).build()

    assert (built.optimizer.name, built.optimizer.options) == ("sgd", {"lr": 0.1, "momentum": 0.9})
    assert built.scheduler.options == {"factor": 0.5}
    assert built.loss.options["classification"].name == "mse"
    assert made.with_optimizer("adamw").build().optimizer.options["lr"] == 1e-3
    assert made.with_loss(reduction="sum").build().loss.options == {"reduction": "sum"}


def test_objects_as_parts() -> None:
    """Objects go in directly, by the method of their part or with with_parts, and back out of the built configuration."""
    net, samples = Net(), [(1, 2), (3, 4)]
    built = config().with_model(net).with_data(samples, validation_split=0.5, batch_size=2).build()

    assert built.model.live is net
    assert built.data.live is samples
    assert built.data.reserved["split"].validation == 0.5
    assert built.loader.batch_size == 2
    assert config().with_parts(model=net, callbacks={"bell": net}).build().callbacks["bell"].live is net
    assert config().with_model(net).to_dict()["model"] == {"type": net}
    assert config().with_model(net).with_model("net", hidden=[1]).build().model.name == "net"
    assert Config.from_dict(config().with_model(net).to_dict(), plugins=PLUGINS).build().model.live is net
    assert config().with_parts(scheduler=None, data=samples).build().data.live is samples


def test_whole_sections() -> None:
    """with_parts takes any section, as a run file has it."""
    built = config().with_parts(checkpoint={"every": {"minutes": 10}}, metrics={"a": {"type": "accuracy"}}).build()

    assert built.checkpoint.every == Every(minutes=10.0)
    assert list(built.metrics) == ["a"]


@pytest.mark.parametrize(
    "settings_, expected",
    [
        ({"use_amp": True}, "bf16"),
        ({"use_amp": False}, "fp32"),
        ({"mixed_precision": True}, "bf16"),
        ({"mixed_precision": "no"}, "fp32"),
        ({"mixed_precision": "fp16"}, "fp16"),
        ({"precision": "16-mixed"}, "fp16"),
        ({"precision": 32}, "fp32"),
        ({"precision": "bf16-mixed", "use_amp": True}, "bf16"),
        ({"precision": "fp16", "use_amp": True, "mixed_precision": True}, "fp16"),
        ({"precision": "tf32", "use_amp": False}, "tf32"),
        ({"precision": "fp8"}, "fp8"),
    ],
)
def test_precision_under_its_many_names(settings_: dict[str, Any], expected: str) -> None:
    """Three documents' names for one setting, reconciled."""
    assert config().with_hardware(**settings_).to_dict()["training"]["precision"] == expected


def test_switches_keep_what_they_agree_with() -> None:
    """Mixed precision that was chosen before stays as it was; otherwise the switch decides."""
    assert config().with_hardware(precision="fp16").with_hardware(use_amp=True).to_dict()["training"] == {
        "precision": "fp16"
    }
    assert config().with_hardware(precision="fp16").with_hardware(use_amp=False).to_dict()["training"] == {
        "precision": "fp32"
    }
    assert config().with_hardware(precision="tf32").with_hardware(use_amp=False).to_dict()["training"] == {
        "precision": "tf32"
    }


@pytest.mark.parametrize(
    "made, message",
    [
        (
            lambda: config().with_hardware(use_amp=False, precision="bf16"),
            "Python: training.precision: use_amp = False and precision = 'bf16' contradict one another",
        ),
        (
            lambda: config().with_hardware(use_amp=True, precision="fp32"),
            "Python: training.precision: use_amp = True and precision = 'fp32' contradict one another",
        ),
        (
            lambda: config().with_training(use_amp=True, mixed_precision=False),
            "Python: training.precision: use_amp = True and mixed_precision = False contradict one another",
        ),
        (
            lambda: config().with_training(mixed_precision="fp16", precision="bf16"),
            "Python: training.precision: mixed_precision = 'fp16' and precision = 'bf16' contradict one another",
        ),
        (
            lambda: config().with_training(epochs=3, max_epochs=4),
            "Python: training.max_epochs: max_epochs = 4 contradicts epochs = 3",
        ),
        (lambda: config().with_training(epochz=3), "Python: epochz: unknown setting; did you mean 'epochs'?"),
        (lambda: config().with_training(btch_size=3), "Python: btch_size: unknown setting; did you mean 'batch_size'?"),
        (
            lambda: config().with_hardware(epochs=3),
            "Python: epochs: unknown setting; it is 'training.max_epochs', which another with_… method takes",
        ),
        (
            lambda: config().with_hardware(zzz=3),
            "Python: zzz: unknown setting; there is compile, device, devices, strategy, threads",
        ),
        (
            lambda: config().with_hardware(compile_mode="max-autotune"),
            "Python: hardware.compile: compile_mode = 'max-autotune': only torch.compile's default mode is supported",
        ),
        (
            lambda: config().with_logging(wandb_project="p"),
            'Python: wandb_project: unknown setting; it comes with dovetail-trackers, as [trackers.wandb] with type = "trackers.wandb"',
        ),
        (
            lambda: config().with_model(sagemaker_instance_type="x"),
            "Python: sagemaker_instance_type: unknown setting; a run is local; training on rented machines comes with dovetail-cloud",
        ),
        (lambda: config().with_parts(modle=1), "Python: modle: unknown section; did you mean 'model'?"),
        (lambda: Config.preset("basline"), "Python: unknown preset 'basline'; did you mean 'baseline'?"),
        (
            lambda: Config.preset("x"),
            "Python: unknown preset 'x'; there is quick_prototype, baseline, production, distributed, low_memory",
        ),
        (
            lambda: config().with_parts(run={"seed": "@unset"}),
            "Python: run.seed: nothing is set here that @unset could remove",
        ),
    ],
)
def test_what_is_refused_at_once(made: Any, message: str) -> None:
    """A keyword that nobody knows, and two that contradict each other, are refused where they are written."""
    assert refusal(made) == message


def test_all_wrong_keywords_at_once() -> None:
    """Keywords are answered together too."""
    said = refusal(lambda: config().with_training(epochz=3, warmup_ratoi=0.1, epochs=1, num_epochs=2))

    assert len(said.splitlines()) == 3


def test_implied_parts() -> None:
    """A warm-up alone is a scheduler's, patience alone early stopping's; what was chosen before stays."""
    assert config().with_training(early_stopping_patience=5, early_stopping_min_delta=0.1).to_dict()["callbacks"] == {
        "early_stopping": {"type": "early_stopping", "patience": 5, "min_delta": 0.1}
    }
    assert config().with_scheduler("plateau").with_training(warmup_ratio=1).to_dict()["scheduler"] == {
        "type": "plateau",
        "warmup": 1.0,
    }
    assert config().with_data(stratify_by_age=True, age_group_size=10).to_dict()["data"] == {
        "type": "digits",
        "split": {"stratify": "age", "bin_size": 10},
    }
    assert config().with_data(stratify_by_age=False).to_dict()["data"]["split"] == {"stratify": False}
    assert config().with_data(dataset_folder="a", metadata_file="b.csv").to_dict()["data"]["metadata"] == "b.csv"
    assert config().with_hardware(compile_mode=None).to_dict()["hardware"] == {"compile": False}


def test_overrides_still_win(tmp_path: Path) -> None:
    """A later layer wins over an earlier one, wherever each came from."""
    made = Config.load(config().save(tmp_path / "a.toml"), overrides=["training.max_epochs=7"], plugins=PLUGINS)

    assert made.build().training.max_epochs == 7
    assert made.with_training(epochs=8).build().training.max_epochs == 8


@pytest.mark.parametrize("name", sorted(ALIASES))
def test_every_alias_leads_somewhere(name: str) -> None:
    """Each of the other names is a setting that exists, or an option of a part."""
    section, _, rest = ALIASES[name].partition(".")
    known = {one.name: one.type for one in sections()}

    assert section in known
    if attrs.has(known[section]):
        assert rest in attrs.fields_dict(known[section])


@pytest.mark.parametrize("name", sorted({**ALIASES, **ELSEWHERE}))
def test_every_alias_is_answered_in_a_file(name: str) -> None:
    """A run file that uses another name is told ours, whatever section it stands in."""
    said = unknown_key(("logging",), name, ["every", "console"], "this table")

    assert said.startswith("unknown key; ")
    assert "did you mean" in said or "comes with" in said


# --- what goes out ----------------------------------------------------------------------------------------------


def test_default_files(tmp_path: Path) -> None:
    """The commented files say exactly the defaults, and every setting stands in them."""
    paths = Config.create_default_configs(tmp_path / "new" / "folder")
    plugins = Plugins.discover(blocked=True)
    written = Config.load(paths[0], plugins=plugins).build()
    bare = Config.from_dict(
        {
            "data": {"type": "digits"},
            "model": {"type": "mlp", "hidden_dims": [128, 64]},
            "loss": {"type": "cross_entropy"},
        },
        plugins=plugins,
    ).build()

    assert [path.name for path in paths] == ["default.toml", "profiles.toml"]
    assert written == bare
    assert config_hash(written) == config_hash(bare)
    for section in sections():
        assert f"--- {section.name}: {section.metadata['help']}" in default_file()


def test_default_files_work_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run file that extends the profiles may choose any of them."""
    monkeypatch.chdir(tmp_path)
    write_defaults(tmp_path)
    Path("run.toml").write_text('extends = ["default.toml", "profiles.toml"]\n')
    plugins = Plugins.discover(blocked=True)

    assert Config.load("run.toml", "low_memory", plugins=plugins).build().training.accumulate == 8
    assert Config.load("run.toml", "ci_fast", plugins=plugins).build().budget.wall_clock == "5m"


def test_limits_in_default_files() -> None:
    """Each sort of limit has its words."""
    assert [_limit(one) for one in (Between(0, 1), AtLeast(1), MoreThan(0.5))] == [
        "0 to 1",
        "at least 1",
        "more than 0.5",
    ]


def test_default_files_replace_nothing(tmp_path: Path) -> None:
    """A folder with one of the files in it is left alone."""
    (tmp_path / "default.toml").write_text("mine")

    assert (
        refusal(lambda: write_defaults(tmp_path)) == f"{tmp_path}/default.toml: already exists; choose another folder"
    )
    assert [one.name for one in tmp_path.iterdir()] == ["default.toml"]


def test_omegaconf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is there, defaults included; secrets are read when asked for, and dollars mean dollars."""
    odd = ["${run.name}", r"\${x}", r"a\\${b}", "$x", "x${", "100 %"]
    made = (
        config()
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

    assert config().with_logging(notes=text).to_omegaconf().run.notes == text


def test_without_omegaconf() -> None:
    """The extra that is missing is named."""
    code = (
        "import sys; sys.modules['omegaconf'] = None\n"
        "from dovetail.config.formats import to_omegaconf\n"
        "try:\n    to_omegaconf(None)\nexcept ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "OmegaConf is not installed; pip install 'dovetail[omegaconf]'\n"


def test_to_dict_of_a_built_configuration_is_complete() -> None:
    """A built configuration as a dict has every default, is JSON, and builds the same again."""
    built = config().with_logging(tags=["a"]).build()
    values = built.to_dict()

    assert values["training"]["max_epochs"] == 10
    assert values["model"]["type"] == "net"
    assert Config.from_dict(json.loads(json.dumps(values)), plugins=PLUGINS).build() == built
