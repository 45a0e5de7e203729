"""Losses."""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F

from dovetail import Batch, Between, LossResult, ModelOutput


class GeneralisedCrossEntropy:
    """``(1 - p^q) / q``: cross-entropy as ``q`` goes to 0, mean absolute error at 1 (Zhang, Sabuncu 2018)."""

    def __init__(self, q: Annotated[float, Between(0.05, 1)] = 0.7) -> None:
        self.q = q

    def __call__(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        """Return the mean over samples."""
        logits, targets = outputs.logits, batch["targets"]
        if logits.ndim != 2 or targets.shape != logits.shape[:1] or not len(targets):
            raise ValueError(f"outputs have shape {list(logits.shape)}, targets {list(targets.shape)}")
        log_p = -F.cross_entropy(logits, targets, reduction="none")
        total = ((1 - (self.q * log_p).exp()) / self.q).mean()
        return LossResult(total, {}, float(len(targets)))
