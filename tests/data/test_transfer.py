"""Moving batches: what is moved, and on a GPU that it happens beside the computing and spoils nothing."""

from __future__ import annotations

import pytest
import torch

from dovetail.data.batch import Batch
from dovetail.data.transfer import _copy_stream, to_device

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_to_device_moves_every_tensor_and_leaves_the_rest():
    """Nested inputs, lists of tensors in meta, text and numbers."""
    batch = Batch(
        inputs={"a": torch.zeros(2), "b": torch.ones(2)},
        targets=torch.zeros(2),
        meta={"names": ["x", "y"], "ragged": [torch.zeros(1), torch.zeros(2)], "rpm": torch.zeros(2)},
    )

    moved = to_device(batch, "meta")

    assert moved["inputs"]["a"].is_meta
    assert moved["targets"].is_meta
    assert [one.is_meta for one in moved["meta"]["ragged"]] == [True, True]
    assert moved["meta"]["rpm"].is_meta
    assert moved["meta"]["names"] == ["x", "y"]
    assert not batch["targets"].is_meta


def test_a_batch_that_is_there_already_keeps_its_tensors():
    """No copy on the hot path."""
    batch = Batch(inputs=torch.zeros(2), targets=torch.zeros(2))

    moved = to_device(batch, torch.device("cpu"))

    assert moved["inputs"] is batch["inputs"]


@needs_gpu
def test_a_copy_does_not_wait_for_what_the_gpu_computes():
    """It has arrived while a step that was asked for before it still runs, and what is asked for later sees it."""
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
def test_memory_is_not_used_again_while_it_is_read():
    """The host is far ahead of the GPU, and every batch is dropped at once: each sum is still that of its own batch."""
    sums = []
    for number in range(200):
        batch = Batch(inputs=torch.full((1 << 16,), float(number)).pin_memory(), targets=torch.ones(3))
        moved = to_device(batch, "cuda")
        torch.cuda._sleep(2_000_000)
        sums.append(moved["inputs"].sum())

    assert [one.item() for one in sums] == [float(number << 16) for number in range(200)]
