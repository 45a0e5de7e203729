"""Tests of saving: the same bytes in the background, no error is lost, and NaN weights are found."""

from __future__ import annotations

import json
import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dovetail.checkpoint.format import encode, read_checkpoint
from dovetail.checkpoint.manifest import FILES
from dovetail.checkpoint.saver import HostBuffers, Saver, join_first, nonfinite_weights
from dovetail.checkpoint.store import CheckpointStore
from dovetail.storage.errors import StorageError


def training_state():
    """Return the state of a model and an optimizer after a step, with views and strided tensors."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.LazyLinear(5))
    model(torch.randn(2, 3, 8, 8))
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    model(torch.randn(2, 3, 8, 8)).square().sum().backward()
    optimizer.step()
    whole = torch.arange(100.0)
    views = {"whole": whole, "part": whole[10:20], "none": torch.empty(0), "flag": torch.tensor(data=True)}
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "views": views, "n": 3}


def test_a_background_save_writes_the_same_bytes(tmp_path):
    """Only the time in the manifest may differ."""
    state = training_state()
    store = CheckpointStore(tmp_path / "foreground")
    with Saver(store) as saver:
        saver.save(state, partial(store.save, 7, 1, {"val_loss": 0.5}))
        (foreground,) = saver.take_saved()
    store = CheckpointStore(tmp_path / "background")
    with Saver(store, background=True) as saver:
        for step in (6, 7):  # the second reuses the first one's memory
            saver.save(state, partial(store.save, step, 1, {"val_loss": 0.5}))
    (_, background) = saver.take_saved()

    for name in FILES:
        assert (foreground.checkpoint.path / name).read_bytes() == (background.checkpoint.path / name).read_bytes()
    first, second = (
        json.loads((saved.checkpoint.path / "manifest.json").read_bytes()) for saved in (foreground, background)
    )
    assert first["files"] == second["files"]
    assert first["info"].keys() == second["info"].keys()
    assert background.checkpoint.is_best is False
    assert background.seconds > 0


def test_a_checkpoint_is_of_one_step(tmp_path):
    """Tensors and numbers may change while it is written."""
    weights = [torch.zeros(1_000_003) for _ in range(3)]
    state = {"model": {f"w{index}": weight for index, weight in enumerate(weights)}, "steps": [0], "rows": {}}
    store = CheckpointStore(tmp_path, keep_last=99)
    with Saver(store, background=True) as saver:
        for step in range(1, 6):
            for weight in weights:
                weight.fill_(step)
            state["steps"][0] = step
            saver.save(state, partial(store.save, step, 1, {"val_loss": float(step)}))
            for weight in weights:
                weight.fill_(-1)
            state["steps"][0] = -1

    for saved in saver.take_saved():
        step, found = saved.checkpoint.step, read_checkpoint(saved.checkpoint.path)
        assert found["steps"] == [step]
        assert saved.checkpoint.metrics == {"val_loss": step}
        assert all(torch.equal(weight, torch.full_like(weight, step)) for weight in found["model"].values())


def test_listing_waits_for_a_background_save(tmp_path):
    """So the checkpoint that a run rolls back to does not depend on the speed of the disk."""
    store = CheckpointStore(tmp_path)
    with Saver(store, background=True) as saver:
        for step in range(1, 6):
            state = {"model": {"w": torch.ones(500_000)}}
            saver.save(state, partial(store.save, step, 1, {"val_loss": 1 / step}))

            assert store.latest().step == store.best().step == step


def test_host_buffers_are_reused():
    """While they are large enough; each tensor is aligned to a cache line."""
    buffers = HostBuffers()
    states = [{"model": {"a": torch.full((5,), float(fill)), "b": torch.full((7, 3), fill)}} for fill in (1, 2)]

    first, second = (buffers.copy(encode(state)).tensors["model"] for state in states)
    larger = buffers.copy(encode({"model": {"a": torch.ones(1000)}})).tensors["model"]
    again = buffers.copy(encode(states[0])).tensors["model"]

    assert first["a"].data_ptr() == second["a"].data_ptr()
    assert first["a"].tolist() == [2.0] * 5
    assert again["a"].data_ptr() == larger["a"].data_ptr()
    assert {(tensor.data_ptr() - second["a"].data_ptr()) % 64 for tensor in second.values()} == {0}


def test_a_background_error_is_raised_once_by_the_next_call(tmp_path):
    """Later saves work again."""
    store = CheckpointStore(tmp_path / "checkpoints")
    saver = Saver(store, background=True)
    store.directory.rmdir()
    store.directory.write_text("in the way")
    saver.save({"model": {}}, partial(store.save, 1, 1, {}))
    with pytest.raises(StorageError, match="checkpoints: cannot list this"):
        saver.wait()
    saver.save({"model": {}}, partial(store.save, 2, 1, {}))
    with pytest.raises(StorageError, match="checkpoints: cannot list this"):
        saver.save({"model": {}}, partial(store.save, 3, 1, {}))
    store.directory.unlink()
    store.directory.mkdir()
    saver.save({"model": {}}, partial(store.save, 4, 1, {}))
    saver.wait()

    assert [saved.checkpoint.step for saved in saver.take_saved()] == [4]
    assert not saver.writing


def test_leaving_the_saver_waits_and_raises_its_error(tmp_path):
    """Another error in the block takes precedence."""
    store = CheckpointStore(tmp_path / "checkpoints")
    store.directory.rmdir()
    store.directory.write_text("in the way")

    with (
        pytest.raises(StorageError, match="checkpoints: cannot list this"),
        Saver(store, background=True) as saver,
    ):
        saver.save({"model": {}}, partial(store.save, 1, 1, {}))
    with Saver(store, background=True) as saver:
        saver.save({"model": {}}, partial(store.save, 1, 1, {}))
        with pytest.raises(ZeroDivisionError), saver:
            raise ZeroDivisionError


@settings(max_examples=60)
@given(
    values=st.lists(st.lists(st.floats(width=32), max_size=5), max_size=4),
    trained=st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_nonfinite_weights_match_a_plain_implementation(values, trained):
    """For any numbers, even if their squares overflow, and for empty tensors."""
    module = nn.Module()
    expected = []
    for index, (row, train) in enumerate(zip(values, trained, strict=False)):
        module.register_parameter(f"p{index}", nn.Parameter(torch.tensor(row), requires_grad=train))
        if any(math.isnan(value) or (train and math.isinf(value)) for value in row):
            expected.append(f"p{index}")

    assert nonfinite_weights(module) == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64])
@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_the_largest_number_of_a_dtype_is_finite(dtype, value):
    """Its square overflows, so the norm alone would be infinite."""
    module = nn.Linear(3, 2, dtype=dtype)
    with torch.no_grad():
        module.weight.fill_(torch.finfo(dtype).max)
        if value is not None:
            module.weight[1, 2] = value

    assert nonfinite_weights(module) == ([] if value is None else ["weight"])


def test_buffers_may_be_infinite_but_not_nan():
    """An attention mask holds infinities; NaN in running statistics is an error; integer buffers are skipped."""
    module = nn.Sequential(nn.BatchNorm1d(2), nn.Identity())
    module.register_buffer("mask", torch.tensor([0.0, -math.inf]))
    assert nonfinite_weights(module) == []
    assert nonfinite_weights(nn.Identity()) == []
    module[0].running_mean[1] = math.nan

    assert nonfinite_weights(module) == ["0.running_mean"]


def test_a_message_shows_the_first_five_names():
    """It counts the rest."""
    assert join_first("abcde") == "a, b, c, d, e"
    assert join_first(range(8)) == "0, 1, 2, 3, 4 and 3 more"
