"""Supervised contrastive loss: Khosla et al., «Supervised contrastive learning», 2020, equation 2."""

from __future__ import annotations

from typing import Annotated, Final

import torch
from torch import Tensor, nn

from dovetail.losses.targets import wide
from dovetail.spec.limits import MoreThan

#: Added to a squared length, of which it is nothing for any but vanishing embeddings.
_SMALLEST: Final = 1e-12
_VIEWS: Final = len(("batch", "views", "features"))


class SupConLoss(nn.Module):
    """Draws the embeddings of one class together, and those of different classes apart.

    For an anchor ``i`` with the others of its class ``P(i)``, embeddings ``z`` of length 1 and all others ``A(i)``:
    ``-1/|P(i)| · Σ_{p ∈ P(i)} log( exp(z_i·z_p/τ) / Σ_{a ∈ A(i)} exp(z_i·z_a/τ) )``,
    a mean over the anchors that have such others. In a run the model's output is the embedding.

    Samples are compared with one another, so the loss of a batch is not the mean of the losses of its parts: a batch is
    better large than accumulated.

    Args:
        temperature: τ, above 0.

    Raises:
        ValueError: ``temperature`` is not above 0.
    """

    def __init__(self, temperature: Annotated[float, MoreThan(0)] = 0.1) -> None:
        super().__init__()
        if temperature <= 0:
            msg = f"temperature: must be above 0, got {temperature:g}"
            raise ValueError(msg)
        self.temperature = temperature

    def forward(self, input: Tensor, target: Tensor) -> Tensor:  # noqa: A002 (torch's own name for it)
        """Return the loss, 0 where no sample has another of its class.

        Args:
            input: embeddings ``[batch, features]``, or several views of each sample ``[batch, views, features]``; of
                any length, they are brought to length 1.
            target: integer labels ``[batch]``.

        Raises:
            ValueError: shapes or types do not fit.
        """
        embedded, labels = self._read(input, target)
        if len(embedded) == 0:
            return embedded.sum()
        similarity = embedded @ embedded.T / self.temperature
        itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        # A row that is itself alone would be a sum over nothing: it is left whole, and does not count.
        others = similarity if len(labels) == 1 else similarity.masked_fill(itself, float("-inf"))
        log_share = similarity - others.logsumexp(dim=1, keepdim=True)
        alike = (labels[:, None] == labels) & ~itself
        counts = alike.sum(dim=1)
        per_anchor = -log_share.where(alike, 0.0).sum(dim=1) / counts.clamp(min=1)
        return per_anchor.sum() / (counts > 0).sum().clamp(min=1)

    def units(self, input: Tensor, target: Tensor) -> Tensor:  # noqa: A002 (torch's own name for it)
        """Return how many anchors the loss is a mean over."""
        _, labels = self._read(input, target)
        return ((labels[:, None] == labels).sum(dim=1) > 1).sum()

    def _read(self, input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:  # noqa: A002 (torch's own name for it)
        """Return one embedding of length 1 and one label for each view."""
        got = f"embeddings have shape {list(input.shape)} and labels {list(target.shape)}"
        if input.ndim not in {_VIEWS - 1, _VIEWS} or target.shape != input.shape[:1]:
            msg = f"SupConLoss: {got}; it needs [batch, features] or [batch, views, features], and [batch]"
            raise ValueError(msg)
        if target.is_floating_point() or target.is_complex():
            msg = f"SupConLoss: labels are {target.dtype}; it needs integers"
            raise ValueError(msg)
        views = input.shape[1] if input.ndim == _VIEWS else 1
        flat = wide(input).reshape(-1, input.shape[-1])
        # Smooth at length 0 too, where dividing by the length alone would jump.
        length = (flat.square().sum(dim=-1, keepdim=True) + _SMALLEST).sqrt()
        return flat / length, target.repeat_interleave(views)
