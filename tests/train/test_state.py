"""The state of training: what a checkpoint holds of it, and requests to stop."""

from __future__ import annotations

import pytest

from dovetail.train.state import Outcome, Stop, TrainState

EARLY = Stop("no improvement", "callbacks.patience")
SIGNAL = Stop("got SIGTERM", "SIGTERM", "interrupted")
BUDGET = Stop("one hour is over", "budget", "out_of_budget")


def test_a_checkpoint_holds_the_position_and_no_request_to_stop():
    """Only what a resumed run continues from is saved."""
    state = TrainState(epoch=3, step=7, best_metric=0.5, stop=EARLY, requested=SIGNAL, resumed={"epoch": 1})
    saved = state.state_dict()
    other = TrainState()
    other.load_state_dict(saved)

    assert {"stop", "requested", "resumed", "synced_samples"}.isdisjoint(saved)
    assert (other.epoch, other.step, other.best_metric) == (3, 7, 0.5)
    assert other.stop is None
    with pytest.raises(KeyError, match="epoch"):
        other.load_state_dict({})


@pytest.mark.parametrize(
    "request_,standing,overrides",
    [
        (EARLY, None, True),
        (SIGNAL, None, True),
        (SIGNAL, EARLY, True),
        (EARLY, SIGNAL, False),
        (SIGNAL, BUDGET, False),
        (BUDGET, EARLY, False),
    ],
)
def test_only_a_signal_overrides_a_request(request_, standing, overrides):
    """A signal ends the process at once; nothing replaces a request that does."""
    assert request_.overrides(standing) is overrides


def test_a_resumed_run_ignores_requests_that_ended_a_process():
    """A signal and the budget end only the process; a request that they overrode is kept."""
    assert EARLY.kept is EARLY
    assert not EARLY.at_once
    assert BUDGET.at_once
    assert SIGNAL.kept is None
    assert Stop("got SIGINT", "SIGINT", "interrupted", earlier=EARLY).kept is EARLY


def test_the_outcome_of_an_error():
    """Its reason is one line, a Ctrl-C is an interruption, and check() raises the error."""
    failed = Outcome.of_error(ValueError("two\n lines"), 1.5)

    assert (failed.status, failed.reason, failed.total_time) == ("failed", "two lines", 1.5)
    assert Outcome.of_error(KeyboardInterrupt(), 0).status == "interrupted"
    assert Outcome.of_error(KeyboardInterrupt(), 0).reason == "KeyboardInterrupt"
    with pytest.raises(ValueError, match="two"):
        failed.check()
    assert Outcome("completed", best_epoch=2, metrics={"val_loss": 1.0}).check().results() == {
        "best_epoch": 2,
        "best_val_loss": None,
        "final_metrics": {"val_loss": 1.0},
        "total_time": 0.0,
    }
