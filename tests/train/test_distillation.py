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
    """Return the checkpoint of a teacher that was trained in a run of its own."""
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


class AsksItself(nn.Module):
    """The distillation loss with a teacher of its own."""

    def __init__(self, teacher):
        super().__init__()
        self.inner = DistillationLoss()
        self.teacher = [teacher]  # in a list: no part of this module

    def forward(self, outputs, batch):
        """Ask, and compute; in evaluation the hard part."""
        if not self.training:
            return self.inner(outputs, batch)
        with torch.no_grad():
            said = self.teacher[0](batch["inputs"])
        return self.inner(ModelOutput(outputs.logits, extras={"teacher_logits": said}), batch)


def test_a_student_learns_what_a_loss_would_teach_that_asks_the_teacher_itself(tmp_path, taught):
    """The trainer adds the teacher's outputs and nothing else: the figures are the same to the last bit."""
    teacher = MLP((4,), num_classes=3, hidden_dims=[64])
    teacher.load_state_dict(read_model(taught))

    longer = {"model": {"type": "mlp", "hidden_dims": [4]}, "training": {"max_epochs": 20}}

    ours = run(distilled(tmp_path / "ours", taught, **longer)).check()
    by_hand = run(small(tmp_path / "hand", loss=AsksItself(teacher.eval()), **longer)).check()

    assert {name: ours.metrics[name] for name in ("train_loss", "train_soft", "train_hard", "val_loss")} == {
        name: by_hand.metrics[name] for name in ("train_loss", "train_soft", "train_hard", "val_loss")
    }
    assert ours.test_metrics["test_accuracy"] > 0.8


def test_the_teacher_does_not_change_and_is_not_saved(tmp_path, taught):
    """After a run its weights are what they were; a checkpoint has the student's alone."""
    teacher = MLP((4,), num_classes=3, hidden_dims=[64])
    load_weights(teacher, taught)
    before = copy.deepcopy(teacher.state_dict())

    run(distilled(tmp_path, taught, trainer=DistillationTrainer(teacher))).check()

    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    saved = read_checkpoint(max((only_run(tmp_path) / "checkpoints").glob("step-*")))
    assert "trainer" not in saved
    assert {name: tuple(one.shape) for name, one in saved["model"].items()} == {
        name: tuple(one.shape) for name, one in MLP((4,), num_classes=3, hidden_dims=[4]).state_dict().items()
    }


def test_a_teacher_nobody_listens_to_is_warned_of(tmp_path, taught):
    """With another loss the run trains as without a teacher, and its log says so."""
    run(distilled(tmp_path, taught, loss={"type": "cross_entropy"})).check()

    log = (only_run(tmp_path) / "log.txt").read_text()
    assert log.count("the teacher has no effect; set loss.type") == 1
    assert "loss 'cross_entropy' is not the distillation loss" in log


def test_a_teacher_without_weights_is_told_of(tmp_path, taught):
    """A teacher that was just built is untrained; an object from Python may be trained."""
    table = {"type": "distillation", "teacher_model": {"type": "mlp", "hidden_dims": [4]}}
    trained = DistillationTrainer(MLP(input_shape=(4,), num_classes=3))
    for name, trainer in (("new", table), ("trained", trained)):
        run(small(tmp_path / name, trainer=trainer, loss={"type": "distillation"})).check()
    told = (only_run(tmp_path / "new") / "alerts.jsonl").read_text()

    assert "trainer.teacher_weights is not set: unless 'mlp' loads weights itself, the teacher is" in told
    assert not (only_run(tmp_path / "trained") / "alerts.jsonl").exists()


def test_weights_come_from_safetensors_too(tmp_path, taught):
    """A file that any program can write."""
    save_file(dict(read_model(taught)), tmp_path / "teacher.safetensors")

    outcome = run(distilled(tmp_path / "out", tmp_path / "teacher.safetensors", training={"max_epochs": 1})).check()

    assert outcome.status == "completed"


def test_weights_that_do_not_fit_are_named_where_they_are_written(tmp_path, taught):
    """Of another architecture: the message says which file and what is wrong with it."""
    trainer = {
        "type": "distillation",
        "teacher_model": {"type": "mlp", "hidden_dims": [7]},
        "teacher_weights": str(taught),
    }

    with pytest.raises(ConfigError, match=r"trainer: .*these weights do not fit this MLP: .*size mismatch"):
        run(distilled(tmp_path, taught, trainer=trainer))


def test_files_that_are_no_weights_are_named(tmp_path):
    """Missing, of another form, or damaged."""
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
    """Anything else is refused by name."""
    with pytest.raises(TypeError, match=r"teacher_model: a model is a torch.nn.Module, got function"):
        DistillationTrainer(lambda inputs: inputs)
