"""Batches of logits and labels for tests of metrics."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from dovetail.metrics import SumMetric
from dovetail.models import ModelOutput


class Drawn:
    """Batches of logits, labels and perhaps a mask; and the labels that count, with their scores, flattened."""

    def __init__(
        self, seed: int, sizes: list[int], space: tuple[int, ...], classes: int, *, hidden: float, masked: bool
    ):
        generator = torch.Generator().manual_seed(seed)
        self.classes = classes
        self.batches: list[tuple[Tensor, Tensor, Tensor | None]] = []
        true, scores = [], []
        for size in sizes:
            logits = torch.randn(size, classes, *space, generator=generator)
            labels = torch.randint(0, classes, (size, *space), generator=generator)
            kept = torch.rand(labels.shape, generator=generator) >= hidden
            mask = torch.rand(labels.shape, generator=generator) < 0.7 if masked else None
            labels = labels.where(kept, -100)
            kept = kept if mask is None else kept & mask
            self.batches.append((logits, labels, mask))
            true.append(labels[kept])
            scores.append(logits.movedim(1, -1)[kept])
        self.true = torch.cat(true) if true else torch.zeros(0, dtype=torch.int64)
        self.scores = torch.cat(scores) if scores else torch.zeros(0, classes)
        self.predicted = self.scores.argmax(-1) if len(self.scores) else self.true

    def feed(self, metric: SumMetric) -> SumMetric:
        """Update a metric with every batch."""
        for logits, labels, mask in self.batches:
            batch: Any = {"targets": labels} if mask is None else {"targets": labels, "mask": mask}
            metric.update(ModelOutput(logits), batch)
        return metric


drawn = st.builds(
    Drawn,
    seed=st.integers(0, 2**16),
    sizes=st.lists(st.integers(0, 6), max_size=3),
    space=st.sampled_from([(), (7,), (2, 7)]),
    classes=st.integers(1, 5),
    hidden=st.sampled_from([0.0, 0.4, 1.0]),
    masked=st.booleans(),
)


def same(found: float, expected: float) -> None:
    """Assert equality up to rounding; NaN equals NaN."""
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-15, nan_ok=True)


def update(metric: SumMetric, logits: Tensor, targets: Tensor, **more: Tensor) -> dict[str, Any]:
    """Update a metric with one batch and return its values."""
    batch: Any = {"targets": targets, **more}
    metric.update(ModelOutput(logits), batch)
    return metric.compute()
