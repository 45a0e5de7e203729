"""Moving batches to where the model is: to a GPU beside its computing, and not after it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch

from dovetail.data.batch import map_tensors

if TYPE_CHECKING:
    from dovetail.data.batch import Batch


def to_device(batch: Batch, device: torch.device | str) -> Batch:
    """Return ``batch`` with every tensor on ``device``; those that are there already are handed back as they are.

    Nobody waits for a copy to a GPU. It is made on a stream of its own, so that it does not queue up behind the steps
    that the host has asked for already: it runs while they compute, and only what is asked for from now on comes after
    it. For that the batch must be in page-locked memory (``loader.pin_memory``); other memory is copied by the host.
    """
    where = torch.device(device)
    if where.type == "cuda":
        return _copied(batch, where)
    return map_tensors(batch, lambda tensor: tensor.to(where, non_blocking=where.type != "cpu"))


def _copied(batch: Batch, device: torch.device) -> Batch:
    computing, copying = torch.cuda.current_stream(device), _copy_stream(device)

    def copied(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.device.type != "cpu":
            return tensor.to(device, non_blocking=True)  # it may still be being computed, on the stream of computing
        with torch.cuda.stream(copying):
            moved = tensor.to(device, non_blocking=True)
        # Its memory is the copying stream's, which must not use it again before computing is done with it.
        moved.record_stream(computing)
        return moved

    moved = map_tensors(batch, copied)
    computing.wait_stream(copying)
    return moved


@cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch has not typed it
