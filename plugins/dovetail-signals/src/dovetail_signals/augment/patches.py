"""Augmentation of patches, the tokens of a transformer on signals: [patches, width] or [N, patches, width].

Each takes ``draws``: the random numbers of the batch's samples by address (:class:`dovetail.random.Draws`). Without,
they are begun from torch's global generator.
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
    """Return patches, each set to 0 with probability ``drop_prob``; all of them as they are unless ``training``."""
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
    """Return two batches of patches [N, patches, width] mixed, and their labels mixed alike.

    Args:
        patches1: [N, patches, width].
        patches2: of the same shape.
        labels1: [N] class indices, or [N, …] probabilities or values.
        labels2: likewise.
        alpha: the share of the first is drawn from Beta(alpha, alpha).
        num_classes: needed where labels are class indices.
        draws: of the batch's samples.
    """
    share = beta(draws_or_fresh(draws, patches1), "share", alpha)
    first, second = to_probabilities(labels1, num_classes), to_probabilities(labels2, num_classes)
    return mix(patches1, patches2, share), mix(first, second, share)


def temporal_shift_patches(
    patches: Tensor,
    max_shift: int = 5,
    circular: bool = True,  # noqa: FBT001, FBT002 (documented so)
    *,
    draws: Draws | None = None,
) -> Tensor:
    """Return patches moved by up to ``max_shift`` places; the free ones get what left at the other end, or 0."""

    def change(batch: Tensor, own: Draws) -> Tensor:
        count = batch.shape[1]
        shift = (own.uniform("shift") * (2 * max_shift + 1)).floor().long() - max_shift
        places = torch.arange(count, device=batch.device) - shift[:, None]
        moved = batch.gather(1, (places % count)[..., None].expand_as(batch))
        inside = (places >= 0) & (places < count)
        return moved if circular else moved * inside[..., None].to(batch.dtype)

    return _apply(patches, draws, change)


def patch_cutout(patches: Tensor, n_holes: int = 10, hole_size: int = 5, *, draws: Draws | None = None) -> Tensor:
    """Return patches with ``n_holes`` stretches of ``hole_size`` neighbours set to 0; holes may overlap."""

    def change(batch: Tensor, own: Draws) -> Tensor:
        count = batch.shape[1]
        size = min(hole_size, count)
        start = (own.uniform("holes", (n_holes,)) * (count - size + 1)).floor()
        place = torch.arange(count, device=batch.device)
        hit = ((place >= start[..., None]) & (place < start[..., None] + size)).any(1)
        return batch * (~hit)[..., None].to(batch.dtype)

    return _apply(patches, draws, change)


def patch_permutation(patches: Tensor, permute_prob: float = 0.1, *, draws: Draws | None = None) -> Tensor:
    """Return patches of which each takes part with probability ``permute_prob``, those that do in a random order."""

    def change(batch: Tensor, own: Draws) -> Tensor:
        count = batch.shape[1]
        place = torch.arange(count, device=batch.device)
        chosen = own.uniform("chosen", (count,)) < permute_prob
        # Those that take part come first, once by place and once by lot; the rest stays behind, in its order.
        into = torch.where(chosen, place, count + place).argsort(1)
        out_of = torch.where(chosen, own.uniform("order", (count,)) * count, (count + place).float()).argsort(1)
        source = torch.empty_like(into).scatter_(1, into, out_of)
        return batch.gather(1, source[..., None].expand_as(batch))

    return _apply(patches, draws, change)


def patch_jitter(patches: Tensor, noise_std: float = 0.01, *, draws: Draws | None = None) -> Tensor:
    """Return patches with white noise of standard deviation ``noise_std``."""
    return _apply(
        patches,
        draws,
        lambda batch, own: batch + noise_std * own.normal("jitter", tuple(batch.shape[1:])).to(batch.dtype),
    )


class PatchAugmentation:
    """A pipeline of changes to patches, each of which can be left out. The order is that of the parameters.

    Args:
        use_dropout: set patches to 0.
        dropout_prob: with this probability each.
        use_shift: move patches in time.
        max_shift: by up to so many places.
        use_cutout: set stretches of patches to 0.
        n_holes: so many.
        hole_size: each so long.
        use_permutation: reorder some patches.
        permute_prob: each takes part with this probability.
        use_jitter: add noise.
        noise_std: of this standard deviation.
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
        """Return patches [patches, width] or [N, patches, width], changed."""

        def change(batch: Tensor, own: Draws) -> Tensor:
            for step in self._steps:
                batch = step(batch, own)
            return batch

        return _apply(patches, draws, change)


def get_light_augmentation() -> PatchAugmentation:
    """Return a pipeline that changes little: a short shift and faint noise."""
    return PatchAugmentation(use_dropout=False, use_shift=True, max_shift=2, use_cutout=False, noise_std=0.005)


def get_medium_augmentation() -> PatchAugmentation:
    """Return the pipeline to begin with: a tenth of the patches dropped, a shift, two holes, noise."""
    return PatchAugmentation()


def get_heavy_augmentation() -> PatchAugmentation:
    """Return a pipeline for few data: a fifth dropped, longer shifts and holes, some patches reordered, more noise."""
    return PatchAugmentation(
        dropout_prob=0.2,
        max_shift=10,
        n_holes=4,
        hole_size=5,
        use_permutation=True,
        permute_prob=0.15,
        noise_std=0.03,
    )
