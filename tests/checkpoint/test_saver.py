"""Tests of saving: the same bytes in the background, no error is lost, and NaN weights are found."""

from __future__ import annotations

import json
import math
import threading
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
from dovetail.main import run
from dovetail.storage.errors import StorageError
from dovetail.storage.local import LocalStorage
from small_runs import only_run, small


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


class Watcher:
    """Records the steps of saved checkpoints, and the threads of the hook calls."""

    def __init__(self) -> None:
        self.steps, self.threads = [], set()

    def dovetail_checkpoint_saved(self, run, checkpoint):
        """Record a checkpoint."""
        assert (checkpoint.path / "manifest.json").is_file()
        self.steps.append(checkpoint.step)
        self.threads.add(threading.current_thread())


def test_background_saving_does_not_change_a_run(tmp_path):
    """Weights and checkpoints are the same, and the training thread calls the hook once a checkpoint is on the disk."""
    outcomes, watchers = {}, {}
    for background in (False, True):
        watchers[background] = Watcher()
        config = small(
            tmp_path / str(background),
            checkpoint={"every": {"steps": 3}, "background": background},
            callbacks={"watcher": watchers[background]},
        )
        outcomes[background] = run(config).check()

    foreground, background = (only_run(tmp_path / name) / "checkpoints" for name in ("False", "True"))
    assert watchers[True].steps == watchers[False].steps
    assert watchers[True].threads == {threading.main_thread()}
    assert outcomes[True].test_metrics == outcomes[False].test_metrics
    weights, expected = (
        {path.parent.name: path.read_bytes() for path in folder.glob("step-*/model.safetensors")}
        for folder in (background, foreground)
    )
    assert weights == expected
    assert weights


class Vandal:
    """Replaces the checkpoints' folder by a file."""

    def dovetail_batch_end(self, run, step):
        """Replace it after the second update."""
        if step == 2:
            run.checkpoints.directory.rename(run.checkpoints.directory.with_name("away"))
            run.checkpoints.directory.write_text("in the way")


@pytest.mark.parametrize("background", [False, True])
def test_a_run_that_cannot_save_fails(tmp_path, background):
    """With background saving, at the next save at the latest."""
    config = small(
        tmp_path,
        training={"max_epochs": 9},
        checkpoint={"every": {"steps": 3}, "background": background},
        callbacks={"vandal": Vandal()},
    )

    outcome = run(config)

    assert outcome.status == "failed"
    assert isinstance(outcome.error, StorageError)
    assert "checkpoints: cannot list this" in outcome.reason


class Failing:
    """Fails after the third update, while its checkpoint is being written."""

    def dovetail_batch_start(self, step):
        """Fail before the fourth update."""
        if step == 3:
            raise RuntimeError("broken")


def test_a_failing_run_still_reports_its_last_checkpoint(tmp_path):
    """Hooks, the run's record and the copier all get the checkpoint that a resumed run starts from."""
    watcher = Watcher()
    config = small(
        tmp_path / "runs",
        checkpoint={"every": {"steps": 1}, "background": True, "copy_to": LocalStorage(path=tmp_path / "storage")},
        callbacks={"watcher": watcher, "failing": Failing()},
    )

    outcome = run(config)
    folder = only_run(tmp_path / "runs")
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))

    assert outcome.status == "failed"
    assert "callbacks.failing failed in dovetail_batch_start" in outcome.reason
    assert watcher.steps == [1, 2, 3]
    assert record["checkpoint"] == "checkpoints/step-00000003"
    assert (tmp_path / "storage" / "run" / folder.name / "step-00000003" / "manifest.json").is_file()


class FailingListener(Failing):
    """Fails, and fails again in the hook for the saved checkpoint."""

    def dovetail_checkpoint_saved(self, checkpoint):
        """Fail on the third checkpoint."""
        if checkpoint.step == 3:
            raise RuntimeError("broken too")


def test_a_failing_checkpoint_hook_does_not_hide_an_earlier_failure(tmp_path):
    """The run reports the first error, and other parts' hooks are still called."""
    watcher = Watcher()
    config = small(
        tmp_path,
        checkpoint={"every": {"steps": 1}, "background": True},
        callbacks={"failing": FailingListener(), "watcher": watcher},
    )

    outcome = run(config)

    assert "failed in dovetail_batch_start" in outcome.reason
    assert watcher.steps == [1, 2, 3]


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
