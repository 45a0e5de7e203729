"""Checks that hold for several losses: errors for inputs and options, and precision."""

from __future__ import annotations

import re

import pytest
import torch

from dovetail.losses import (
    ClassificationLoss,
    DistillationLoss,
    FocalLoss,
    LabelSmoothingCrossEntropy,
    LanguageModelingLoss,
    LossAsStrategy,
    PEFTAwareLoss,
    QuantizationSafeLoss,
    VisionLoss,
    cross_entropy,
)
from dovetail.models import ModelOutput
from loss_samples import detected, labels, scores


@pytest.mark.parametrize(
    "loss, logits, targets, message",
    [
        (ClassificationLoss(), (3, 4, 5), torch.zeros(3).long(), r"of shape \[3, 4, 5\]; it needs scores \[batch, cl"),
        (ClassificationLoss(), (3, 4), torch.zeros(3), "labels are torch.float32; it needs one class label each"),
        (ClassificationLoss(), (3, 4), torch.zeros(3, 4).long(), r"labels must have shape \[3\], not \[3, 4\]"),
        (ClassificationLoss(class_weights=[1.0]), (3, 4), torch.zeros(3).long(), "has 1 numbers for 4 classes"),
        (VisionLoss(), (3, 4), torch.zeros(4).long(), r"labels must have shape \[3\], not \[4\]"),
        (VisionLoss("segmentation"), (3, 4), torch.zeros(3).long(), r"scores \[batch, classes, height, width\]"),
        (VisionLoss("segmentation"), (2, 4, 3, 3), torch.zeros(2, 3).long(), r"must have shape \[2, 3, 3\]"),
        (VisionLoss("detection"), (2, 4, 4), torch.zeros(2, 4, 5), r"needs \[batch, boxes, 4 \+ classes\]"),
        (VisionLoss("detection"), (2, 4, 7), torch.zeros(2, 4), r"labels must have shape \[2, 4, 5\], not \[2, 4\]"),
        (VisionLoss("detection"), (2, 4, 7), torch.zeros(2, 4, 5).long(), "labels torch.int64"),
        (PEFTAwareLoss(), (3, 4), torch.zeros(2).long(), r"labels must have shape \[3\]"),
        (QuantizationSafeLoss(), (3, 4, 5), torch.zeros(3).long(), r"needs \[batch, time, vocabulary\]"),
        (LanguageModelingLoss(), (3, 4, 5), torch.zeros(3, 4), "it needs tokens, which are integers"),
        (LossAsStrategy(FocalLoss()), (3, 4), torch.zeros(2).long(), r"labels must have shape \[3\], not \[2\]"),
    ],
)
def test_inputs_that_do_not_fit_raise(loss, logits, targets, message):
    """Validation raises without computing the loss, and the message has both shapes."""
    with pytest.raises(ValueError, match=message):
        loss.validate_inputs(torch.zeros(logits), targets)
    with pytest.raises(ValueError, match=message):
        loss.compute_loss(torch.zeros(logits), targets)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "build",
    [
        lambda: LossAsStrategy(cross_entropy()),
        lambda: LossAsStrategy(FocalLoss()),
        lambda: LossAsStrategy(LabelSmoothingCrossEntropy()),
        DistillationLoss,
        lambda: VisionLoss("detection"),
    ],
)
def test_losses_are_computed_in_float32(build, dtype):
    """Outputs in half precision give a loss in float32, also on the CPU, where autocast leaves softmax in half."""
    loss, logits, teacher = build(), scores(64, 10).mul(3).to(dtype), scores(64, 10, seed=1).to(dtype)
    batch, actual = {"targets": labels(64)}, []
    if isinstance(loss, VisionLoss):
        logits, batch = logits.reshape(4, 16, 10), {"targets": detected(batch=4, boxes=16)[1]}
    for student in (logits, logits.float()):
        with torch.autocast("cpu", dtype, enabled=student is logits):
            actual.append(loss(ModelOutput(student, extras={"teacher_logits": teacher.to(student.dtype)}), batch))

    assert actual[0].total == actual[1].total
    assert actual[0].total.dtype is torch.float32
    assert actual[0].parts == actual[1].parts


@pytest.mark.parametrize(
    "loss", [ClassificationLoss(), LanguageModelingLoss(), LossAsStrategy(FocalLoss()), VisionLoss()]
)
@pytest.mark.parametrize("labels", [[0, 1], None])
def test_labels_must_be_a_tensor(loss, labels):
    """Labels of another type raise ValueError, like wrong shapes."""
    with pytest.raises(ValueError, match=f"labels must be a tensor, not {type(labels).__name__}"):
        loss.validate_inputs(torch.zeros(2, 3), labels)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: ClassificationLoss(label_smoothing=2.0), "label_smoothing: must be between 0 and 1, got 2"),
        (lambda: VisionLoss("tracking"), "task: 'tracking' is not one of classification, detection, segmentation"),
        (lambda: VisionLoss("detection", class_weights=[1.0]), "class_weights: detection takes none"),
        (lambda: VisionLoss("detection", box_weight=-1.0), "box_weight: must be at least 0, got -1"),
        (lambda: PEFTAwareLoss(adapter_scale=0.0), "adapter_scale: must be above 0, got 0"),
        (lambda: QuantizationSafeLoss(16), "bits: must be 8 or 4, got 16"),
        (
            lambda: VisionLoss("detection").compute_loss(*detected(), {"class_weights": torch.ones(3)}),
            "DetectionLoss takes no class_weights",
        ),
        (
            lambda: LanguageModelingLoss().compute_loss(
                torch.zeros(1, 2, 3), torch.zeros(1, 2).long(), {"class_weights": torch.ones(3)}
            ),
            "LanguageModelingLoss takes no class_weights",
        ),
    ],
)
def test_bad_options_are_named(build, message):
    """The error for a bad option of a constructor or a call names it."""
    with pytest.raises(ValueError, match=re.escape(message)):
        build()
