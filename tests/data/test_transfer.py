"""Moving batches: what moves, and on a GPU that the copy overlaps with computation and corrupts nothing."""

from __future__ import annotations

import pytest
import torch

from dovetail.data.batch import Batch
from dovetail.data.transfer import _copy_stream, to_device

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_to_device_moves_every_tensor_and_leaves_the_rest():
    """Nested inputs and lists of tensors move; text stays."""
    batch = Batch(
        inputs={"a": torch.zeros(2), "b": torch.ones(2)},
        targets=torch.zeros(2),
        meta={"names": ["x", "y"], "ragged": [torch.zeros(1), torch.zeros(2)], "rpm": torch.zeros(2)},
    )

    moved = to_device(batch, "meta")

    assert moved["inputs"]["a"].is_meta
    assert moved["targets"].is_meta
    assert [tensor.is_meta for tensor in moved["meta"]["ragged"]] == [True, True]
    assert moved["meta"]["rpm"].is_meta
    assert moved["meta"]["names"] == ["x", "y"]
    assert not batch["targets"].is_meta


def test_a_batch_on_the_device_keeps_its_tensors():
    """There is no copy on the hot path."""
    batch = Batch(inputs=torch.zeros(2), targets=torch.zeros(2))

    moved = to_device(batch, torch.device("cpu"))

    assert moved["inputs"] is batch["inputs"]


@needs_gpu
def test_a_copy_does_not_wait_for_queued_kernels():
    """The copy arrives while an earlier kernel still runs, and later kernels see it."""
    device = torch.device("cuda", torch.cuda.current_device())
    batch = Batch(inputs=torch.arange(1e6).pin_memory())
    to_device(batch, device)  # the first one makes the stream
    torch.cuda.synchronize()
    torch.cuda._sleep(4_000_000_000)  # ticks: a second or more
    busy = torch.cuda.current_stream().record_event()

    moved = to_device(batch, device)
    _copy_stream(device).record_event().synchronize()

    assert not busy.query()
    assert moved["inputs"].double().sum().item() == 1e6 * (1e6 - 1) / 2


@needs_gpu
def test_memory_is_not_reused_while_it_is_read():
    """The host runs far ahead and drops every batch at once, and each sum is still that of its own batch."""
    sums = []
    for number in range(200):
        batch = Batch(inputs=torch.full((1 << 16,), float(number)).pin_memory(), targets=torch.ones(3))
        moved = to_device(batch, "cuda")
        torch.cuda._sleep(2_000_000)
        sums.append(moved["inputs"].sum())

    assert [total.item() for total in sums] == [float(number << 16) for number in range(200)]
