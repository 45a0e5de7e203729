"""Losses of segmentation and detection, and the loss that chooses between tasks."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from dovetail.losses import (
    VisionLoss,
)
from dovetail.models import ModelOutput
from dovetail.testkit import conformance
from loss_samples import CLASSES, detected, labels, scores


def test_segmentation_is_cross_entropy_of_pixels():
    """The loss of one label per pixel is torch's cross-entropy; ignored pixels do not count."""
    logits, targets = scores(2, CLASSES, 3, 5), labels(2, 3, 5)
    targets[0, 0] = -100
    loss = VisionLoss("segmentation")

    result = loss(ModelOutput(logits), {"targets": targets})

    torch.testing.assert_close(result.total, F.cross_entropy(logits, targets))
    assert float(result.weight) == 25
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64)
    torch.testing.assert_close(
        loss.compute_loss(logits, targets, {"class_weights": weights}), F.cross_entropy(logits, targets, weights)
    )


def focal(score, wanted):
    """Return the focal loss of one binary score, from the formula of Lin et al."""
    p = torch.sigmoid(score)
    p_t, alpha = (p, 0.25) if wanted else (1 - p, 0.75)
    return -alpha * (1 - p_t) ** 2 * torch.log(p_t)


@given(seed=st.integers(0, 50), box_weight=st.sampled_from([0.0, 1.0, 2.5]))
def test_detection_is_its_formula(seed, box_weight):
    """It is the focal loss of every box that counts plus smooth L1 of boxes with an object, a mean over the former."""
    logits, targets = detected(seed)
    by_class, by_box, count = torch.tensor(0.0).double(), torch.tensor(0.0).double(), 0
    for row in range(2):
        for box in range(6):
            number = int(targets[row, box, 4])
            if number == -100:
                continue
            count += 1
            by_class += sum(focal(logits[row, box, 4 + name], number == name) for name in range(3))
            if number >= 0:
                gap = (logits[row, box, :4] - targets[row, box, :4]).abs()
                by_box += torch.where(gap < 1, 0.5 * gap**2, gap - 0.5).sum()

    result = VisionLoss("detection", box_weight=box_weight)(ModelOutput(logits), {"targets": targets})

    torch.testing.assert_close(result.total, (by_class + box_weight * by_box) / count)
    torch.testing.assert_close(result.parts, {"class": by_class / count, "box": by_box / count})
    assert float(result.weight) == count


@pytest.mark.parametrize("number", [3.0, -2.0])
def test_a_box_with_a_class_out_of_range_is_named(number):
    """The error names the class; a box that the mask leaves out may have any class."""
    logits, targets = detected()
    targets[0, 0, 4] = number
    message = rf"DetectionLoss: label {number:.0f} is out of range for 3 classes, 0 to 2"
    with pytest.raises(ValueError, match=message):
        VisionLoss("detection").compute_loss(logits, targets)
    mask = torch.ones(targets.shape[:2], dtype=torch.bool)
    mask[0, 0] = False
    VisionLoss("detection").compute_loss(logits, targets, {"attention_mask": mask})


def test_detections_add_up_and_have_the_numerical_gradient():
    """Separate images add up to the batch, and autograd agrees with finite differences."""
    logits, targets = detected()
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[1, 2:] = False
    loss = VisionLoss("detection")

    whole = loss(ModelOutput(logits), {"targets": targets, "mask": mask})
    apart = [
        loss(ModelOutput(logits[image]), {"targets": targets[image], "mask": mask[image]})
        for image in (slice(0, 1), slice(1, 2))
    ]

    torch.testing.assert_close(whole.total * whole.weight, sum(image.total * image.weight for image in apart))
    assert float(whole.weight) == 5 + 2
    assert torch.autograd.gradcheck(lambda x: loss.compute_loss(x, targets), logits)


def segmentations(seed, samples):
    """Return logits and a batch of a segmentation for the conformance kit."""
    mask = torch.rand(samples, 3, 2, generator=torch.Generator().manual_seed(seed)) < 0.8
    batch = {"targets": labels(samples, 3, 2, seed=seed), "mask": mask}
    return scores(samples, CLASSES, 3, 2, seed=seed).detach().float(), batch


def detections(seed, samples):
    """Return logits and a batch of a detector for the conformance kit."""
    logits, targets = detected(seed, samples)
    return logits.detach().float(), {"targets": targets.float()}


drawn = {"seed": st.integers(0, 1000), "samples": st.integers(1, 4)}


@conformance("vision", kind="loss", example={"task": "segmentation"}, batches=st.builds(segmentations, **drawn))
def test_segmentation_conforms(check):
    """The conformance kit's checks pass on images."""
    check()


@conformance("vision", kind="loss", example={"task": "detection"}, batches=st.builds(detections, **drawn))
def test_detection_conforms(check):
    """The conformance kit's checks pass on boxes."""
    check()
