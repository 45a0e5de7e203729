"""Calls of lifecycle hooks: their order, and the part named when one fails."""

from __future__ import annotations

from dovetail.main import run
from dovetail.train.errors import PartError
from small_runs import Calls, small


def test_hooks_are_called_in_order(tmp_path):
    """Epoch, batches, validation, end of epoch, checkpoint: in this order, each once."""
    calls = Calls()
    run(small(tmp_path, loader={"batch_size": 50}, training={"max_epochs": 1}, callbacks={"calls": calls})).check()

    assert calls.seen == [
        "epoch 1 starts",
        "before update 1",
        "after update 1",
        "before update 2",
        "after update 2",
        "validated ['val_accuracy', 'val_loss']",
        "epoch 1 ends",
        "saved 2",
    ]


def test_a_failing_batch_hook_names_its_part(tmp_path):
    """Hot hooks are called as carefully as the others."""

    class Bad:
        def dovetail_batch_end(self) -> None:
            raise KeyError("lost")

    outcome = run(small(tmp_path, callbacks={"bad": Bad()}))

    assert isinstance(outcome.error, PartError)
    assert outcome.reason == "callbacks.bad failed in dovetail_batch_end: KeyError: 'lost'"
    assert outcome.stopped_by == "callbacks.bad"
