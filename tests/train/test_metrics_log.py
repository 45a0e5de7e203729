"""The buffered metrics of a run: the same figures as without a buffer, and what a kill loses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dovetail.data.batch import Batch
from dovetail.losses.result import LossResult
from dovetail.main import run
from dovetail.metrics.accuracy import Accuracy
from dovetail.models.output import ModelOutput
from dovetail.train.loss_log import LossLog
from dovetail.train.metrics_log import LINES
from dovetail.train.trainer import StandardTrainer
from places import TESTS
from small_runs import events, only_run, small

#: Figures of the machine and not of the training.
CLOCKED = ("time", "samples_per_second")

WATCHED = {
    "training": {"max_epochs": 12, "train_metrics": True, "max_grad_norm": 0.5},
    "logging": {"every": 1},
    "loader": {"batch_size": 8},
}


class Listener:
    """A callback that gets figures, and therefore gets them at once."""

    def __init__(self):
        self.late, self.heard = [], 0

    def dovetail_run_start(self, run):
        """Keep whether the run's log is buffered."""
        self.patient = run.metrics_log.buffers

    def dovetail_log(self, run, step):
        """Count the calls."""
        self.heard += 1
        if step != run.state.step:
            self.late.append(step)


class Tracker(Listener):
    """A tracker that takes the step of the figures."""

    def __init__(self):
        super().__init__()
        self.steps, self.bursts = [], {}

    def dovetail_log(self, run, event, step, epoch):
        """Keep the figures and the time."""
        if event == "train":
            self.steps.append((epoch, step))
            self.bursts.setdefault(run.state.step, []).append(step)


class OldTracker(Listener):
    """A tracker that does not take the step."""

    def dovetail_log(self, run, event):
        """Count the calls."""
        self.heard += 1


def lines_of(output):
    """Return the lines of a run's log, without times."""
    found = []
    for line in (only_run(output) / "metrics.jsonl").read_text().splitlines():
        event = json.loads(line)
        event["metrics"] = {name: value for name, value in event["metrics"].items() if name not in CLOCKED}
        found.append({name: value for name, value in event.items() if name not in CLOCKED})
    return found


def test_buffered_lines_equal_unbuffered_lines(tmp_path):
    """Every update has a line with its own loss, accuracy, norm and rate, in order, whoever listens."""
    listener = Listener()
    monitor = {
        "gradients": {"type": "gradient_monitor", "check_interval": 3, "log_interval": 3, "on_critical": "alert"}
    }
    run(small(tmp_path / "waiting", callbacks=monitor, **WATCHED)).check()
    run(small(tmp_path / "at_once", callbacks={**monitor, "listener": {"type": listener}}, **WATCHED)).check()
    waiting, at_once = lines_of(tmp_path / "waiting"), lines_of(tmp_path / "at_once")

    assert not listener.patient
    assert not [step for step in listener.late if step % 3]  # only those of the monitor may be of an earlier update
    assert waiting == at_once
    steps = [line["step"] for line in waiting if line["event"] == "train"]
    assert steps == list(range(1, 12 * 13 + 1))
    assert all(
        line["metrics"].keys() == {"train_loss", "train_accuracy", "lr", "grad_norm"}
        for line in waiting
        if line["event"] == "train"
    )


def test_a_tracker_that_takes_the_step_gets_several_lines_at_a_time(tmp_path):
    """It gets each update once, in order."""
    tracker = Tracker()
    run(small(tmp_path, trackers={"mine": {"type": tracker}}, **WATCHED)).check()

    assert tracker.patient
    assert [step for _, step in tracker.steps] == list(range(1, 12 * 13 + 1))
    assert [epoch for epoch, _ in tracker.steps] == [1 + (step - 1) // 13 for _, step in tracker.steps]
    assert max(map(len, tracker.bursts.values())) > 1


def test_a_tracker_that_does_not_take_the_step_is_called_at_once(tmp_path):
    """It may read the step from the run."""
    tracker = OldTracker()
    run(small(tmp_path, trackers={"mine": {"type": tracker}}, **WATCHED)).check()

    assert not tracker.patient
    assert tracker.heard > 12 * 13


def test_a_failed_run_keeps_its_lines(tmp_path):
    """The file has what was logged before the failure."""

    class Failing:
        def dovetail_batch_end(self, step):
            if step == 9:
                raise RuntimeError("enough")

    outcome = run(small(tmp_path, callbacks={"failing": {"type": Failing()}}, **WATCHED))

    assert outcome.status == "failed"
    assert [line["step"] for line in lines_of(tmp_path)] == list(range(1, 9))


@pytest.mark.slow
def test_a_killed_run_loses_only_buffered_lines(tmp_path):
    """Every line in the file is complete, and at most the length of the buffer is missing."""
    program = f"""
        import os, signal
        from pathlib import Path
        from dovetail.main import run
        from small_runs import small

        class Killer:
            def dovetail_batch_end(self, step):
                if step == 301:
                    os.kill(os.getpid(), signal.SIGKILL)

        watched = {WATCHED!r}
        watched["training"] |= {{"max_epochs": 100}}
        watched["training"] |= {{"validate_every": 100}}
        run(small(Path({str(tmp_path)!r}), callbacks={{"killer": {{"type": Killer()}}}},
                  checkpoint={{"every": 100, "monitor": "train_loss"}}, **watched))
    """
    path = os.pathsep.join([str(TESTS), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env={**os.environ, "PYTHONPATH": path}, check=False
    )
    steps = [line["step"] for line in lines_of(tmp_path) if line["event"] == "train"]

    assert done.returncode == -signal.SIGKILL
    assert steps == list(range(1, len(steps) + 1))
    assert 300 - LINES <= len(steps) <= 300


def test_a_nonfinite_loss_is_not_logged(tmp_path):
    """The run ends at the next update, and its last line is of the update before."""

    class Spoiling:
        def dovetail_batch_end(self, run, step):
            if step == 20:
                with torch.no_grad():
                    for parameter in run.parts.model.parameters():
                        parameter.fill_(float("nan"))

    outcome = run(small(tmp_path, callbacks={"spoiling": {"type": Spoiling()}}, **WATCHED))
    steps = [line["step"] for line in lines_of(tmp_path) if line["event"] == "train"]

    assert outcome.status == "failed"
    assert steps == list(range(1, 21))


# --- the content of lines ---------------------------------------------------------------------------------------------


@given(
    losses=st.lists(st.tuples(st.floats(-1e3, 1e3, width=32), st.integers(1, 50)), min_size=1, max_size=30),
    cuts=st.sets(st.integers(0, 29)),
    reads=st.sets(st.integers(0, 29)),
    hosts=st.sampled_from([frozenset(), frozenset({"cpu"})]),
)
def test_interval_sums_do_not_depend_on_reading(losses, cuts, reads, hosts):
    """Reading in between changes nothing, whether losses are on the CPU or have to arrive from a device."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dovetail.train.loss_log.HOSTS", hosts)
        late = LossLog(torch.device("cpu"), length=7)
    at_once = LossLog(torch.device("cpu"))
    expected, wanted = [], 0
    for place, (loss, weight) in enumerate(losses):
        for tape in (late, at_once):
            tape.add(LossResult(torch.tensor(loss), {"part": torch.tensor(loss / 2)}, float(weight)), weight)
            tape.add_norm(abs(loss))
        if place in reads:
            late.read()
        if place in cuts:
            late.end_interval()
            expected.append(at_once.start_interval())
            wanted += 1
    found = [late.take_interval() for _ in range(wanted)]

    assert found == expected
    assert late.start_interval() == at_once.start_interval()
    assert late.end_epoch() == at_once.end_epoch()


def test_sums_of_a_double_precision_loss_are_exact():
    """On the CPU they are not rounded to single precision."""
    tape = LossLog(torch.device("cpu"))
    tape.add(LossResult(torch.tensor(1e-300, dtype=torch.float64), {}, 1.0), 1)

    assert tape.end_epoch().total == 1e-300


def test_a_nonfinite_norm_is_noticed_before_reading():
    """Even if the loss is finite."""
    tape = LossLog(torch.device("cpu"))
    tape.add(LossResult(torch.tensor(1.0), {}, 1.0), 1)
    tape.add_norm(float("inf"))

    assert tape.broken()
    assert tape.take_faults().updates == (0,)
    assert not tape.broken()


def test_a_snapshot_of_a_metric_does_not_change():
    """Neither later updates nor a reset of the metric affect it."""
    metric, batch = Accuracy(), Batch(inputs=torch.zeros(2), targets=torch.tensor([0, 1]))
    metric.update(ModelOutput(torch.tensor([[1.0, 0.0], [1.0, 0.0]])), batch)
    kept = metric.snapshot()
    metric.update(ModelOutput(torch.tensor([[1.0, 0.0], [0.0, 1.0]])), batch)
    before = metric.compute()
    metric.reset()

    assert kept.compute() == {"accuracy": 0.5}
    assert before == {"accuracy": 0.75}


class FormerName(Accuracy):
    """A metric written before ``as_it_is`` was renamed to ``snapshot``."""

    def as_it_is(self):
        """Return a snapshot."""
        return super().snapshot()

    def __getattribute__(self, name):
        """Hide the new name."""
        if name == "snapshot":
            raise AttributeError(name)
        return super().__getattribute__(name)


def test_the_former_name_of_snapshot_still_works(tmp_path):
    """A metric with ``as_it_is`` logs the same values as one with ``snapshot``, and warns once."""
    renamed = run(small(tmp_path / "renamed", **WATCHED)).check()
    with pytest.warns(DeprecationWarning, match=r"FormerName\.as_it_is\(\) is deprecated: rename it to snapshot\(\)"):
        former = run(small(tmp_path / "former", metrics={"accuracy": {"type": FormerName()}}, **WATCHED)).check()

    assert former.metrics["train_accuracy"] == renamed.metrics["train_accuracy"]


class Reusing(StandardTrainer):
    """Yields every batch in the same memory."""

    def batches(self, run):
        """Copy each batch over the previous one."""
        held = None
        for batch in super().batches(run):
            if held is not None and held["targets"].shape == batch["targets"].shape:
                held["targets"].copy_(batch["targets"])
                held["inputs"].copy_(batch["inputs"])
            else:
                held = batch
            yield held


def test_a_batch_changed_before_it_is_measured_is_refused(tmp_path):
    """Its accuracy would be that of another batch."""
    outcome = run(small(tmp_path, trainer={"type": Reusing()}, **WATCHED))

    assert outcome.status == "failed"
    assert "was changed in-place" in outcome.reason


def test_training_metrics_are_those_of_every_batch(tmp_path):
    """They are measured later, on the outputs of the update."""

    class Counting(StandardTrainer):
        def __init__(self):
            self.right = self.total = 0

        def compute_loss(self, run, batch):
            outputs = run.forward(batch)
            self.right += int((outputs.logits.argmax(-1) == batch["targets"]).sum())
            self.total += len(batch["targets"])
            return run.criterion(outputs, batch)

    trainer = Counting()
    outcome = run(small(tmp_path, trainer={"type": trainer}, training={"max_epochs": 1, "train_metrics": True}))

    assert outcome.metrics["train_accuracy"] == trainer.right / trainer.total


def test_every_event_is_written(tmp_path):
    """metrics.jsonl has training figures every ``logging.every`` updates, each validation, each epoch and the test."""
    run(small(tmp_path, logging={"every": 3}, metrics={"confusion": {"type": "confusion_matrix"}})).check()

    found = events(tmp_path)
    assert [(line["event"], line["epoch"], line["step"]) for line in found] == [
        ("train", 1, 3),
        ("train", 1, 6),
        ("validation", 1, 7),
        ("epoch", 1, 7),
        ("train", 2, 9),
        ("train", 2, 12),
        ("validation", 2, 14),
        ("epoch", 2, 14),
        ("test", 2, 14),
    ]
    assert set(found[0]["metrics"]) == {"train_loss", "lr", "samples_per_second", "grad_norm"}
    assert set(found[2]["metrics"]) == {"val_loss", "val_accuracy"}
    assert set(found[3]["metrics"]) == {"train_loss", "val_loss", "val_accuracy", "lr", "samples_per_second"}
    assert sum(map(sum, found[-1]["metrics"]["test_confusion_matrix"])) == 30
    assert all(found[place]["time"] <= found[place + 1]["time"] for place in range(len(found) - 1))
