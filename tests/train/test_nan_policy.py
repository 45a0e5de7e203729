"""The NaN policy: runs whose data, model or learning rate really produce NaN."""

from __future__ import annotations

import copy
import math
from typing import Any

import attrs
import pytest
import torch
from torch import nn

from dovetail.checkpoint.format import read_checkpoint
from dovetail.config.diagnostics import ConfigError
from dovetail.data import Splits
from dovetail.losses.result import LossResult
from dovetail.main import run
from dovetail.models.output import ModelOutput
from dovetail.train.errors import NonFiniteLossError
from dovetail.train.trainer import StandardTrainer
from small_runs import Keep, blobs, only_run, small

#: Of the 16 samples to a batch, it is in none of the first and none of the last in three epochs.
SPOILED = 10


def spoiled_data() -> Splits:
    """Return blobs with a NaN in one training sample."""
    train = blobs(100)
    inputs = train.inputs.clone()
    inputs[SPOILED, 2] = math.nan
    return Splits(attrs.evolve(train, inputs=inputs), blobs(30, seed=1), blobs(30, seed=2))


class Watch:
    """A callback that keeps the run and its alerts."""

    def __init__(self) -> None:
        self.alerts: list[Any] = []

    def dovetail_run_start(self, run: Any) -> None:
        """Keep the run."""
        self.run = run

    def dovetail_alert(self, alert: Any) -> None:
        """Keep the alert."""
        self.alerts.append(alert)

    def weights_are_finite(self) -> bool:
        """Return whether every parameter is finite."""
        return all(bool(weight.isfinite().all()) for weight in self.run.parts.model.parameters())


def go(tmp_path: Any, **sections: Any) -> tuple[Any, Watch]:
    """Run, by default on spoiled data; return the outcome and the watching callback."""
    watch = Watch()
    outcome = run(small(tmp_path, **{"data": spoiled_data(), "callbacks": {"watch": watch}, **sections}))
    return outcome, watch


def batch_of(watch: Watch, epoch: int) -> int:
    """Return the number, from 1, of the batch with the spoiled sample."""
    order = watch.run.parts.loaders.train.sampler.order(epoch).tolist()
    return order.index(SPOILED) // 16 + 1


@pytest.mark.parametrize("max_grad_norm", [None, 1.0])
def test_stop_reports_the_source_of_the_nan(tmp_path, max_grad_norm):
    """The message names the epoch, the batch, the sample, the parameters, and what to try."""
    outcome, watch = go(tmp_path, training={"max_epochs": 2, "max_grad_norm": max_grad_norm})
    number = batch_of(watch, 1)

    assert isinstance(outcome.error, NonFiniteLossError)
    assert f"by update {number} (epoch 1, batch {number}); training samples " in outcome.reason
    assert f"sample {SPOILED} holds NaN or infinite values" in outcome.reason
    assert "the gradients of " in outcome.reason
    assert next(name for name, _ in watch.run.parts.model.named_parameters()) in outcome.reason
    assert 'training.nan_policy = "skip" or "roll_back"' in outcome.reason


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_skip_continues_without_the_update(tmp_path, optimizer, accumulate):
    """The run completes with finite weights and figures, and one alert per epoch names the sample."""
    outcome, watch = go(
        tmp_path,
        optimizer={"type": optimizer, "lr": 0.01},
        training={"max_epochs": 3, "nan_policy": "skip", "accumulate": accumulate},
        logging={"every": 2},
    )

    assert outcome.status == "completed"
    assert watch.weights_are_finite()
    assert math.isfinite(outcome.metrics["train_loss"])
    assert [(alert.type, alert.epoch) for alert in watch.alerts] == [("nan_skipped", epoch) for epoch in (1, 2, 3)]
    for alert in watch.alerts:
        assert f"batch {batch_of(watch, alert.epoch)})" in alert.message
        assert f"sample {SPOILED} holds NaN" in alert.message
        assert alert.message.endswith("the update was skipped")


def test_skip_equals_a_run_without_the_batch(tmp_path):
    """Weights and optimizer state are bit-identical to those of a hand-written loop over the other batches."""
    model = nn.Linear(4, 3)
    other, data = copy.deepcopy(model), spoiled_data().train
    _, watch = go(tmp_path, model=model, training={"max_epochs": 1, "nan_policy": "skip", "max_grad_norm": None})
    optimizer = torch.optim.AdamW(other.parameters(), lr=0.01, fused=True)
    for _, indices in watch.run.parts.loaders.train.sampler.batches(1):
        if SPOILED not in indices:
            batch = data.get_batch(indices)
            optimizer.zero_grad()
            nn.functional.cross_entropy(other(batch["inputs"]), batch["targets"]).backward()
            optimizer.step()

    torch.testing.assert_close(model.state_dict(), other.state_dict(), rtol=0, atol=0)
    assert {int(state["step"]) for state in watch.run.parts.optimizer.state.values()} == {6}


def test_skip_cannot_repair_a_batch_norm(tmp_path):
    """Its running mean is NaN already, so the run fails and names the policy that restores it."""
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    outcome, _ = go(tmp_path, model=model, training={"max_epochs": 2, "nan_policy": "skip"})

    assert isinstance(outcome.error, NonFiniteLossError)
    assert "1.running_mean, 1.running_var in the model now hold NaN" in outcome.reason
    assert 'training.nan_policy = "roll_back" can' in outcome.reason


def test_roll_back_restores_the_last_checkpoint(tmp_path):
    """Buffers are restored too, training continues with the next batch, and the state counts the roll-backs."""
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    outcome, watch = go(
        tmp_path,
        model=model,
        training={"max_epochs": 3, "nan_policy": "roll_back"},
        scheduler={"type": "cosine"},
        checkpoint={"every": {"steps": 1}},
    )
    bad = [(epoch - 1) * 7 + batch_of(watch, epoch) for epoch in (1, 2, 3)]

    assert outcome.status == "completed"
    assert watch.weights_are_finite()
    assert bool(model[1].running_var.isfinite().all())
    assert watch.run.state.step == 21
    assert watch.run.state.roll_backs == 3
    assert [alert.type for alert in watch.alerts] == ["rolled_back"] * 3
    for alert, step in zip(watch.alerts, bad, strict=True):
        assert f"rolled back to the weights of update {step - 1} (roll-back" in alert.message
    # The schedule was not rolled back: its last rate is that of a run without NaN.
    assert watch.run.parts.optimizer.param_groups[0]["lr"] == pytest.approx(1e-6)  # its eta_min


def test_roll_back_needs_a_checkpoint(tmp_path):
    """A NaN before the first checkpoint ends the run with this reason."""
    outcome, _ = go(tmp_path, training={"max_epochs": 1, "nan_policy": "roll_back"})

    assert isinstance(outcome.error, NonFiniteLossError)
    assert "no sound checkpoint yet to roll back to" in outcome.reason


def test_the_number_of_roll_backs_is_limited(tmp_path):
    """They do not help against a learning rate that is far too high, so the run fails in the end."""
    outcome, watch = go(
        tmp_path,
        data=Splits(blobs(100), blobs(30, seed=1)),
        optimizer={"type": "sgd", "lr": 1e30},
        training={"max_epochs": 20, "max_grad_norm": None, "nan_policy": "roll_back", "max_roll_backs": 2},
        checkpoint={"every": {"steps": 1}},
    )

    assert isinstance(outcome.error, NonFiniteLossError)
    assert "rolled back 2 times, the limit of training.max_roll_backs" in outcome.reason
    assert [alert.type for alert in watch.alerts] == ["rolled_back"] * 2


class Root(nn.Module):
    """A model with an infinite gradient where its input is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Linear(4, 3)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Add the root of 0."""
        return self.fine(inputs) + (self.scale * 0).sqrt()


@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_a_nonfinite_gradient_names_its_parameter(tmp_path, policy):
    """The loss is finite; only the parameter under the root is named."""
    outcome, watch = go(
        tmp_path,
        model=Root(),
        data=Splits(blobs(32), blobs(30, seed=1)),
        training={"max_epochs": 1, "nan_policy": policy},
        logging={"every": 1},
    )
    messages = [outcome.reason] if policy == "stop" else [alert.message for alert in watch.alerts]

    assert outcome.status == ("failed" if policy == "stop" else "completed")
    assert len(messages) == (1 if policy == "stop" else 2)
    assert all("the gradients of scale are not finite" in message for message in messages)


class RootLater(Root):
    """The same, but only in the third training batch."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = 0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Add the root of 0 once."""
        self.batches += self.training
        return super().forward(inputs) if self.batches == 3 and self.training else self.fine(inputs)


class Saved:
    """A callback that keeps the weights in each checkpoint."""

    def __init__(self) -> None:
        self.weights: dict[int, Any] = {}

    def dovetail_checkpoint_saved(self, checkpoint: Any) -> None:
        """Read the checkpoint."""
        self.weights[checkpoint.step] = read_checkpoint(checkpoint.path)["model"]


@pytest.mark.parametrize("policy", ["stop", "roll_back"])
@pytest.mark.parametrize("background", [False, True])
def test_weights_are_checked_before_they_are_saved(tmp_path, policy, background):
    """The loss was finite and gradients are not measured, so the checkpoint after this update would hold NaN."""
    saved, watch = Saved(), Watch()
    outcome, _ = go(
        tmp_path,
        model=RootLater(),
        data=Splits(blobs(100), blobs(30, seed=1)),
        training={"max_epochs": 1, "max_grad_norm": None, "nan_policy": policy},
        checkpoint={"every": {"steps": 1}, "background": background, "keep_last": 9},
        callbacks={"watch": watch, "saved": saved},
    )
    message = outcome.reason if policy == "stop" else watch.alerts[0].message

    assert outcome.status == ("failed" if policy == "stop" else "completed")
    assert message.startswith("scale became NaN or infinite by update 3 (epoch 1)")
    assert all(bool(weight.isfinite().all()) for weights in saved.weights.values() for weight in weights.values())
    latest = watch.run.checkpoints.latest().step
    if policy == "stop":
        assert sorted(saved.weights) == [1, 2]
        assert latest == 2
        assert "the checkpoint of update 2 is the last sound one" in message
    else:
        assert sorted(saved.weights) == [1, 2, 3, 4, 5, 6, 7]
        assert watch.weights_are_finite()
        assert saved.weights[3]["fine.weight"].equal(saved.weights[2]["fine.weight"])


class Masked(nn.Module):
    """A model with infinities in a buffer, such as an attention mask."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = RootLater()
        self.register_buffer("mask", torch.tensor([0.0, -math.inf]))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the outputs without the mask."""
        outputs: torch.Tensor = self.inner(inputs)
        return outputs


@pytest.mark.parametrize("policy", ["stop", "skip", "roll_back"])
def test_infinities_in_a_buffer_are_allowed(tmp_path, policy):
    """It is saved and restored like any buffer."""
    outcome, watch = go(
        tmp_path,
        model=Masked(),
        data=Splits(blobs(100), blobs(30, seed=1)),
        training={"max_epochs": 1, "nan_policy": policy},
        checkpoint={"every": {"steps": 1}},
    )

    expected = {"stop": [], "skip": ["nan_skipped"], "roll_back": ["rolled_back"]}
    assert [alert.type for alert in watch.alerts] == expected[policy]
    assert outcome.status == ("failed" if policy == "stop" else "completed")
    assert watch.run.checkpoints.latest().step == (2 if policy == "stop" else 7)


def test_a_nonfinite_loss_with_a_finite_gradient_is_left_out_of_the_figures(tmp_path):
    """The update is made, and the alert says so."""

    def loss(outputs: Any, batch: Any) -> LossResult:
        total = nn.functional.cross_entropy(outputs.logits, batch["targets"])
        return LossResult(total + (math.nan if len(batch["targets"]) == 4 else 0.0), {}, float(len(batch["targets"])))

    outcome, watch = go(
        tmp_path,
        loss=loss,
        data=Splits(blobs(100)),
        training={"max_epochs": 1, "nan_policy": "skip", "test": False},
        checkpoint={"monitor": "train_loss"},
    )

    assert outcome.status == "completed"
    assert math.isfinite(outcome.metrics["train_loss"])
    (alert,) = watch.alerts
    assert alert.message.endswith("its gradients are finite, so the update was made")


def test_lbfgs_cannot_skip(tmp_path):
    """It compares the losses of several evaluations, so the config is refused before training."""
    with pytest.raises(ConfigError, match="lbfgs evaluates the loss several times per update, so none can be skipped"):
        go(tmp_path, optimizer={"type": "lbfgs"}, training={"max_epochs": 1, "nan_policy": "skip"})


def test_roll_back_across_phases_resets_the_optimizer(tmp_path):
    """A checkpoint of the SGD phase has no state for AdamW: the weights are restored, its moments start at 0."""
    outcome, watch = go(
        tmp_path,
        optimizer={"type": "sgd", "lr": 0.01},
        phases=[{"max_steps": 1}, {"max_epochs": 1, "optimizer": {"type": "adamw"}}],
        training={"nan_policy": "roll_back"},
        checkpoint={"every": 1},
    )
    steps = 7 - batch_of(watch, 2)

    assert outcome.status == "completed"
    assert [alert.type for alert in watch.alerts] == ["rolled_back"]
    assert {int(state["step"]) for state in watch.run.parts.optimizer.state.values()} == {steps}


def test_a_nonfinite_evaluation_is_one_alert_per_split(tmp_path):
    """For validation in three epochs and for the test; training continues, and no checkpoint is the best."""
    sound, spoiled = blobs(100), spoiled_data().train
    outcome, watch = go(tmp_path, data=Splits(sound, spoiled, spoiled), training={"max_epochs": 3})

    assert outcome.status == "completed"
    assert outcome.best_epoch is None
    assert [alert.type for alert in watch.alerts] == ["nonfinite_evaluation"] * 2
    validation, test = (alert.message for alert in watch.alerts)
    assert "val_loss is nan, so no checkpoint can be the best by it: a sample of the validation split" in validation
    assert "test_loss is nan: a sample of the test split" in test


def test_no_sample_is_named_for_a_trainers_own_batches(tmp_path):
    """Only the trainer knows which samples they hold."""

    class Backwards(StandardTrainer):
        def batches(self, run):
            loader = run.parts.loaders.train
            return [loader.reread(1, indices) for indices in torch.arange(99, -1, -1).numpy().reshape(10, 10)]

    outcome, _ = go(tmp_path, trainer=Backwards())
    assert isinstance(outcome.error, NonFiniteLossError)
    assert "by update 9 (epoch 1, batch 9); " in outcome.reason
    assert "training samples" not in outcome.reason


@pytest.mark.parametrize("device_losses", ["nan", "inf"])
def test_stop_acts_one_update_late(tmp_path, device_losses):
    """The next update is not made, the spoiled weights are not saved, and the best checkpoint stays the best."""
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


def test_weights_after_a_nonfinite_gradient_are_not_saved(tmp_path):
    """A finite loss with an infinite gradient spoils the weights too."""

    def loss(outputs: ModelOutput, batch: Any) -> LossResult:
        zero = (outputs.logits * 0).abs().sum()
        return LossResult(zero.sqrt(), {}, float(len(batch["targets"])))

    outcome = run(small(tmp_path, loss=loss, training={"max_steps": 1, "max_epochs": None}))

    assert isinstance(outcome.error, NonFiniteLossError)
    assert not list((only_run(tmp_path) / "checkpoints").glob("step-*"))
