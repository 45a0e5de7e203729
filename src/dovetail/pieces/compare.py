"""Compare a student with its teacher: accuracy, size and speed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from dovetail.data.batch import Batch, as_batch
from dovetail.data.transfer import to_device
from dovetail.metrics.accuracy import Accuracy
from dovetail.train.evaluate import evaluating
from dovetail.train.forward import Forward
from dovetail.train.hardware import resolve_device

if TYPE_CHECKING:
    from dovetail.models.output import ModelOutput


def compare_teacher_student(
    teacher: nn.Module,
    student: nn.Module,
    test_loader: Iterable[Batch | Sequence[Any]],
    device: torch.device | str = "cpu",
) -> dict[str, float]:
    """Return the accuracy, size and speed of both models on the same batches.

    Both models are moved to ``device`` and evaluated without gradients. Their layers keep their modes.

    Args:
        teacher: the larger model.
        student: the smaller model.
        test_loader: batches as in a run, or pairs of inputs and integer targets.
        device: the device to evaluate on.

    Returns:
        ``teacher_accuracy``, ``student_accuracy`` (0 to 1) and ``accuracy_drop``, the first minus the second;
        ``teacher_parameters``, ``student_parameters`` and ``compression_ratio``, the first over the second;
        ``teacher_latency_ms``, ``student_latency_ms``, the median time of a batch, and ``speedup``, the first over the
        second. The two models alternate, batch by batch.

    Raises:
        ValueError: there are no batches, shapes do not fit, or the models have different numbers of classes.
        DeviceError: the device does not exist.
    """
    target = resolve_device(str(device))
    models = {"teacher": teacher.to(target), "student": student.to(target)}
    calls = {name: Forward(model) for name, model in models.items()}
    accuracies = {name: Accuracy() for name in models}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    with torch.no_grad(), evaluating(*models.values()):
        for index, raw in enumerate(test_loader):
            batch = to_device(as_batch(raw), target)
            if index == 0:  # a model's first call allocates memory and chooses kernels
                for call in calls.values():
                    call(batch)
            outputs: dict[str, ModelOutput] = {}
            for name, call in calls.items():
                outputs[name], duration = _timed(call, batch, target)
                seconds[name].append(duration)
            _check_shapes(outputs)
            for name, output in outputs.items():
                accuracies[name].update(output, batch)
    if not seconds["teacher"]:
        raise ValueError("test_loader: it yielded no batches")
    return _figures(models, accuracies, seconds)


def _check_shapes(outputs: Mapping[str, ModelOutput]) -> None:
    teacher, student = outputs["teacher"].logits.shape, outputs["student"].logits.shape
    if teacher != student:
        raise ValueError(
            f"the teacher's outputs have shape {list(teacher)}, the student's {list(student)}; "
            "both models must return [batch, classes, …] for the same classes"
        )


def _figures(
    models: dict[str, nn.Module], accuracies: dict[str, Accuracy], seconds: dict[str, list[float]]
) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name, model in models.items():
        figures[f"{name}_accuracy"] = accuracies[name].compute()["accuracy"]
        figures[f"{name}_parameters"] = sum(parameter.numel() for parameter in model.parameters())
        figures[f"{name}_latency_ms"] = 1e3 * statistics.median(seconds[name])
    student = figures["student_parameters"]
    return {
        **figures,
        "accuracy_drop": figures["teacher_accuracy"] - figures["student_accuracy"],
        "compression_ratio": figures["teacher_parameters"] / student if student else float("inf"),
        "speedup": figures["teacher_latency_ms"] / figures["student_latency_ms"],
    }


def _timed(call: Forward, batch: Batch, device: torch.device) -> tuple[ModelOutput, float]:
    _synchronize(device)
    started = time.perf_counter()
    output = call(batch)
    _synchronize(device)
    return output, time.perf_counter() - started


def _synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
