"""The comparison of a teacher and a student."""

from __future__ import annotations

import json
import time

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dovetail.models.mlp import MLP
from dovetail.pieces import compare_teacher_student
from small_runs import blobs


class Fixed(nn.Module):
    """A model that predicts class 0, slowly, and records whether it was in training mode."""

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
    """The result has accuracies, sizes and times, for batches or pairs; both models keep their mode."""
    samples = blobs(30)
    model = MLP((4,), num_classes=3, hidden_dims=[16])
    student = Fixed(7)
    teacher = Fixed(21, seconds=0.01)
    places = [torch.arange(0, 20), torch.arange(20, 30)]
    batches = [(samples.inputs[rows], samples.target_values[rows]) for rows in places]
    loader = batches if pairs else [{"inputs": inputs, "targets": targets} for inputs, targets in batches]

    actual = compare_teacher_student(teacher, student.eval(), loader)
    other = compare_teacher_student(model, student, loader)

    zeros = (samples.target_values == 0).float().mean()
    assert actual["teacher_accuracy"] == actual["student_accuracy"] == pytest.approx(float(zeros))
    assert actual["accuracy_drop"] == 0
    assert (actual["teacher_parameters"], actual["student_parameters"], actual["compression_ratio"]) == (21, 7, 3.0)
    assert actual["teacher_latency_ms"] >= 10  # its forward pass sleeps for 10 ms
    assert actual["speedup"] == pytest.approx(actual["teacher_latency_ms"] / actual["student_latency_ms"])
    assert teacher.modes == student.modes == {(False, False)}
    assert (teacher.training, student.training) == (True, False)
    right = (model(samples.inputs).argmax(1) == samples.target_values).float().mean()
    assert other["teacher_accuracy"] == pytest.approx(float(right))
    assert json.loads(json.dumps(actual)) == actual


def test_an_empty_loader_raises():
    """An empty loader has no accuracy."""
    with pytest.raises(ValueError, match="test_loader: it yielded no batches"):
        compare_teacher_student(Fixed(1), Fixed(1), [])


def test_outputs_must_have_the_same_shape():
    """The error has both shapes."""
    samples = blobs(10)
    models = [MLP((4,), num_classes=classes, hidden_dims=[8]) for classes in (3, 5)]

    with pytest.raises(ValueError, match=r"the teacher's outputs have shape \[10, 3\], the student's \[10, 5\]"):
        compare_teacher_student(*models, [(samples.inputs, samples.target_values)])


def test_a_student_without_parameters_has_an_infinite_ratio():
    """The compression ratio divides by the student's number of parameters."""
    student = Fixed(0)

    actual = compare_teacher_student(Fixed(5), student, [(torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64))])

    assert actual["compression_ratio"] == float("inf")
