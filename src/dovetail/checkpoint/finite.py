"""Whether a model may be saved: NaN and infinite weights are never made a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import torch
from torch import Tensor, nn

from dovetail.checkpoint.shares import local

_NAMED: Final = 5  # so many names are told


def unsound(module: nn.Module) -> list[str]:
    """Return the names of the weights that no checkpoint may hold.

    Those are parameters under training with a NaN or infinite value, and buffers or frozen parameters with a NaN.
    Infinities are well in the latter: attention masks are made of them.

    Of weights that are shared out, this process's shares are looked at.

    It waits for the device once, and reads each weight once: a twentieth of the time that writing them takes.
    """
    named = [*module.named_parameters(), *module.named_buffers()]
    floating = [(name, one) for name, one in named if one.is_floating_point() or one.is_complex()]
    if not floating:
        return []
    # A norm is finite only if all is; the squares of large numbers may also be too large, which a closer look tells.
    norms = torch._foreach_norm([local(one.detach()) for _, one in floating])  # noqa: SLF001 (torch's own clipping uses it)
    numbers = torch.stack([one.double() for one in norms]).tolist()
    suspects = [pair for pair, norm in zip(floating, numbers, strict=True) if not math.isfinite(norm)]
    return [name for name, one in suspects if _spoiled(one)]


def _spoiled(weight: Tensor) -> bool:
    values = local(weight.detach())
    return bool((~values.isfinite() if weight.requires_grad else values.isnan()).any())


def listed(values: Iterable[object]) -> str:
    """Return the first few of ``values`` in words, and how many more there are."""
    named = [str(one) for one in values]
    more = len(named) - _NAMED
    return ", ".join(named[:_NAMED]) + (f" and {more} more" if more > 0 else "")
