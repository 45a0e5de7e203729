"""Calling lifecycle hooks: order, arguments, the part that failed, and the cadence and failures of trackers."""

from __future__ import annotations

import pytest

from dovetail.config.diagnostics import ConfigError
from dovetail.kernel.component import PluginError
from dovetail.main import run
from dovetail.train.errors import PartError
from dovetail.train.hooks import Hooks
from small_runs import Calls, only_run, small


def test_hooks_are_called_in_order(tmp_path):
    """Epoch, batches, validation, end of epoch, checkpoint: each once."""
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
    """The run fails with its config path, its hook and its error."""

    class Bad:
        def dovetail_batch_end(self) -> None:
            raise KeyError("lost")

    outcome = run(small(tmp_path, callbacks={"bad": Bad()}))

    assert isinstance(outcome.error, PartError)
    assert outcome.reason == "callbacks.bad failed in dovetail_batch_end: KeyError: 'lost'"
    assert outcome.stopped_by == "callbacks.bad"


class Broken:
    """Fails in a hook, after noting its argument."""

    def __init__(self, seen: list[object]) -> None:
        self.seen = seen

    def dovetail_epoch_end(self, epoch: int) -> None:
        """Fail."""
        self.seen.append(epoch)
        raise ValueError("no luck")


def test_every_part_is_called_even_after_failures():
    """A call stops at the first failure; ``call_all`` returns all of them. Each part gets the arguments it names."""
    seen: list[object] = []
    hooks = Hooks([("callbacks.a", Broken(seen)), ("callbacks.b", Broken(seen))])

    failures = hooks.dovetail_epoch_end.call_all(run=None, epoch=3, metrics={})
    assert seen == [3, 3]
    assert [failure.path for failure in failures] == ["callbacks.a", "callbacks.b"]
    with pytest.raises(PartError, match=r"callbacks\.a failed in dovetail_epoch_end: ValueError: no luck"):
        hooks.dovetail_epoch_end(run=None, epoch=4, metrics={})
    assert seen == [3, 3, 4]


def test_a_hook_without_parts_is_false():
    """So a step need not call it; a name that is no hook is an error."""
    hooks = Hooks([("callbacks.a", Broken([]))])

    assert hooks.dovetail_epoch_end
    assert not hooks.dovetail_batch_end
    with pytest.raises(AttributeError, match="there is no lifecycle hook 'dovetail_bach_end'"):
        hooks.dovetail_bach_end()


def test_a_misspelt_hook_is_refused():
    """The message names the part's method."""

    class Misspelt:
        def dovetail_epoch_ends(self) -> None:
            """Do nothing."""

    with pytest.raises(PluginError, match="dovetail_epoch_ends"):
        Hooks([("callbacks.a", Misspelt())])


# --- trackers ---------------------------------------------------------------------------------------------------------


class Notes:
    """Keeps the events, validations and epochs it is called with."""

    def __init__(self):
        self.logged, self.validated, self.ended = [], [], []

    def dovetail_log(self, run, event):
        """Keep the event with its epoch and step."""
        self.logged.append((event, run.state.epoch, run.state.step))

    def dovetail_validation_end(self, run):
        """Keep the step."""
        self.validated.append(run.state.step)

    def dovetail_epoch_end(self, epoch):
        """Keep the epoch."""
        self.ended.append(epoch)


class Failing(Notes):
    """Fails at one hook, and keeps which hooks are called."""

    def __init__(self, hook):
        super().__init__()
        self.calls = []
        for name in ("dovetail_run_start", "dovetail_log", "dovetail_run_end"):
            setattr(self, name, self._hook(name, hook))

    def _hook(self, name, failing):
        def call():
            self.calls.append(name)
            if name == failing:
                raise ConnectionError("no route to the host")

        return call


class Alerts:
    """Keeps alerts."""

    def __init__(self):
        self.seen = []

    def dovetail_alert(self, alert):
        """Keep the alert."""
        self.seen.append(alert)


@pytest.mark.parametrize(
    "every, logged",
    [
        (
            None,
            [
                *[("train", 2), ("train", 4), ("train", 6), ("validation", 7), ("epoch", 7)],
                *[("train", 8), ("train", 10), ("train", 12), ("train", 14), ("validation", 14), ("epoch", 14)],
            ],
        ),
        (
            {"steps": 4},
            [
                *[("train", 4), ("validation", 7), ("epoch", 7)],
                *[("train", 8), ("train", 12), ("validation", 14), ("epoch", 14)],
            ],
        ),
        (2, [("validation", 14), ("epoch", 14)]),
        ({"epochs": 3}, []),
    ],
    ids=str,
)
def test_each_tracker_is_called_at_its_own_cadence(tmp_path, every, logged):
    """100 samples in batches of 16 are 7 updates an epoch; the metrics of the test are always logged."""
    notes, other = Notes(), Notes()
    trackers = {"notes": {"type": notes, **({} if every is None else {"every": every})}, "other": other}
    run(small(tmp_path, trackers=trackers, logging={"every": 2})).check()

    assert [(event, step) for event, _, step in notes.logged] == [*logged, ("test", 14)]
    assert notes.validated == [step for event, step in logged if event == "validation"]
    assert notes.ended == [step // 7 for event, step in logged if event == "epoch"]
    assert len(other.logged) == 12


@pytest.mark.parametrize(
    "every, message",
    [
        ({"steps": 3}, r"trackers\.notes\.every: training figures are computed every 2 updates .* not every 3"),
        ({"minutes": 1.0}, r"trackers\.notes\.every: a tracker counts epochs or steps, not minutes"),
    ],
    ids=str,
)
def test_an_impossible_cadence_is_refused(tmp_path, every, message):
    """The error comes before the first update, with the place of the setting."""
    config = small(tmp_path, trackers={"notes": {"type": Notes(), "every": every}}, logging={"every": 2})
    with pytest.raises(ConfigError, match=message):
        run(config)


@pytest.mark.parametrize("hook", ["dovetail_run_start", "dovetail_log", "dovetail_run_end"])
def test_a_failing_tracker_is_reported_once_and_the_run_completes(tmp_path, hook):
    """The run has the same metrics, reports the failure once, and then calls the tracker only at its end."""
    plain = run(small(tmp_path / "plain")).check()
    failing, alerts, notes = Failing(hook), Alerts(), Notes()
    outcome = run(small(tmp_path / "failing", trackers={"board": failing, "notes": notes}), listeners=[alerts]).check()

    assert outcome.status == "completed"
    assert outcome.metrics["val_loss"] == plain.metrics["val_loss"]
    assert [alert.type for alert in alerts.seen] == ["tracker_failed"]
    assert "trackers.board failed and records nothing more of this run" in alerts.seen[0].message
    assert "no route to the host" in alerts.seen[0].message
    assert failing.calls.count(hook) == 1
    assert failing.calls[-1] == "dovetail_run_end"
    assert len(notes.logged) > 2
    assert "ConnectionError: no route to the host" in (only_run(tmp_path / "failing") / "log.txt").read_text()


def test_a_tracker_does_not_hold_back_an_interruption(tmp_path):
    """Ctrl-C inside a tracker ends the run; it is no failure of the tracker."""

    class Interrupting:
        def dovetail_log(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(small(tmp_path, trackers={"board": Interrupting()}))
