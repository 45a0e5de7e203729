"""The content of a checkpoint: positions after a change of batch size, and states that do not fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dovetail.main import run
from dovetail.train.checkpoints.state import collect_state, converted_position, restore_state
from dovetail.train.errors import TrainingError
from small_runs import Keep, small


@given(batch=st.integers(0, 50), before=st.integers(1, 32), now=st.integers(1, 32))
def test_a_position_holds_at_least_as_many_samples(batch, before, now):
    """No sample is trained twice in an epoch, and less than one batch is skipped."""
    batches = 10_000
    position = converted_position(batch, {"samples_per_batch": before}, {"samples_per_batch": now}, batches)

    assert 0 <= position * now - batch * before < now
    assert converted_position(batch, {"samples_per_batch": before}, {"samples_per_batch": now}, 3) <= 3


@pytest.fixture
def finished(tmp_path):
    """Return a run that ended, and its state."""
    keep = Keep()
    config = small(
        tmp_path, training={"max_epochs": 1, "test": False}, callbacks={"keep": keep}, scheduler={"type": "cosine"}
    )
    run(config).check()
    yield keep.run, collect_state(keep.run, {"session": 1})
    keep.run.store.close()


def test_state_is_restored(finished):
    """Every part with a state is under its config path; that of the training goes to ``run.resumed``."""
    run_, state = finished
    restore_state(run_, state)

    assert {"model", "optimizer", "scheduler", "training", "rng", "metrics"} <= state.keys()
    assert run_.resumed["session"] == 1
    assert run_.state.step == 7


def test_a_part_without_its_state_is_named(finished):
    """A checkpoint that lacks a part is refused, and so is a state that a part does not accept."""
    run_, state = finished
    with pytest.raises(TrainingError, match=r"the checkpoint has no state of scheduler"):
        restore_state(run_, {name: value for name, value in state.items() if name != "scheduler"})
    with pytest.raises(TrainingError, match=r"model does not accept its saved state: RuntimeError: "):
        restore_state(run_, {**state, "model": {}})


@pytest.mark.parametrize("key", ["samples_per_epoch", "updates_per_epoch"])
def test_epochs_of_another_length_are_refused(finished, key):
    """The message gives both numbers."""
    run_, state = finished
    layout = {**state["training"]["layout"], key: 99, "processes": 2}
    with pytest.raises(TrainingError, match=f"with 2 processes there were 99 {key.replace('_', ' ')}, but with 1 pro"):
        restore_state(run_, {**state, "training": {**state["training"], "layout": layout}})


def test_another_batch_size_moves_the_position(finished):
    """Two batches of 16 become one of 32."""
    run_, state = finished
    layout = {**state["training"]["layout"], "samples_per_batch": 8}
    position = {**state["training"]["state"], "batch": 3}
    restore_state(run_, {**state, "training": {**state["training"], "layout": layout, "state": position}})

    assert run_.state.batch == 2
