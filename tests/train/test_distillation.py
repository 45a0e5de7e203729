"""The distillation trainer against a loss that runs the teacher itself."""

from __future__ import annotations

import copy

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dovetail.checkpoint.format import read_checkpoint, read_model
from dovetail.checkpoint.manifest import CheckpointError
from dovetail.checkpoint.weights import load_weights
from dovetail.config.diagnostics import ConfigError
from dovetail.losses.distillation import DistillationLoss
from dovetail.main import run
from dovetail.models.mlp import MLP
from dovetail.models.output import ModelOutput
from dovetail.train.distillation import DistillationTrainer
from small_runs import only_run, small

TEACHER = {"type": "mlp", "hidden_dims": [64]}


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """Return the checkpoint of a teacher that another run trained."""
    folder = tmp_path_factory.mktemp("teacher")
    run(small(folder, model=TEACHER, training={"max_epochs": 4})).check()
    return max((only_run(folder) / "checkpoints").glob("step-*"))


def distilled(folder, weights, **options):
    """Return the config of a student's run."""
    sections = {
        "loss": {"type": "distillation"},
        "trainer": {"type": "distillation", "teacher_model": TEACHER, "teacher_weights": str(weights)},
        "model": {"type": "mlp", "hidden_dims": [4]},
    }
    return small(folder, **{**sections, **options})


class OwnTeacher(nn.Module):
    """The distillation loss with a teacher of its own."""

    def __init__(self, teacher):
        super().__init__()
        self.inner = DistillationLoss()
        self.teacher = [teacher]  # in a list, so that it is not a submodule

    def forward(self, outputs, batch):
        """Return the distillation loss; in evaluation mode, the loss against the labels."""
        if not self.training:
            return self.inner(outputs, batch)
        with torch.no_grad():
            logits = self.teacher[0](batch["inputs"])
        return self.inner(ModelOutput(outputs.logits, extras={"teacher_logits": logits}), batch)


def test_the_trainer_equals_a_loss_with_its_own_teacher(tmp_path, taught):
    """The trainer only adds the teacher's outputs: all figures are bit-identical."""
    teacher = MLP((4,), num_classes=3, hidden_dims=[64])
    teacher.load_state_dict(read_model(taught))

    longer = {"model": {"type": "mlp", "hidden_dims": [4]}, "training": {"max_epochs": 20}}

    ours = run(distilled(tmp_path / "ours", taught, **longer)).check()
    by_hand = run(small(tmp_path / "hand", loss=OwnTeacher(teacher.eval()), **longer)).check()

    assert {name: ours.metrics[name] for name in ("train_loss", "train_soft", "train_hard", "val_loss")} == {
        name: by_hand.metrics[name] for name in ("train_loss", "train_soft", "train_hard", "val_loss")
    }
    assert ours.test_metrics["test_accuracy"] > 0.8


def test_the_teacher_is_frozen_and_not_saved(tmp_path, taught):
    """A run leaves its weights unchanged; a checkpoint has those of the student."""
    teacher = MLP((4,), num_classes=3, hidden_dims=[64])
    load_weights(teacher, taught)
    before = copy.deepcopy(teacher.state_dict())

    run(distilled(tmp_path, taught, trainer=DistillationTrainer(teacher))).check()

    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    saved = read_checkpoint(max((only_run(tmp_path) / "checkpoints").glob("step-*")))
    assert "trainer" not in saved
    assert {name: tuple(value.shape) for name, value in saved["model"].items()} == {
        name: tuple(value.shape) for name, value in MLP((4,), num_classes=3, hidden_dims=[4]).state_dict().items()
    }


def test_a_loss_that_ignores_the_teacher_is_a_warning(tmp_path, taught):
    """The run trains as without a teacher, and its log says so."""
    run(distilled(tmp_path, taught, loss={"type": "cross_entropy"})).check()

    log = (only_run(tmp_path) / "log.txt").read_text()
    assert log.count("the teacher has no effect; set loss.type") == 1
    assert "loss 'cross_entropy' is not the distillation loss" in log


def test_an_untrained_teacher_is_an_alert(tmp_path, taught):
    """A registered model without weights was just built; an object from Python may be trained."""
    table = {"type": "distillation", "teacher_model": {"type": "mlp", "hidden_dims": [4]}}
    trained = DistillationTrainer(MLP(input_shape=(4,), num_classes=3))
    for name, trainer in (("new", table), ("trained", trained)):
        run(small(tmp_path / name, trainer=trainer, loss={"type": "distillation"})).check()
    text = (only_run(tmp_path / "new") / "alerts.jsonl").read_text()

    assert "trainer.teacher_weights is not set: unless 'mlp' loads weights itself, the teacher is" in text
    assert not (only_run(tmp_path / "trained") / "alerts.jsonl").exists()


def test_weights_may_come_from_a_safetensors_file(tmp_path, taught):
    """Any program can write it."""
    save_file(dict(read_model(taught)), tmp_path / "teacher.safetensors")

    outcome = run(distilled(tmp_path / "out", tmp_path / "teacher.safetensors", training={"max_epochs": 1})).check()

    assert outcome.status == "completed"


def test_weights_of_another_architecture_are_refused(tmp_path, taught):
    """The message has the place of the setting, the file, and what does not fit."""
    trainer = {
        "type": "distillation",
        "teacher_model": {"type": "mlp", "hidden_dims": [7]},
        "teacher_weights": str(taught),
    }

    with pytest.raises(ConfigError, match=r"trainer: .*these weights do not fit this MLP: .*size mismatch"):
        run(distilled(tmp_path, taught, trainer=trainer))


def test_a_file_without_weights_is_refused(tmp_path):
    """It is missing, of another format, or damaged."""
    model = nn.Linear(1, 1)
    (tmp_path / "weights.pt").write_bytes(b"")
    (tmp_path / "bad.safetensors").write_bytes(b"no header")

    for name, message in (
        ("none.safetensors", "there is no such file"),
        ("none.pt", "there is no such file"),
        ("weights.pt", "torch.save wrote this file as pickle, which may run code"),
        ("bad.safetensors", "this file cannot be read"),
        (".", "there is no manifest"),
    ):
        with pytest.raises(CheckpointError, match=message):
            load_weights(model, tmp_path / name)


def test_a_teacher_is_a_module():
    """Anything else is refused with the name of its type."""
    with pytest.raises(TypeError, match=r"teacher_model: a model is a torch.nn.Module, got function"):
        DistillationTrainer(lambda inputs: inputs)
