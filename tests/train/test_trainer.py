"""The standard trainer: its step held against a loop written by hand, and everything around the step."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dovetail.checkpoint.format import read_checkpoint
from dovetail.config.diagnostics import ConfigError
from dovetail.data import Splits
from dovetail.data.errors import LoaderWorkerError
from dovetail.data.samples import TensorSamples
from dovetail.losses.adapt import as_loss
from dovetail.losses.result import LossResult
from dovetail.losses.supcon import SupConLoss
from dovetail.main import run
from dovetail.models.output import ModelOutput
from dovetail.train.errors import NonFiniteLossError, OutOfMemoryError, PartError, TrainingError
from dovetail.train.gradients import Gradients
from dovetail.train.loss_log import LossLog
from dovetail.train.plan import Plan
from dovetail.train.trainer import StandardTrainer
from small_runs import only_run, small, three_blobs


def events(output: Path) -> list[dict[str, Any]]:
    """Return what the only run logged."""
    lines = (only_run(output) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def of_kind(output: Path, event: str) -> list[dict[str, Any]]:
    """Return the events of one kind."""
    return [one for one in events(output) if one["event"] == event]


class Keep:
    """A callback that keeps the run."""

    def dovetail_run_start(self, run: Any) -> None:
        """Keep it."""
        self.run = run


class Calls:
    """A callback that notes every hook it is called with."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def dovetail_epoch_start(self, epoch: int) -> None:
        """Note it."""
        self.seen.append(f"epoch {epoch} starts")

    def dovetail_batch_start(self, step: int) -> None:
        """Note it."""
        self.seen.append(f"before update {step + 1}")

    def dovetail_batch_end(self, step: int, loss: torch.Tensor) -> None:
        """Note it."""
        assert loss.ndim == 0
        assert not loss.requires_grad
        self.seen.append(f"after update {step}")

    def dovetail_validation_end(self, metrics: dict[str, float]) -> None:
        """Note it."""
        self.seen.append(f"validated {sorted(metrics)}")

    def dovetail_epoch_end(self, epoch: int) -> None:
        """Note it."""
        self.seen.append(f"epoch {epoch} ends")

    def dovetail_checkpoint_saved(self, checkpoint: Any) -> None:
        """Note it."""
        self.seen.append(f"saved {checkpoint.step}")


# --- the step ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [None, 0.1])
def test_the_weights_are_those_of_a_loop_written_by_hand(tmp_path, clip):
    """Model, loss, clipping and optimizer do what they do without a framework, to the bit where nothing is clipped."""
    keep = Keep()
    config = small(tmp_path, training={"max_epochs": 3, "max_grad_norm": clip, "test": False}, callbacks={"keep": keep})
    run(config).check()

    data = three_blobs().train
    torch.manual_seed(config.run.seed)
    again = Keep()
    twin = small(tmp_path / "twin", training={"max_steps": 1, "test": False}, callbacks={"keep": again})
    initial = initial_weights(twin)
    model = again.run.parts.model
    model.load_state_dict(initial)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.01, fused=True)
    for epoch in (1, 2, 3):
        for _, indices in keep.run.parts.loaders.train.sampler.batches(epoch):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(data.inputs[indices]), data.target_values[indices]).backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()

    for (name, ours), bare in zip(keep.run.parts.model.named_parameters(), model.parameters(), strict=True):
        # Clipping measures with an op of our own, which adds up in another order.
        tolerance = {"rtol": 0, "atol": 0} if clip is None else {"rtol": 1e-6, "atol": 1e-7}
        torch.testing.assert_close(ours, bare, **tolerance, msg=name)


def initial_weights(config: Any) -> dict[str, torch.Tensor]:
    """Run ``config`` and return the weights that its model began with."""
    weights: dict[str, torch.Tensor] = {}

    class Note:
        def dovetail_run_start(self, run: Any) -> None:
            weights.update({name: value.clone() for name, value in run.parts.model.state_dict().items()})

    table = {name: part.live for name, part in config.callbacks.items()}
    run(
        small(config.paths.output, training={"max_steps": 1, "test": False}, callbacks={**table, "note": Note()})
    ).check()
    return weights


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    weighted=st.booleans(),
    ignored=st.booleans(),
    seed=st.integers(0, 100),
)
def test_accumulated_gradients_are_those_of_one_large_batch(sizes, weighted, ignored, seed):
    """Ragged batches, class weights and ignored labels average to exactly the gradient of all samples together."""
    torch.manual_seed(seed)
    model = nn.Linear(3, 4, dtype=torch.float64)
    loss = as_loss(nn.CrossEntropyLoss(weight=torch.rand(4, dtype=torch.float64) + 0.1 if weighted else None))
    inputs, targets = torch.randn(sum(sizes), 3, dtype=torch.float64), torch.randint(0, 4, (sum(sizes),))
    if ignored:
        targets[torch.rand(len(targets)) < 0.3] = -100  # whole batches of them too
    gradients = Gradients(torch.optim.SGD(model.parameters()))

    results = []
    for part, labels in zip(inputs.split(sizes), targets.split(sizes), strict=True):
        result = loss(ModelOutput(model(part)), {"targets": labels})
        gradients.backward(result.total * result.weight)
        results.append(LossResult(result.total.detach(), {}, result.weight))
    mean = gradients.average(results)
    accumulated = [one.grad for one in model.parameters()]
    model.zero_grad()
    whole = loss(ModelOutput(model(inputs)), {"targets": targets})
    whole.total.backward()

    torch.testing.assert_close(mean, whole.total.detach())
    for ours, theirs in zip(accumulated, model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs.grad)


def test_a_short_last_group_is_an_update_of_its_own(tmp_path):
    """Seven batches, three to an update, are three updates, the last of one batch; every sample counts once."""
    keep = Keep()
    run(small(tmp_path, training={"max_epochs": 1, "accumulate": 3}, callbacks={"keep": keep})).check()

    assert keep.run.plan == Plan(max_epochs=1, steps_per_epoch=3, total_steps=3)
    assert (keep.run.state.step, keep.run.state.batch, keep.run.state.samples_seen) == (3, 7, 100)


@pytest.mark.parametrize(
    "loss,name",
    [
        ({"type": "supcon"}, "supcon"),
        ({"type": "peft_aware", "loss": {"type": "supcon"}}, "supcon"),
        ({"type": "cross_entropy"}, None),
        (SupConLoss(), None),
    ],
)
def test_a_loss_whose_batches_do_not_add_up_is_not_accumulated(tmp_path, loss, name):
    """Unless somebody says so, or it is an object of Python, of which nothing is known."""
    model, done = nn.Linear(4, 3), 0
    for training in ({}, {"accumulate": 2}, {"accumulate": 2, "accumulate_any_loss": True}):
        config = small(tmp_path, model=model, loss=loss, training={"max_epochs": 1, **training})
        if name and "accumulate" in training and "accumulate_any_loss" not in training:
            with pytest.raises(ConfigError, match=f"training.accumulate: loss '{name}' does not claim to be additive"):
                run(config)
        else:
            done += run(config).check().status == "completed"
    assert done == (2 if name else 3)


def test_accumulation_over_an_epoch_is_one_large_batch(tmp_path):
    """Seven ragged batches accumulated give the weights of a single batch of all 100 samples, to rounding."""
    sgd = {"type": "sgd", "lr": 0.1, "momentum": 0.0, "nesterov": False}
    one, other = Keep(), Keep()
    shared = {"optimizer": sgd, "metrics": {}}
    run(small(tmp_path / "a", **shared, training={"max_epochs": 2, "accumulate": 7}, callbacks={"keep": one})).check()
    run(small(tmp_path / "b", **shared, loader={"batch_size": 100}, callbacks={"keep": other})).check()

    assert one.run.state.step == other.run.state.step == 2
    for ours, theirs in zip(one.run.parts.model.parameters(), other.run.parts.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_an_optimizer_may_ask_for_the_loss_again(tmp_path):
    """L-BFGS needs no trainer but one line in ``update``; the loss logged is the first one asked for."""

    class ClosureTrainer(StandardTrainer):
        def update(self, run: Any, closure: Any) -> torch.Tensor:
            loss: torch.Tensor = run.parts.optimizer.step(closure)
            return loss

    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=5)
    keep = Keep()
    config = small(
        tmp_path,
        model=model,
        optimizer=optimizer,
        trainer=ClosureTrainer(),
        loader={"batch_size": 100},
        callbacks={"keep": keep},
    )
    outcome = run(config).check()

    assert keep.run.state.samples_seen == 200
    assert outcome.metrics["train_loss"] < 0.1  # two updates: only the many evaluations inside each get there
    assert outcome.metrics["val_accuracy"] > 0.9


def test_each_seam_can_be_replaced(tmp_path):
    """A trainer says only what differs: batches, their preparation, the loss, the update, the evaluation."""
    called: set[str] = set()

    class Own(StandardTrainer):
        def batches(self, run: Any) -> Any:
            called.add("batches")
            return list(super().batches(run))[:2]

        def prepare_batch(self, run: Any, batch: Any) -> Any:
            called.add("prepare_batch")
            return {**super().prepare_batch(run, batch), "inputs": batch["inputs"] * 2}

        def compute_loss(self, run: Any, batch: Any) -> LossResult:
            called.add("compute_loss")
            result = super().compute_loss(run, batch)
            return LossResult(result.total * 3, {"tripled": result.total}, result.weight)

        def update(self, run: Any, closure: Any) -> torch.Tensor:
            called.add("update")
            return super().update(run, closure)

        def evaluation_step(self, run: Any, batch: Any) -> Any:
            called.add("evaluation_step")
            outputs, result = super().evaluation_step(run, batch)
            return outputs, LossResult(result.total * 0 + 7, {}, result.weight)

    outcome = run(small(tmp_path, trainer=Own())).check()

    assert called == {"batches", "prepare_batch", "compute_loss", "update", "evaluation_step"}
    assert outcome.metrics["val_loss"] == pytest.approx(7)
    assert outcome.metrics["train_loss"] == pytest.approx(3 * outcome.metrics["train_tripled"])


def test_a_step_reads_nothing_back_and_calls_no_hook(tmp_path, monkeypatch):
    """Between two logs no value is read from the device, which the CPU stands for here, and no part is called."""
    monkeypatch.setattr("dovetail.train.loss_log.HOSTS", frozenset())

    def plain(outputs: ModelOutput, batch: Any) -> LossResult:
        total = nn.functional.cross_entropy(outputs.logits, batch["targets"])
        return LossResult(total, {"double": total * 2}, float(len(batch["targets"])))

    reads: list[str] = []
    watching = False
    for name in ("item", "tolist", "__float__", "__bool__", "cpu"):
        real = getattr(torch.Tensor, name)

        def spy(self: Any, *args: Any, _name: str = name, _real: Any = real) -> Any:
            if watching:
                reads.append(_name)
            return _real(self, *args)

        monkeypatch.setattr(torch.Tensor, name, spy)

    class Watched(StandardTrainer):
        def batches(self, run: Any) -> Any:
            nonlocal watching
            for number, batch in enumerate(super().batches(run)):
                watching = number > 1  # after the trial of what a checkpoint will hold
                yield batch
            watching = False

    run(small(tmp_path, trainer=Watched(), loss=plain, training={"max_epochs": 1, "max_grad_norm": None})).check()

    assert reads == []


# --- precision --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["bf16", "fp16", "tf32"])
def test_every_precision_learns_and_leaves_nothing_behind(tmp_path, precision):
    """Autocast, the scaler and TF32 work with accumulation, clipping and a schedule, and end with the run."""
    keep = Keep()
    before = torch.backends.cuda.matmul.fp32_precision
    config = small(
        tmp_path,
        optimizer={"type": "adamw", "lr": 0.05},
        training={"max_epochs": 4, "precision": precision, "accumulate": 2},
        scheduler={"type": "warmup_cosine"},
        callbacks={"keep": keep},
    )
    outcome = run(config).check()

    assert outcome.test_metrics["test_accuracy"] > 0.9
    assert (keep.run.parts.scaler is not None) == (precision == "fp16")
    assert all(one.dtype == torch.float32 for one in keep.run.parts.model.parameters())
    assert torch.backends.cuda.matmul.fp32_precision == before
    assert not torch.is_autocast_enabled("cpu")


def test_the_scale_of_half_precision_is_part_of_a_checkpoint(tmp_path):
    """So is how many updates it has been there for."""
    keep = Keep()
    run(small(tmp_path, training={"precision": "fp16", "test": False}, callbacks={"keep": keep})).check()
    saved = read_checkpoint(keep.run.checkpoints.latest().path)["scaler"]

    assert saved == keep.run.parts.scaler.state_dict()
    assert saved["_growth_tracker"] > 0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_a_compiled_model_is_the_same_model(tmp_path):
    """It learns alike, and its checkpoint has the names of the model that was given."""
    ends = []
    for compiled in (False, True):
        keep = Keep()
        config = small(
            tmp_path / str(compiled),
            training={"max_epochs": 1},
            hardware={"compile": compiled},
            loader={"drop_last": True},
            callbacks={"keep": keep},
        )
        outcome = run(config).check()
        model = read_checkpoint(keep.run.checkpoints.latest().path)["model"]
        ends.append((outcome.metrics["val_loss"], list(model)))

    assert ends[0][1] == ends[1][1] == ["hidden.0.weight", "hidden.0.bias", "head.weight", "head.bias"]
    assert ends[0][0] == pytest.approx(ends[1][0], rel=1e-4)


# --- cadences and names -----------------------------------------------------------------------------------------------


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


def test_figures_are_named_by_split_and_written_as_they_come(tmp_path):
    """metrics.jsonl has training every ``logging.every`` updates, each validation, each epoch and the test."""
    run(small(tmp_path, logging={"every": 3}, metrics={"confusion": {"type": "confusion_matrix"}})).check()

    found = events(tmp_path)
    assert [(one["event"], one["epoch"], one["step"]) for one in found] == [
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


def test_the_training_loss_is_the_mean_over_samples(tmp_path):
    """A ragged last batch counts for what it is: the epoch's loss is Σ loss·samples / Σ samples."""
    losses: list[tuple[float, int]] = []

    class Noting(StandardTrainer):
        def compute_loss(self, run: Any, batch: Any) -> LossResult:
            result = super().compute_loss(run, batch)
            losses.append((result.total.item(), len(batch["targets"])))
            return result

    outcome = run(small(tmp_path, trainer=Noting(), training={"max_epochs": 1})).check()

    expected = sum(loss * size for loss, size in losses) / 100
    assert outcome.metrics["train_loss"] == pytest.approx(expected, rel=1e-12)


def test_parts_of_a_loss_are_logged_also_those_that_come_and_go(tmp_path):
    """Each part is averaged over the batches that had it."""
    count = 0

    def loss(outputs: ModelOutput, batch: Any) -> LossResult:
        nonlocal count
        count += 1
        total = nn.functional.cross_entropy(outputs.logits, batch["targets"])
        parts = {"data": total * 0 + 2, **({"rare": total * 0 + count} if count in {3, 5} else {})}
        return LossResult(total, parts, float(len(batch["targets"])))

    outcome = run(small(tmp_path, loss=loss, training={"max_epochs": 1})).check()

    assert outcome.metrics["train_data"] == outcome.metrics["val_data"] == 2.0
    assert outcome.metrics["train_rare"] == 4.0


def test_training_batches_are_measured_too(tmp_path):
    """Figures of the epoch so far with each log, of the whole epoch at its end, also where updates are accumulated."""
    seen: list[float] = []

    class Noting(StandardTrainer):
        def compute_loss(self, run: Any, batch: Any) -> LossResult:
            with torch.no_grad():
                right = run.parts.model(batch["inputs"]).argmax(1) == batch["targets"]
            seen.extend(right.tolist())
            return super().compute_loss(run, batch)

    outcome = run(
        small(
            tmp_path,
            trainer=Noting(),
            training={"train_metrics": True, "accumulate": 2},
            metrics={"own": CountsBatches()},
            logging={"every": 2},
        )
    ).check()
    logged = [one["metrics"]["train_accuracy"] for one in of_kind(tmp_path, "train")]

    assert outcome.metrics["train_accuracy"] == sum(seen[100:]) / 100
    assert outcome.metrics["train_batches"] == 7.0
    assert outcome.metrics["val_batches"] == 2.0
    assert logged == [
        sum(seen[start:end]) / (end - start) for start, end in [(0, 64), (0, 100), (100, 164), (100, 200)]
    ]


class CountsBatches:
    """A metric from Python, which is copied for the training batches."""

    def __init__(self) -> None:
        self.reset()

    def update(self, outputs: Any, batch: Any) -> None:
        """Count one."""
        assert not outputs.logits.requires_grad
        self.count += 1

    def compute(self) -> dict[str, float]:
        """Return the number."""
        return {"batches": float(self.count)}

    def reset(self) -> None:
        """Begin anew."""
        self.count = 0


def test_steps_bound_a_run_and_the_last_weights_are_validated(tmp_path):
    """max_steps ends a run in the middle of an epoch; what it ended with is measured and saved at any cadence."""
    config = small(tmp_path, training={"max_epochs": None, "max_steps": 10, "validate_every": {"epochs": 50}})
    outcome = run(config).check()

    assert outcome.status == "completed"
    assert [(one["epoch"], one["step"]) for one in of_kind(tmp_path, "validation")] == [(2, 10)]
    assert [(one["epoch"], one["step"]) for one in of_kind(tmp_path, "epoch")] == [(1, 7), (2, 10)]
    assert [one.name for one in sorted((only_run(tmp_path) / "checkpoints").glob("step-*"))] == [
        "step-00000007",
        "step-00000010",
    ]


def test_validation_and_checkpoints_by_steps(tmp_path):
    """Every so many updates, also where one falls on an epoch's end, and once more at the end of the run."""
    config = small(
        tmp_path,
        training={"validate_every": {"steps": 7}},
        checkpoint={"every": {"steps": 4}, "keep_best": 0, "keep_last": 99, "monitor": "train_loss"},
    )
    run(config).check()

    assert [one["step"] for one in of_kind(tmp_path, "validation")] == [7, 14]
    saved = sorted(int(one.name[5:]) for one in (only_run(tmp_path) / "checkpoints").glob("step-*"))
    assert saved == [4, 7, 8, 12, 14]  # 7 and 14: the best training loss so far


@pytest.mark.parametrize("minutes,number", [(0.0005, 7), (60, 1)])
def test_checkpoints_by_the_clock(tmp_path, minutes, number):
    """``minutes`` is looked at between updates: after each that takes longer, or else at the end alone."""

    class Slow:
        def dovetail_batch_end(self) -> None:
            time.sleep(0.04)

    calls = Calls()
    config = small(
        tmp_path,
        training={"max_epochs": 1, "test": False},
        checkpoint={"every": {"minutes": minutes}},
        callbacks={"slow": Slow(), "calls": calls},
    )
    run(config).check()

    assert len([one for one in calls.seen if one.startswith("saved")]) == number


def test_a_run_without_validation_and_test_keeps_its_last_weights(tmp_path):
    """Nothing is monitored, nothing is best, everything else works."""
    outcome = run(small(tmp_path, data=Splits(three_blobs().train))).check()

    assert (outcome.best_epoch, outcome.best_metric, outcome.test_metrics) == (None, None, {})
    assert set(outcome.metrics) == {"train_loss", "lr", "samples_per_second"}
    assert list((only_run(tmp_path) / "checkpoints").glob("step-00000014"))


def test_a_metric_that_rises_is_monitored_upwards(tmp_path):
    """``mode = "auto"`` goes by the metric's name, and the checkpoint manager agrees with the state."""
    keep = Keep()
    config = small(tmp_path, checkpoint={"monitor": "val_accuracy"}, callbacks={"keep": keep})
    outcome = run(config).check()
    best = keep.run.checkpoints.best()

    assert (
        best.metrics["val_accuracy"]
        == outcome.best_metric
        == max(one["metrics"]["val_accuracy"] for one in of_kind(tmp_path, "validation"))
    )
    assert best.epoch == outcome.best_epoch


def test_a_misspelt_monitor_is_refused_before_the_first_update(tmp_path):
    """The names of the figures are known from one batch of validation."""
    outcome = run(small(tmp_path, checkpoint={"monitor": "val_acuracy"}))

    assert outcome.status == "failed"
    assert "checkpoint.monitor: there is no metric 'val_acuracy'; did you mean 'val_accuracy'?" in outcome.reason
    assert not (only_run(tmp_path) / "metrics.jsonl").exists()


@pytest.mark.parametrize("every, rates", [("epoch", [0.01, 0.005]), ("update", [0.01 * 0.5**7, 0.01 * 0.5**14])])
def test_a_scheduler_steps_per_epoch_or_per_update(tmp_path, every, rates):
    """The scheduler says when, unless the run file does. An epoch is logged with the rate it had."""
    run(small(tmp_path, scheduler={"type": "step", "step_size": 1, "gamma": 0.5, "every": every})).check()

    assert [one["metrics"]["lr"] for one in of_kind(tmp_path, "epoch")] == pytest.approx(rates)


def test_a_plateau_scheduler_reads_the_metric_it_is_told(tmp_path):
    """It steps per epoch, on ``monitor``, and refuses a metric that is not there."""
    plateau = {"type": "plateau", "patience": 0, "factor": 0.5, "threshold": 1e9, "threshold_mode": "abs"}
    run(small(tmp_path / "a", training={"max_epochs": 3}, scheduler={**plateau, "monitor": "train_loss"})).check()
    outcome = run(small(tmp_path / "b", scheduler={**plateau, "monitor": "val_los"}))

    assert [one["metrics"]["lr"] for one in of_kind(tmp_path / "a", "epoch")] == [0.01, 0.01, 0.005]
    assert "scheduler.monitor: there is no metric 'val_los'; did you mean 'val_loss'?" in outcome.reason


# --- stopping ---------------------------------------------------------------------------------------------------------


def test_a_part_stops_a_run_after_the_update_it_asks_in(tmp_path):
    """The rest of the epoch is not trained; what there is is validated, saved and tested."""

    class Enough:
        def dovetail_batch_end(self, run: Any, step: int) -> None:
            if step == 3:
                run.request_stop("three are enough", by=self)
                run.request_stop("too late to matter", by="nobody")

    outcome = run(small(tmp_path, callbacks={"enough": Enough()}))

    assert (outcome.status, outcome.reason) == ("stopped_early", "three are enough")
    assert outcome.stopped_by == "callbacks.enough"
    assert [one["step"] for one in events(tmp_path)] == [3, 3, 3]
    assert "test_loss" in outcome.test_metrics


class Clock:
    """Goes on as fast as real time does, and when it is told to."""

    def __init__(self) -> None:
        self._real, self._more = time.monotonic, 0.0

    def monotonic(self) -> float:
        """Return the seconds."""
        return self._real() + self._more

    def go_on(self, seconds: float) -> None:
        """Let time pass."""
        self._more += seconds


@pytest.fixture
def clock(monkeypatch):
    """A clock with which minutes pass at once, beside which real seconds are nothing, however many a machine needs."""
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock.monotonic)
    return clock


def test_the_wall_clock_is_kept(tmp_path, clock):
    """A run stops before its limit, with a checkpoint of the last update and without a test."""

    class Slow:
        def dovetail_batch_end(self, step: int) -> None:
            clock.go_on(598 if step == 10 else 0)

    keep = Keep()
    config = small(
        tmp_path,
        training={"max_epochs": 1000},
        budget={"wall_clock": "10m"},
        callbacks={"slow": Slow(), "keep": keep},
    )
    outcome = run(config)

    assert (outcome.status, outcome.stopped_by) == ("out_of_budget", "budget.wall_clock")
    assert outcome.test_metrics == {}
    assert keep.run.checkpoints.latest().step == keep.run.state.step == 10


def test_no_update_is_begun_that_would_end_too_late(tmp_path, clock):
    """However long an update takes, the run has ended before its limit."""

    class Slow:
        def dovetail_batch_start(self) -> None:
            clock.go_on(150)

    outcome = run(small(tmp_path, budget={"wall_clock": "10m"}, callbacks={"slow": Slow()}))

    assert (outcome.status, outcome.stopped_by) == ("out_of_budget", "budget.wall_clock")
    assert 450 <= outcome.total_time < 600


@pytest.mark.parametrize("device_losses", ["nan", "inf"])
def test_a_loss_that_is_no_number_ends_the_run_one_update_late(tmp_path, device_losses):
    """The next update is not made, the spoiled weights are not saved, and the best checkpoint stays what it was."""
    keep, count = Keep(), 0

    def loss(outputs: ModelOutput, batch: Any) -> LossResult:
        nonlocal count
        total = nn.functional.cross_entropy(outputs.logits, batch["targets"])
        if torch.is_grad_enabled():
            count += 1
        return LossResult(total * (float(device_losses) if count == 10 else 1.0), {}, float(len(batch["targets"])))

    outcome = run(small(tmp_path, loss=loss, training={"max_epochs": 3, "max_grad_norm": None}, callbacks={"k": keep}))

    assert outcome.status == "failed"
    assert isinstance(outcome.error, NonFiniteLossError)
    assert "by update 10 (epoch 2, batch 3)" in outcome.reason
    assert "training.max_grad_norm = 1.0" in outcome.reason
    assert count == 10
    assert keep.run.checkpoints.latest().step == keep.run.checkpoints.best().step == 7
    assert (outcome.best_epoch, keep.run.state.step) == (1, 10)


def test_a_gradient_that_is_no_number_is_not_saved_either(tmp_path):
    """A finite loss with an infinite gradient spoils the weights just so."""

    def loss(outputs: ModelOutput, batch: Any) -> LossResult:
        zero = (outputs.logits * 0).abs().sum()
        return LossResult(zero.sqrt(), {}, float(len(batch["targets"])))

    outcome = run(small(tmp_path, loss=loss, training={"max_steps": 1, "max_epochs": None}))

    assert isinstance(outcome.error, NonFiniteLossError)
    assert not list((only_run(tmp_path) / "checkpoints").glob("step-*"))


def test_a_validation_that_is_no_number_is_never_the_best(tmp_path):
    """NaN is worse than everything, also where it comes first."""
    values = iter([math.nan, 0.5, math.nan, 0.9])

    class Odd:
        def update(self, outputs: Any, batch: Any) -> None:
            """Do nothing."""

        def compute(self) -> dict[str, float]:
            return {"odd": next(values, 0.0)}

        def reset(self) -> None:
            """Do nothing."""

    config = small(
        tmp_path,
        metrics={"odd": Odd()},
        training={"max_epochs": 3, "test": False},
        checkpoint={"monitor": "val_odd", "mode": "min"},
    )
    outcome = run(config).check()

    assert (outcome.best_epoch, outcome.best_metric) == (1, 0.5)  # the first NaN went to the look before training


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_out_of_memory_names_what_helps(tmp_path):
    """The message has the batch size and the settings that would help; the last checkpoint stays good."""

    class Hungry(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.calls = nn.Linear(4, 3), 0

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            self.calls += self.training
            if self.calls == 9:
                torch.empty(1 << 52)
            logits: torch.Tensor = self.layer(inputs)
            return logits

    keep = Keep()
    outcome = run(small(tmp_path, model=Hungry(), callbacks={"keep": keep}))

    assert isinstance(outcome.error, OutOfMemoryError)
    assert "loader.batch_size = 16" in outcome.reason
    assert "loader.batch_size = 8 with training.accumulate = 2" in outcome.reason
    assert 'training.precision = "bf16"' in outcome.reason
    assert keep.run.checkpoints.latest().step == 7


class Deadly:
    """A dataset whose worker is killed on one sample, as a machine short of memory does."""

    num_classes = 3
    input_shape = (4,)

    def __len__(self) -> int:
        """Return the number of samples."""
        return 64

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Return one, or die."""
        if index == 60 and torch.utils.data.get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.zeros(4), index % 3


@pytest.mark.slow
def test_a_killed_loader_worker_is_said(tmp_path):
    """No hang, and a message that says what to change."""
    outcome = run(small(tmp_path, data=Splits(Deadly()), loader={"num_workers": 2}))

    assert isinstance(outcome.error, LoaderWorkerError)
    assert "loader.num_workers" in outcome.reason


def test_state_that_cannot_be_saved_is_refused_after_one_update(tmp_path):
    """A callback with a socket in its state does not cost hours of training."""

    class Odd:
        def state_dict(self) -> dict[str, object]:
            return {"socket": object()}

    keep = Keep()
    outcome = run(small(tmp_path, callbacks={"odd": Odd(), "keep": keep}))

    assert outcome.status == "failed"
    assert "callbacks.odd.socket" in outcome.reason
    assert keep.run.state.step == 1


def test_a_trainer_without_batches_is_told(tmp_path):
    """An empty epoch would repeat for ever."""

    class Empty(StandardTrainer):
        def batches(self, run: Any) -> Any:
            return []

    outcome = run(small(tmp_path, trainer=Empty(), training={"max_epochs": None, "max_steps": 5}))

    assert isinstance(outcome.error, TrainingError)
    assert "epoch 1 had no batches" in outcome.reason


def test_a_failing_batch_hook_names_its_part(tmp_path):
    """Hot hooks are called as carefully as the others."""

    class Bad:
        def dovetail_batch_end(self) -> None:
            raise KeyError("lost")

    outcome = run(small(tmp_path, callbacks={"bad": Bad()}))

    assert isinstance(outcome.error, PartError)
    assert outcome.reason == "callbacks.bad failed in dovetail_batch_end: KeyError: 'lost'"
    assert outcome.stopped_by == "callbacks.bad"


# --- models and data in other forms -----------------------------------------------------------------------------------


class TakesMask(nn.Module):
    """A model with a mask, and inputs by name."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.masks = 0

    def forward(self, values: torch.Tensor, mask: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Return logits in a dict."""
        self.masks += mask is not None
        return {"logits": self.layer(values), "hidden": values}


def test_inputs_by_name_and_masks_reach_the_model(tmp_path):
    """A dict is passed as keywords, and the mask where ``forward`` takes one."""

    def collate(samples: list[Any]) -> dict[str, Any]:
        values = torch.stack([sample[0] for sample in samples])
        targets = torch.stack([sample[1] for sample in samples])
        return {"inputs": {"values": values}, "targets": targets, "mask": torch.ones(len(samples), 4, dtype=torch.bool)}

    model = TakesMask()
    outcome = run(small(tmp_path, model=model, collator=collate, training={"max_epochs": 1})).check()

    assert model.masks == 1 + 7 + 2 + 2  # one batch is tried before the first epoch
    assert outcome.metrics["val_loss"] > 0


def test_a_loss_with_parameters_trains_them(tmp_path):
    """They go to the optimizer, to the checkpoint and back."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return nn.functional.cross_entropy(logits * self.scale, target)

    loss, keep = Scaled(), Keep()
    run(small(tmp_path, loss=loss, callbacks={"keep": keep})).check()

    assert loss.scale.item() != 1.0
    assert sum(one.numel() for one in keep.run.parts.model.parameters()) + 1 == sum(
        one.numel() for group in keep.run.parts.optimizer.param_groups for one in group["params"]
    )


def test_layers_that_were_frozen_in_eval_mode_stay_so(tmp_path):
    """Validation gives every layer back the mode it had."""
    modes: list[bool] = []

    class Freeze:
        def dovetail_epoch_start(self, run: Any) -> None:
            run.parts.model[1].eval()

        def dovetail_batch_end(self, run: Any) -> None:
            modes.append(run.parts.model[1].training)

    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    run(small(tmp_path, model=model, callbacks={"freeze": Freeze()}, training={"validate_every": {"steps": 2}})).check()

    assert not any(modes)
    assert len(modes) == 14


def test_two_metrics_of_one_kind_are_told_apart(tmp_path):
    """The second is named by its place in the run file."""
    metrics = {"accuracy": {"type": "accuracy"}, "strict": {"type": "accuracy"}}
    outcome = run(small(tmp_path, metrics=metrics)).check()

    assert outcome.metrics["val_accuracy"] == outcome.metrics["val_strict_accuracy"]


# --- the tape ---------------------------------------------------------------------------------------------------------


@given(
    losses=st.lists(st.tuples(st.floats(-1e3, 1e3, width=32), st.integers(0, 50)), max_size=40),
    read_after=st.sets(st.integers(0, 39)),
)
def test_a_tape_gives_the_same_sums_whenever_it_is_read(losses, read_after):
    """Reading early, late or by itself when it is full makes no bit of difference."""
    one, other = LossLog(torch.device("cpu"), length=7), LossLog(torch.device("cpu"))
    for place, (loss, weight) in enumerate(losses):
        result = LossResult(torch.tensor(loss), {"part": torch.tensor(loss * 2)}, torch.tensor(float(weight)))
        one.add(result, weight)
        other.add(result, weight)
        if place in read_after:
            one.read()
    total = sum(weight for _, weight in losses)
    expected = sum(loss * weight for loss, weight in losses) / total if total else math.nan

    assert one.end_epoch() == other.end_epoch()
    assert one.start_interval().means("x")["x_loss"] == pytest.approx(expected, nan_ok=True)
    assert one.epoch.means("x")["x_loss"] != one.epoch.means("x")["x_loss"]  # nothing since: NaN


def test_a_tape_goes_on_from_its_state():
    """The epoch's sums are part of a checkpoint in the middle of an epoch."""
    tape, fresh = LossLog(torch.device("cpu")), LossLog(torch.device("cpu"))
    tape.add(LossResult(torch.tensor(2.0), {"p": torch.tensor(1.0)}, 3.0), 3)
    tape.add_norm(torch.tensor(5.0))
    fresh.load_state_dict(tape.state_dict())
    for one in (tape, fresh):
        one.add(LossResult(torch.tensor(4.0), {}, 1.0), 1)

    assert fresh.end_epoch() == tape.end_epoch()
    assert fresh.start_interval().means("train") == {"train_loss": 2.5, "train_p": 1.0}


@given(st.integers(1, 100), st.integers(1, 9), st.integers(1, 20) | st.none(), st.integers(1, 99) | st.none())
def test_a_plan_ends_at_the_nearer_limit(batches, accumulate, epochs, steps):
    """Its epochs and updates agree with each other and with the limits given."""
    if epochs is None and steps is None:
        with pytest.raises(ValueError, match="never ends"):
            Plan.make(batches, accumulate=accumulate, max_epochs=None, max_steps=None)
        return
    plan = Plan.make(batches, accumulate=accumulate, max_epochs=epochs, max_steps=steps)

    assert plan.steps_per_epoch == math.ceil(batches / accumulate)
    assert plan.total_steps <= (steps or math.inf)
    assert plan.max_epochs <= (epochs or math.inf)
    assert (plan.max_epochs - 1) * plan.steps_per_epoch < plan.total_steps <= plan.max_epochs * plan.steps_per_epoch


def test_samples_held_in_memory_are_not_copied_by_a_run(tmp_path):
    """The dataset passed from Python is the one that is trained on."""
    data, keep = three_blobs(), Keep()
    run(small(tmp_path, data=data, callbacks={"keep": keep})).check()

    assert isinstance(data.train, TensorSamples)
    assert keep.run.parts.loaders.train.dataset is data.train


def test_an_optimizer_made_for_another_model_is_refused(tmp_path):
    """An object from Python that updates nothing of the run would train nothing."""
    model, other = nn.Linear(4, 3), nn.Linear(4, 3)

    with pytest.raises(ConfigError, match="optimizer: none of its parameters belongs to the model or the loss"):
        run(small(tmp_path, model=model, optimizer=torch.optim.SGD(other.parameters(), lr=0.1)))
    assert run(small(tmp_path, model=model, optimizer=torch.optim.SGD([model.bias], lr=0.1))).check()
