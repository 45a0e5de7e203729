"""The distillation loss against its formula."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dovetail.losses.distillation import DistillationLoss
from dovetail.losses.focal import FocalLoss
from dovetail.losses.result import LossResult
from dovetail.models.output import ModelOutput
from dovetail.testkit.cases import EXAMPLES

#: Each hard loss, averaged over labels.
HARD = {
    "cross_entropy": nn.CrossEntropyLoss(),
    "label_smoothing": nn.CrossEntropyLoss(label_smoothing=0.1),
    "focal": FocalLoss(),
}


def draw(shape, seed=0):
    """Return a student's outputs, with a teacher's logits, and labels; the last label does not count."""
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    teacher = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.randint(0, shape[1], (shape[0], *shape[2:]), generator=generator)
    labels.view(-1)[-1] = -100
    return ModelOutput(student, extras={"teacher_logits": teacher}), labels


@given(
    seed=st.integers(0, 100),
    temperature=st.sampled_from([0.5, 1.0, 4.0]),
    alpha=st.sampled_from([0.0, 0.3, 0.7, 1.0]),
    hard=st.sampled_from([*HARD]),
    space=st.sampled_from([(), (3,)]),
)
def test_it_is_its_formula(seed, temperature, alpha, hard, space):
    """α · T² · KL(teacher ‖ student) + (1 - α) · hard, a mean over the labels that count, for each hard loss."""
    outputs, labels = draw((4, 5, *space), seed)
    kept = labels != -100
    p = (outputs.extras["teacher_logits"].detach() / temperature).softmax(1)
    q = (outputs.logits.detach() / temperature).softmax(1)
    soft = temperature**2 * (p * (p.log() - q.log())).sum(1)[kept].mean()
    hard_loss = HARD[hard](outputs.logits, labels)

    result = DistillationLoss(temperature, alpha, hard)(outputs, {"targets": labels})

    torch.testing.assert_close(result.total, alpha * soft + (1 - alpha) * hard_loss)
    torch.testing.assert_close(result.parts, {"soft": soft, "hard": hard_loss})
    assert float(result.weight) == int(kept.sum())


def test_the_teacher_gets_no_gradient():
    """Only the student is trained."""
    outputs, labels = draw((4, 5))

    DistillationLoss()(outputs, {"targets": labels}).total.backward()

    assert outputs.extras["teacher_logits"].grad is None
    assert bool(outputs.logits.grad.any())


def test_the_gradient_does_not_vanish_for_a_high_temperature():
    """For large T the soft part's gradient is that of half the squared difference of centred logits, as published."""
    outputs, labels = draw((4, 5))
    labels[-1] = 0
    student, teacher = outputs.logits, outputs.extras["teacher_logits"].detach()

    (gradient,) = torch.autograd.grad(DistillationLoss(1e4, 1.0)(outputs, {"targets": labels}).total, student)

    gap = student.detach() - teacher
    torch.testing.assert_close(gradient, (gap - gap.mean(1, keepdim=True)) / 5 / 4, rtol=1e-3, atol=1e-6)


def test_a_mask_applies_to_both_parts():
    """Masked labels count neither in the soft nor in the hard part."""
    outputs, labels = draw((4, 5))
    mask = torch.tensor([True, False, True, False])
    seen = ModelOutput(outputs.logits[mask], extras={"teacher_logits": outputs.extras["teacher_logits"][mask]})

    masked = DistillationLoss()(outputs, {"targets": labels, "mask": mask})

    torch.testing.assert_close(masked.total, DistillationLoss()(seen, {"targets": labels[mask]}).total)
    assert float(masked.weight) == 2


@pytest.mark.parametrize("hard", [*HARD])
@pytest.mark.parametrize("mask", [None, [True, True, False, True]])
def test_labels_may_be_class_probabilities(hard, mask):
    """One-hot probabilities give the loss of their labels; halves, as mixup makes them, the mean of both."""
    outputs, _ = draw((4, 5))
    loss = DistillationLoss(hard_loss_type=hard)
    first, second = torch.tensor([0, 1, 2, 3]), torch.tensor([4, 1, 0, 2])
    flags = {} if mask is None else {"mask": torch.tensor(mask)}

    def of(targets):
        return loss(outputs, {"targets": targets, **flags})

    p, q = (F.one_hot(labels, 5).double() for labels in (first, second))
    torch.testing.assert_close(of(p).total, of(first).total)
    assert of(p).weight == of(first).weight
    if hard != "focal":  # not linear in the probabilities
        mean = (of(first).total + of(second).total) / 2
        torch.testing.assert_close(of((p + q) / 2).total, mean)


def test_without_a_teacher_it_is_the_hard_part_in_evaluation_only():
    """In training, a batch without a teacher's logits raises."""
    outputs, labels = draw((4, 5))
    loss = DistillationLoss()

    with pytest.raises(ValueError, match=r"the batch has no teacher's logits; set trainer\.type"):
        loss(ModelOutput(outputs.logits), {"targets": labels})
    result = loss.eval()(ModelOutput(outputs.logits), {"targets": labels})
    torch.testing.assert_close(result.total, F.cross_entropy(outputs.logits, labels))
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
            lambda: DistillationLoss()(draw((2, 3))[0], {"targets": torch.zeros(2)}),
            r"targets \[2\] of torch.float32; it needs \[batch, classes, …\] and integer labels",
        ),
    ],
)
def test_bad_options_and_batches_are_named(build, message):
    """The error for options, shapes and types that do not fit has their values."""
    with pytest.raises(ValueError, match=message):
        build()


def test_the_conformance_kit_provides_a_teacher():
    """The kit's example batch has teacher logits, so it can check other losses that read them."""
    case = EXAMPLES["classification"]
    result = DistillationLoss()(case.outputs, case.batch)

    assert isinstance(result, LossResult)
    assert case.outputs.extras["teacher_logits"].shape == case.logits.shape
