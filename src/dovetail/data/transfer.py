"""Moving batches to the model's device, overlapping the copy with computation on a GPU."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch

from dovetail.data.batch import map_tensors

if TYPE_CHECKING:
    from dovetail.data.batch import Batch


def to_device(batch: Batch, device: torch.device | str) -> Batch:
    """Return ``batch`` with every tensor on ``device``; tensors that are already there are returned unchanged.

    The host does not wait for a copy to a GPU. The copy runs on its own stream, so it overlaps with the kernels that
    are already queued; kernels queued from now on wait for it. This needs a batch in page-locked memory
    (``loader.pin_memory``); from pageable memory, the host copies and waits.
    """
    target = torch.device(device)
    if target.type == "cuda":
        return _to_cuda(batch, target)
    return map_tensors(batch, lambda tensor: tensor.to(target, non_blocking=target.type != "cpu"))


def _to_cuda(batch: Batch, device: torch.device) -> Batch:
    computing, copying = torch.cuda.current_stream(device), _copy_stream(device)

    def copy(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.device.type != "cpu":
            return tensor.to(device, non_blocking=True)  # the computing stream may still be computing it
        with torch.cuda.stream(copying):
            moved = tensor.to(device, non_blocking=True)
        # The copying stream owns the memory, and must not reuse it before the computing stream is done with it.
        moved.record_stream(computing)
        return moved

    moved = map_tensors(batch, copy)
    computing.wait_stream(copying)
    return moved


@cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # untyped in torch
