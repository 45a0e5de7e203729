"""Distillation: the loss against its formula, the trainer against a loss that asks the teacher itself; comparing."""

from __future__ import annotations

import copy
import json
import time

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from dovetail.checkpoint.format import read_checkpoint, read_model
from dovetail.checkpoint.manifest import CheckpointError
from dovetail.checkpoint.weights import load_weights
from dovetail.config.diagnostics import ConfigError
from dovetail.losses.distillation import DistillationLoss
from dovetail.losses.focal import FocalLoss
from dovetail.losses.result import LossResult
from dovetail.main import run
from dovetail.models.mlp import MLP
from dovetail.models.output import ModelOutput
from dovetail.pieces.compare import compare_teacher_student
from dovetail.train.distillation import DistillationTrainer
from small_runs import blobs, only_run, small

HARD = {
    "cross_entropy": nn.CrossEntropyLoss(),
    "label_smoothing": nn.CrossEntropyLoss(label_smoothing=0.1),
    "focal": FocalLoss(),
}


def outputs(shape, seed=0):
    """Return a student's outputs, beside them a teacher's, and labels of which the last does not count."""
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    teacher = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.randint(0, shape[1], (shape[0], *shape[2:]), generator=generator)
    labels.view(-1)[-1] = -100
    return ModelOutput(student, extras={"teacher_logits": teacher}), labels


# --- the loss -------------------------------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 100),
    temperature=st.sampled_from([0.5, 1.0, 4.0]),
    alpha=st.sampled_from([0.0, 0.3, 0.7, 1.0]),
    hard=st.sampled_from([*HARD]),
    space=st.sampled_from([(), (3,)]),
)
def test_the_loss_is_its_formula(seed, temperature, alpha, hard, space):
    """α · T² · KL(teacher ‖ student) + (1 - α) · hard, a mean over the labels that count, for each hard loss."""
    made, labels = outputs((4, 5, *space), seed)
    kept = labels != -100
    p = (made.extras["teacher_logits"].detach() / temperature).softmax(1)
    q = (made.logits.detach() / temperature).softmax(1)
    soft = temperature**2 * (p * (p.log() - q.log())).sum(1)[kept].mean()
    other = HARD[hard](made.logits, labels)

    result = DistillationLoss(temperature, alpha, hard)(made, {"targets": labels})

    torch.testing.assert_close(result.total, alpha * soft + (1 - alpha) * other)
    torch.testing.assert_close(result.parts, {"soft": soft, "hard": other})
    assert float(result.weight) == int(kept.sum())


def test_the_teacher_gets_no_gradient():
    """Only the student is taught."""
    made, labels = outputs((4, 5))

    DistillationLoss()(made, {"targets": labels}).total.backward()

    assert made.extras["teacher_logits"].grad is None
    assert bool(made.logits.grad.any())


def test_the_temperature_leaves_the_gradient_as_large():
    """For large T the soft part's gradient is that of the centred logits' squared difference, halved, as published."""
    made, labels = outputs((4, 5))
    labels[-1] = 0
    student, teacher = made.logits, made.extras["teacher_logits"].detach()

    (found,) = torch.autograd.grad(DistillationLoss(1e4, 1.0)(made, {"targets": labels}).total, student)

    gap = student.detach() - teacher
    torch.testing.assert_close(found, (gap - gap.mean(1, keepdim=True)) / 5 / 4, rtol=1e-3, atol=1e-6)


def test_masks_count_for_both_parts():
    """What the mask hides is taught by neither."""
    made, labels = outputs((4, 5))
    mask = torch.tensor([True, False, True, False])
    seen = ModelOutput(made.logits[mask], extras={"teacher_logits": made.extras["teacher_logits"][mask]})

    masked = DistillationLoss()(made, {"targets": labels, "mask": mask})

    torch.testing.assert_close(masked.total, DistillationLoss()(seen, {"targets": labels[mask]}).total)
    assert float(masked.weight) == 2


@pytest.mark.parametrize("hard", [*HARD])
@pytest.mark.parametrize("mask", [None, [True, True, False, True]])
def test_labels_may_be_shares_of_classes(hard, mask):
    """As mixing makes them: whole shares are the labels themselves, halves are the mean of both."""
    made, _ = outputs((4, 5))
    loss = DistillationLoss(hard_loss_type=hard)
    one, other = torch.tensor([0, 1, 2, 3]), torch.tensor([4, 1, 0, 2])
    flags = {} if mask is None else {"mask": torch.tensor(mask)}

    def of(targets):
        return loss(made, {"targets": targets, **flags})

    shares = [F.one_hot(labels, 5).double() for labels in (one, other)]
    torch.testing.assert_close(of(shares[0]).total, of(one).total)
    assert of(shares[0]).weight == of(one).weight
    if hard != "focal":  # which is no sum over classes of the labels' shares alone
        mean = (of(one).total + of(other).total) / 2
        torch.testing.assert_close(of((shares[0] + shares[1]) / 2).total, mean)


def test_without_a_teacher_it_is_the_hard_part_in_evaluation_only():
    """While training that would be a mistake, and is said to be one."""
    made, labels = outputs((4, 5))
    loss = DistillationLoss()

    with pytest.raises(ValueError, match=r"the batch has no teacher's logits; set trainer\.type"):
        loss(ModelOutput(made.logits), {"targets": labels})
    result = loss.eval()(ModelOutput(made.logits), {"targets": labels})
    torch.testing.assert_close(result.total, F.cross_entropy(made.logits, labels))
    assert result.parts == {}


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: DistillationLoss(0.0), "temperature: must be above 0, got 0"),
        (lambda: DistillationLoss(alpha=1.5), "alpha: must be between 0 and 1, got 1.5"),
        (lambda: DistillationLoss(hard_loss_type="mse"), "hard_loss_type: 'mse' is not one of cross_entropy, label_s"),
        (
            lambda: DistillationLoss()(
                ModelOutput(torch.zeros(2, 3), extras={"teacher_logits": torch.zeros(2, 4)}),
                {"targets": torch.zeros(2).long()},
            ),
            r"the student's outputs have shape \[2, 3\], the teacher's \[2, 4\]",
        ),
        (
            lambda: DistillationLoss()(outputs((2, 3))[0], {"targets": torch.zeros(2)}),
            r"targets \[2\] of torch.float32; it needs \[batch, classes, …\] and integer labels",
        ),
    ],
)
def test_what_does_not_fit_is_named(build, message):
    """Options, shapes and types."""
    with pytest.raises(ValueError, match=message):
        build()


# --- the trainer ----------------------------------------------------------------------------------------------------

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
    assert log.count("the teacher teaches nothing; set loss.type") == 1
    assert "loss 'cross_entropy' is not the distillation loss" in log


def test_a_teacher_without_weights_is_told_of(tmp_path, taught):
    """A teacher that has just been made knows nothing; an object from Python may have been trained."""
    table = {"type": "distillation", "teacher_model": {"type": "mlp", "hidden_dims": [4]}}
    trained = DistillationTrainer(MLP(input_shape=(4,), num_classes=3))
    for name, trainer in (("new", table), ("trained", trained)):
        run(small(tmp_path / name, trainer=trainer, loss={"type": "distillation"})).check()
    told = (only_run(tmp_path / "new") / "alerts.jsonl").read_text()

    assert "trainer.teacher_weights is not set: unless 'mlp' brings weights of its own, the teacher knows" in told
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


# --- the comparison -------------------------------------------------------------------------------------------------


class Fixed(nn.Module):
    """Says class 0, slowly, and notes whether it was being trained."""

    def __init__(self, parameters, seconds=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(parameters))
        self.seconds, self.modes = seconds, set()

    def forward(self, inputs):
        """Return scores of three classes."""
        time.sleep(self.seconds)
        self.modes.add((self.training, torch.is_grad_enabled()))
        return F.one_hot(torch.zeros(len(inputs), dtype=torch.int64), 3).float()


@pytest.mark.parametrize("pairs", [True, False])
def test_teacher_and_student_are_compared(pairs):
    """Accuracies, sizes and times, on batches of a run or pairs; both models are left in their mode."""
    samples = blobs(30)
    model = MLP((4,), num_classes=3, hidden_dims=[16])
    student = Fixed(7)
    teacher = Fixed(21, seconds=0.01)
    places = [torch.arange(0, 20), torch.arange(20, 30)]
    batches = [(samples.inputs[one], samples.target_values[one]) for one in places]
    loader = batches if pairs else [{"inputs": one, "targets": other} for one, other in batches]

    found = compare_teacher_student(teacher, student.eval(), loader)
    other = compare_teacher_student(model, student, loader)

    share = (samples.target_values == 0).float().mean()
    assert found["teacher_accuracy"] == found["student_accuracy"] == pytest.approx(float(share))
    assert found["accuracy_drop"] == 0
    assert (found["teacher_parameters"], found["student_parameters"], found["compression_ratio"]) == (21, 7, 3.0)
    assert found["teacher_latency_ms"] >= 10  # it slept for that long
    assert found["speedup"] == pytest.approx(found["teacher_latency_ms"] / found["student_latency_ms"])
    assert teacher.modes == student.modes == {(False, False)}
    assert (teacher.training, student.training) == (True, False)
    right = (model(samples.inputs).argmax(1) == samples.target_values).float().mean()
    assert other["teacher_accuracy"] == pytest.approx(float(right))
    assert json.loads(json.dumps(found)) == found


def test_there_must_be_something_to_compare_on():
    """An empty loader has no accuracy."""
    with pytest.raises(ValueError, match="test_loader: there is no batch to compare them on"):
        compare_teacher_student(Fixed(1), Fixed(1), [])


def test_a_student_of_other_classes_is_not_compared():
    """Its accuracy would be of another question; the message has both shapes."""
    samples = blobs(10)
    models = [MLP((4,), num_classes=classes, hidden_dims=[8]) for classes in (3, 5)]

    with pytest.raises(ValueError, match=r"the teacher's outputs have shape \[10, 3\], the student's \[10, 5\]"):
        compare_teacher_student(*models, [(samples.inputs, samples.target_values)])


def test_a_student_without_parameters_is_infinitely_small():
    """A rule compared with a network has no size to divide by."""
    student = Fixed(0)

    found = compare_teacher_student(Fixed(5), student, [(torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64))])

    assert found["compression_ratio"] == float("inf")


def test_the_kit_says_what_a_teacher_says():
    """A third party's loss that reads the teacher's logits can be tried by the kit."""
    from dovetail.testkit.cases import EXAMPLES

    case = EXAMPLES["classification"]
    result = DistillationLoss()(case.outputs, case.batch)

    assert isinstance(result, LossResult)
    assert case.outputs.extras["teacher_logits"].shape == case.logits.shape
