"""Augmentation of patches, a signal transformer's tokens: [patches, width], or [N, patches, width] for a batch.

Every function takes ``draws``, the addressed random numbers of the batch's samples (:class:`dovetail.random.Draws`).
Without them, random numbers come from torch's global generator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from dovetail.random import Draws
from dovetail_signals.augment.draws import beta, draws_or_fresh, mix, to_probabilities

_BATCHED: Final = 3


def _apply(patches: Tensor, draws: Draws | None, change: Callable[[Tensor, Draws], Tensor]) -> Tensor:
    batch = patches if patches.ndim == _BATCHED else patches[None]
    return change(batch, draws_or_fresh(draws, batch)).reshape(patches.shape)


def patch_dropout(
    patches: Tensor,
    drop_prob: float = 0.1,
    training: bool = True,  # noqa: FBT001, FBT002 (documented so)
    *,
    draws: Draws | None = None,
) -> Tensor:
    """Set each patch to 0 with probability ``drop_prob``; change nothing unless ``training``."""
    if not training:
        return patches
    return _apply(
        patches,
        draws,
        lambda batch, own: batch * (own.uniform("drop", batch.shape[1:2]) >= drop_prob)[..., None].to(batch.dtype),
    )


def patch_mixup(
    patches1: Tensor,
    patches2: Tensor,
    labels1: Tensor,
    labels2: Tensor,
    alpha: float = 0.4,
    *,
    num_classes: int | None = None,
    draws: Draws | None = None,
) -> tuple[Tensor, Tensor]:
    """Mix two batches of patches and their labels, with the same weight for both.

    Args:
        patches1: [N, patches, width].
        patches2: of the same shape.
        labels1: [N] class indices, or [N, …] probabilities or regression targets.
        labels2: those of the second batch.
        alpha: the weight of the first batch is drawn from Beta(alpha, alpha).
        num_classes: required if labels are class indices.
        draws: random numbers of the batch's samples; from torch's global generator if None.
    """
    weight = beta(draws_or_fresh(draws, patches1), "share", alpha)
    first, second = to_probabilities(labels1, num_classes), to_probabilities(labels2, num_classes)
    return mix(patches1, patches2, weight), mix(first, second, weight)


def temporal_shift_patches(
    patches: Tensor,
    max_shift: int = 5,
    circular: bool = True,  # noqa: FBT001, FBT002 (documented so)
    *,
    draws: Draws | None = None,
) -> Tensor:
    """Shift patches by up to ``max_shift`` places either way, circularly or filling with 0."""

    def change(batch: Tensor, own: Draws) -> Tensor:
        count = batch.shape[1]
        shift = (own.uniform("shift") * (2 * max_shift + 1)).floor().long() - max_shift
        places = torch.arange(count, device=batch.device) - shift[:, None]
        moved = batch.gather(1, (places % count)[..., None].expand_as(batch))
        inside = (places >= 0) & (places < count)
        return moved if circular else moved * inside[..., None].to(batch.dtype)

    return _apply(patches, draws, change)


def patch_cutout(patches: Tensor, n_holes: int = 10, hole_size: int = 5, *, draws: Draws | None = None) -> Tensor:
    """Set ``n_holes`` spans of ``hole_size`` adjacent patches to 0; spans may overlap."""

    def change(batch: Tensor, own: Draws) -> Tensor:
        count = batch.shape[1]
        size = min(hole_size, count)
        start = (own.uniform("holes", (n_holes,)) * (count - size + 1)).floor()
        place = torch.arange(count, device=batch.device)
        hit = ((place >= start[..., None]) & (place < start[..., None] + size)).any(1)
        return batch * (~hit)[..., None].to(batch.dtype)

    return _apply(patches, draws, change)


def patch_permutation(patches: Tensor, permute_prob: float = 0.1, *, draws: Draws | None = None) -> Tensor:
    """Select each patch with probability ``permute_prob`` and shuffle the selected patches among their places."""

    def change(batch: Tensor, own: Draws) -> Tensor:
        count = batch.shape[1]
        place = torch.arange(count, device=batch.device)
        chosen = own.uniform("chosen", (count,)) < permute_prob
        # Both orders put the selected patches first, by place or at random; the others follow in their order.
        into = torch.where(chosen, place, count + place).argsort(1)
        out_of = torch.where(chosen, own.uniform("order", (count,)) * count, (count + place).float()).argsort(1)
        source = torch.empty_like(into).scatter_(1, into, out_of)
        return batch.gather(1, source[..., None].expand_as(batch))

    return _apply(patches, draws, change)


def patch_jitter(patches: Tensor, noise_std: float = 0.01, *, draws: Draws | None = None) -> Tensor:
    """Add white noise of standard deviation ``noise_std`` to patches."""
    return _apply(
        patches,
        draws,
        lambda batch, own: batch + noise_std * own.normal("jitter", tuple(batch.shape[1:])).to(batch.dtype),
    )


class PatchAugmentation:
    """Apply a pipeline of patch augmentations, in the order of the parameters.

    Args:
        use_dropout: whether to set patches to 0.
        dropout_prob: probability for each patch.
        use_shift: whether to shift patches in time.
        max_shift: largest shift, in patches.
        use_cutout: whether to set spans of patches to 0.
        n_holes: number of spans.
        hole_size: length of a span, in patches.
        use_permutation: whether to shuffle some patches.
        permute_prob: probability that a patch takes part.
        use_jitter: whether to add white noise.
        noise_std: standard deviation of the noise.
    """

    def __init__(
        self,
        use_dropout: bool = True,  # noqa: FBT001, FBT002 (documented so)
        dropout_prob: float = 0.1,
        *,
        use_shift: bool = True,
        max_shift: int = 5,
        use_cutout: bool = True,
        n_holes: int = 2,
        hole_size: int = 3,
        use_permutation: bool = False,
        permute_prob: float = 0.1,
        use_jitter: bool = True,
        noise_std: float = 0.01,
    ) -> None:
        steps: list[tuple[bool, Callable[[Tensor, Draws], Tensor]]] = [
            (use_dropout, lambda patches, own: patch_dropout(patches, dropout_prob, draws=own)),
            (use_shift, lambda patches, own: temporal_shift_patches(patches, max_shift, draws=own)),
            (use_cutout, lambda patches, own: patch_cutout(patches, n_holes, hole_size, draws=own)),
            (use_permutation, lambda patches, own: patch_permutation(patches, permute_prob, draws=own)),
            (use_jitter, lambda patches, own: patch_jitter(patches, noise_std, draws=own)),
        ]
        self._steps = [step for used, step in steps if used]

    def __call__(self, patches: Tensor, *, draws: Draws | None = None) -> Tensor:
        """Return the augmented patches, of the shape of ``patches``."""

        def change(batch: Tensor, own: Draws) -> Tensor:
            for step in self._steps:
                batch = step(batch, own)
            return batch

        return _apply(patches, draws, change)


def get_light_augmentation() -> PatchAugmentation:
    """Return a light pipeline: a short shift and faint noise."""
    return PatchAugmentation(use_dropout=False, use_shift=True, max_shift=2, use_cutout=False, noise_std=0.005)


def get_medium_augmentation() -> PatchAugmentation:
    """Return the default pipeline: a tenth of the patches dropped, a shift, two holes, noise."""
    return PatchAugmentation()


def get_heavy_augmentation() -> PatchAugmentation:
    """Return a heavy pipeline, for little data: a fifth dropped, longer shifts and holes, permutation, more noise."""
    return PatchAugmentation(
        dropout_prob=0.2,
        max_shift=10,
        n_holes=4,
        hole_size=5,
        use_permutation=True,
        permute_prob=0.15,
        noise_std=0.03,
    )
