"""How metrics read class scores from outputs of any shape."""

from __future__ import annotations

import pytest
import torch

from dovetail.metrics import (
    Accuracy,
)
from dovetail.metrics.scores import count_labels
from metric_samples import update


def test_classes_may_be_on_the_last_dimension() -> None:
    """A language model's [batch, time, classes] gives the values of cross-entropy's [batch, classes, time]."""
    logits, targets = torch.randn(2, 5, 3), torch.randint(0, 3, (2, 5))

    assert update(Accuracy(), logits, targets) == update(Accuracy(), logits.transpose(1, 2), targets)


def test_an_ambiguous_class_dimension_raises() -> None:
    """If time and classes are equally long, the shapes are ambiguous, and ``class_dim`` decides."""
    logits, targets = torch.randn(2, 3, 3), torch.randint(0, 3, (2, 3))

    with pytest.raises(ValueError, match=r"accuracy: outputs of shape \[2, 3, 3\] could have their classes on"):
        update(Accuracy(), logits, targets)
    assert update(Accuracy(class_dim=-1), logits, targets) == update(
        Accuracy(class_dim=1), logits.transpose(1, 2), targets
    )


def test_the_class_dimension_is_remembered() -> None:
    """A text as long as there are classes is read like the batches before it, also after a reset."""
    metric, reference = Accuracy(), Accuracy(class_dim=-1)
    for time in (5, 3, 2):
        logits, targets = torch.randn(2, time, 3), torch.randint(0, 3, (2, time))
        assert update(metric, logits, targets) == update(reference, logits, targets)
        metric.reset()
        reference.reset()


def test_a_mask_of_the_inputs_does_not_mask_labels() -> None:
    """A mask over time does not apply to one label per sample."""
    metric = Accuracy()
    update(metric, torch.randn(3, 2), torch.tensor([0, 1, 0]), mask=torch.zeros(3, 7, dtype=torch.bool))

    assert metric.state_dict()["right_and_total"].tolist()[1] == 3


def test_labels_that_do_not_count_are_excluded_on_any_shape():
    """Counts exclude ignored and masked labels, and end with the number of labels out of range."""
    labels = torch.tensor([[0, 2, 2], [7, -100, 1]])
    kept = torch.tensor([[True, True, True], [True, False, False]])

    assert count_labels(labels, kept, 3).tolist() == [1, 0, 2, 1]
