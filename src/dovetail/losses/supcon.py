"""Supervised contrastive loss: Khosla et al., «Supervised contrastive learning», 2020, equation 2."""

from __future__ import annotations

from typing import Annotated, Final

import torch
from torch import Tensor, nn

from dovetail.losses.targets import at_least_float32
from dovetail.spec import MoreThan

#: Added to squared lengths; negligible unless an embedding is almost 0.
_EPSILON: Final = 1e-12
_VIEWS: Final = len(("batch", "views", "features"))


class SupConLoss(nn.Module):
    """Pulls embeddings of the same class together, and pushes those of different classes apart.

    For an anchor ``i``, let ``P(i)`` be the other samples of its class, ``A(i)`` all other samples, and ``z`` the
    embeddings, normalised to length 1. The loss is
    ``-1/|P(i)| · Σ_{p ∈ P(i)} log( exp(z_i·z_p/τ) / Σ_{a ∈ A(i)} exp(z_i·z_a/τ) )``,
    averaged over the anchors whose ``P(i)`` is not empty. In a run, the model's output is the embedding.

    The loss compares samples with one another, so the loss of a batch is not the mean of its micro-batches' losses:
    prefer a large batch to gradient accumulation.

    Args:
        temperature: τ, above 0.

    Raises:
        ValueError: ``temperature`` is not above 0.
    """

    def __init__(self, temperature: Annotated[float, MoreThan(0)] = 0.1) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature: must be above 0, got {temperature:g}")
        self.temperature = temperature

    def forward(self, input: Tensor, target: Tensor) -> Tensor:  # noqa: A002 (torch's own name for it)
        """Return the loss, 0 if no two samples have the same class.

        Args:
            input: embeddings ``[batch, features]``, or several views of each sample ``[batch, views, features]``, of
                any length: the loss normalises them.
            target: integer labels ``[batch]``.

        Raises:
            ValueError: shapes or types do not fit.
        """
        embedded, labels = self._read(input, target)
        if len(embedded) == 0:
            return embedded.sum()
        similarity = embedded @ embedded.T / self.temperature
        itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        # A single sample has no others: masking it would leave a sum over nothing. It does not count anyway.
        others = similarity if len(labels) == 1 else similarity.masked_fill(itself, float("-inf"))
        log_p = similarity - others.logsumexp(dim=1, keepdim=True)
        positives = (labels[:, None] == labels) & ~itself
        counts = positives.sum(dim=1)
        per_anchor = -log_p.where(positives, 0.0).sum(dim=1) / counts.clamp(min=1)
        return per_anchor.sum() / (counts > 0).sum().clamp(min=1)

    def units(self, input: Tensor, target: Tensor) -> Tensor:  # noqa: A002 (torch's own name for it)
        """Return how many anchors the loss is a mean over."""
        _, labels = self._read(input, target)
        return ((labels[:, None] == labels).sum(dim=1) > 1).sum()

    def _read(self, input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:  # noqa: A002 (torch's own name for it)
        """Return one normalised embedding and one label for each view."""
        got = f"embeddings have shape {list(input.shape)} and labels {list(target.shape)}"
        if input.ndim not in {_VIEWS - 1, _VIEWS} or target.shape != input.shape[:1]:
            raise ValueError(f"SupConLoss: {got}; it needs [batch, features] or [batch, views, features], and [batch]")
        if target.is_floating_point() or target.is_complex():
            raise ValueError(f"SupConLoss: labels are {target.dtype}; it needs integers")
        views = input.shape[1] if input.ndim == _VIEWS else 1
        flat = at_least_float32(input).reshape(-1, input.shape[-1])
        # Smooth at length 0, where dividing by the length alone would not be.
        length = (flat.square().sum(dim=-1, keepdim=True) + _EPSILON).sqrt()
        return flat / length, target.repeat_interleave(views)
