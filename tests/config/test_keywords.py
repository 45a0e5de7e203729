"""Tests of dovetail.config.keywords."""

# ruff: noqa: E501 (messages are written out whole)

from __future__ import annotations

from typing import Any

import pytest

from config_parts import Net, refusal, whole_config
from dovetail.config.api import Config
from dovetail.config.keywords import with_objects
from dovetail.config.tree import Live


def test_the_documented_methods() -> None:
    """Each of the documents' keywords sets its setting."""
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
    """Three names of the documents for one setting are reconciled."""
    assert whole_config().with_hardware(**settings_).to_dict()["training"]["precision"] == expected


def test_a_switch_keeps_a_precision_that_agrees() -> None:
    """A switch keeps the precision that was chosen before if it agrees, and else decides."""
    assert whole_config().with_hardware(precision="fp16").with_hardware(use_amp=True).to_dict()["training"] == {
        "precision": "fp16"
    }
    assert whole_config().with_hardware(precision="fp16").with_hardware(use_amp=False).to_dict()["training"] == {
        "precision": "fp32"
    }
    assert whole_config().with_hardware(precision="tf32").with_hardware(use_amp=False).to_dict()["training"] == {
        "precision": "tf32"
    }


@pytest.mark.parametrize(
    "made, message",
    [
        (
            lambda: whole_config().with_hardware(use_amp=False, precision="bf16"),
            "Python: training.precision: use_amp = False and precision = 'bf16' contradict one another",
        ),
        (
            lambda: whole_config().with_hardware(use_amp=True, precision="fp32"),
            "Python: training.precision: use_amp = True and precision = 'fp32' contradict one another",
        ),
        (
            lambda: whole_config().with_training(use_amp=True, mixed_precision=False),
            "Python: training.precision: use_amp = True and mixed_precision = False contradict one another",
        ),
        (
            lambda: whole_config().with_training(mixed_precision="fp16", precision="bf16"),
            "Python: training.precision: mixed_precision = 'fp16' and precision = 'bf16' contradict one another",
        ),
        (
            lambda: whole_config().with_training(epochs=3, max_epochs=4),
            "Python: training.max_epochs: max_epochs = 4 contradicts epochs = 3",
        ),
        (lambda: whole_config().with_training(epochz=3), "Python: epochz: unknown setting; did you mean 'epochs'?"),
        (
            lambda: whole_config().with_training(btch_size=3),
            "Python: btch_size: unknown setting; did you mean 'batch_size'?",
        ),
        (
            lambda: whole_config().with_hardware(epochs=3),
            "Python: epochs: unknown setting; it is 'training.max_epochs', which another with_… method takes",
        ),
        (
            lambda: whole_config().with_hardware(zzz=3),
            "Python: zzz: unknown setting; there is compile, device, devices, strategy, threads",
        ),
        (
            lambda: whole_config().with_hardware(compile_mode="max-autotune"),
            "Python: hardware.compile: compile_mode = 'max-autotune': only torch.compile's default mode is supported",
        ),
        (
            lambda: whole_config().with_logging(wandb_project="p"),
            'Python: wandb_project: unknown setting; it comes with dovetail-trackers, as [trackers.wandb] with type = "trackers.wandb"',
        ),
        (
            lambda: whole_config().with_model(sagemaker_instance_type="x"),
            "Python: sagemaker_instance_type: unknown setting; a run is local; training on rented machines comes with dovetail-cloud",
        ),
        (lambda: whole_config().with_parts(modle=1), "Python: modle: unknown section; did you mean 'model'?"),
        (lambda: Config.preset("basline"), "Python: unknown preset 'basline'; did you mean 'baseline'?"),
        (
            lambda: Config.preset("x"),
            "Python: unknown preset 'x'; there is quick_prototype, baseline, production, distributed, low_memory",
        ),
        (
            lambda: whole_config().with_parts(run={"seed": "@unset"}),
            "Python: run.seed: nothing is set here that @unset could remove",
        ),
    ],
)
def test_unknown_and_contradicting_keywords(made: Any, message: str) -> None:
    """Unknown keywords and keywords that contradict each other are refused by the method itself."""
    assert refusal(made) == message


def test_all_wrong_keywords_together() -> None:
    """All wrong keywords are reported together."""
    said = refusal(lambda: whole_config().with_training(epochz=3, warmup_ratoi=0.1, epochs=1, num_epochs=2))

    assert len(said.splitlines()) == 3


def test_implied_parts() -> None:
    """A warm-up alone chooses a scheduler, patience alone early stopping; a part chosen before stays."""
    assert whole_config().with_training(early_stopping_patience=5, early_stopping_min_delta=0.1).to_dict()[
        "callbacks"
    ] == {"early_stopping": {"type": "early_stopping", "patience": 5, "min_delta": 0.1}}
    assert whole_config().with_scheduler("plateau").with_training(warmup_ratio=1).to_dict()["scheduler"] == {
        "type": "plateau",
        "warmup": 1.0,
    }
    assert whole_config().with_data(stratify_by_age=True, age_group_size=10).to_dict()["data"] == {
        "type": "digits",
        "split": {"stratify": "age", "bin_size": 10},
    }
    assert whole_config().with_data(stratify_by_age=False).to_dict()["data"]["split"] == {"stratify": False}
    assert whole_config().with_data(dataset_folder="a", metadata_file="b.csv").to_dict()["data"]["metadata"] == "b.csv"
    assert whole_config().with_hardware(compile_mode=None).to_dict()["hardware"] == {"compile": False}


def test_objects_become_tables() -> None:
    """An object in place of a part, in any section, becomes the type of a table; other values stay as they are."""
    net = Net()
    tables = with_objects(
        {
            "model": net,
            "data": [1, 2],
            "loss": {"type": "mse"},
            "callbacks": {"bell": net},
            "phases": [{"optimizer": net, "freeze": ["x"]}, 3],
            "run": {"name": net},
        }
    )

    assert tables["model"]["type"].value is net
    assert tables["data"]["type"].value == [1, 2]
    assert tables["loss"] == {"type": "mse"}
    assert tables["callbacks"]["bell"]["type"].value is net
    assert isinstance(tables["phases"][0]["optimizer"]["type"], Live)
    assert tables["phases"][0]["freeze"] == ["x"]
    assert tables["phases"][1] == 3
    assert tables["run"] == {"name": net}
