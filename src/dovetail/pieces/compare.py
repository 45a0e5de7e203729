"""What a student is beside its teacher: how often right, how large, how fast."""

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
    """Try both models on the same batches.

    Args:
        teacher: moved to ``device``, and tried in evaluation mode, without gradients.
        student: likewise.
        test_loader: batches as a run has them, or pairs of inputs and integer targets.
        device: where to try them.

    Returns:
        ``teacher_accuracy``, ``student_accuracy`` (0 to 1) and ``accuracy_drop``, the first minus the second;
        ``teacher_parameters``, ``student_parameters`` and ``compression_ratio``, the first over the second;
        ``teacher_latency_ms``, ``student_latency_ms``, the median time of a batch, and ``speedup``, the first over the
        second. Both are timed in turn, batch by batch.

    Raises:
        ValueError: there is no batch, shapes do not fit, the two have other numbers of classes, or there is no such
            device.
    """
    where = resolve_device(str(device))
    models = {"teacher": teacher.to(where), "student": student.to(where)}
    forward = {name: Forward(model) for name, model in models.items()}
    right = {name: Accuracy() for name in models}
    times: dict[str, list[float]] = {name: [] for name in models}
    with torch.no_grad(), evaluating(*models.values()):
        for number, raw in enumerate(test_loader):
            batch = to_device(as_batch(raw), where)
            if number == 0:  # the first call of a model allocates and chooses kernels
                for call in forward.values():
                    call(batch)
            said: dict[str, ModelOutput] = {}
            for name, call in forward.items():
                said[name], seconds = _timed(call, batch, where)
                times[name].append(seconds)
            _check(said)
            for name, outputs in said.items():
                right[name].update(outputs, batch)
    if not times["teacher"]:
        msg = "test_loader: there is no batch to compare them on"
        raise ValueError(msg)
    return _figures(models, right, times)


def _check(said: Mapping[str, ModelOutput]) -> None:
    teacher, student = said["teacher"].logits.shape, said["student"].logits.shape
    if teacher != student:
        msg = (
            f"teacher and student do not answer alike: the teacher's outputs have shape {list(teacher)}, the "
            f"student's {list(student)}; give both [batch, classes, …] of the same classes"
        )
        raise ValueError(msg)


def _figures(
    models: dict[str, nn.Module], right: dict[str, Accuracy], times: dict[str, list[float]]
) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name, model in models.items():
        figures[f"{name}_accuracy"] = right[name].compute()["accuracy"]
        figures[f"{name}_parameters"] = sum(one.numel() for one in model.parameters())
        figures[f"{name}_latency_ms"] = 1e3 * statistics.median(times[name])
    small = figures["student_parameters"]
    return {
        **figures,
        "accuracy_drop": figures["teacher_accuracy"] - figures["student_accuracy"],
        "compression_ratio": figures["teacher_parameters"] / small if small else float("inf"),
        "speedup": figures["teacher_latency_ms"] / figures["student_latency_ms"],
    }


def _timed(call: Forward, batch: Batch, device: torch.device) -> tuple[ModelOutput, float]:
    _wait(device)
    began = time.perf_counter()
    outputs = call(batch)
    _wait(device)
    return outputs, time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
