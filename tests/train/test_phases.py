"""Phases of training: lengths, optimizers and schedules in turn, frozen parameters, L-BFGS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dovetail.checkpoint.format import read_checkpoint
from dovetail.config.api import Config
from dovetail.config.diagnostics import ConfigError
from dovetail.config.freeze import config_hash, freeze
from dovetail.data import Splits
from dovetail.data.samples import TensorSamples
from dovetail.main import run
from dovetail.optimizers.stepping import needs_closure_reevaluation
from dovetail.train.plan import Plan
from small_runs import of_kind, only_run, small, three_blobs


class KeepWeights:
    """A callback that keeps the run, and the weights at the start of each epoch and at the end."""

    def __init__(self) -> None:
        self.weights: list[dict[str, torch.Tensor]] = []
        self.rates: list[float] = []

    def dovetail_run_start(self, run: Any) -> None:
        """Keep the run."""
        self.run = run

    def _note(self) -> None:
        self.weights.append({name: weight.clone() for name, weight in self.run.parts.model.state_dict().items()})

    def dovetail_epoch_start(self) -> None:
        """Note the weights."""
        self._note()

    def dovetail_batch_end(self, run: Any) -> None:
        """Note the learning rate of the next update."""
        self.rates.append(run.parts.optimizer.param_groups[0]["lr"])

    def dovetail_run_end(self) -> None:
        """Note the weights."""
        self._note()


# --- lengths ----------------------------------------------------------------------------------------------------------


def lengths(*phases: dict[str, Any], **training: Any) -> Config:
    """Return the config of a run with phases."""
    parts = {"data": "digits", "model": "mlp", "loss": "cross_entropy"}
    made = Config.from_dict({name: {"type": kind} for name, kind in parts.items()})
    return made.with_parts(
        model={"hidden_dims": [4]}, phases=list(phases), **({"training": training} if training else {})
    )


def test_a_run_is_as_long_as_its_phases() -> None:
    """Unless ``[training]`` limits the whole run."""
    by_epochs = lengths({"max_epochs": 20}, {"max_epochs": 5}).build().training
    by_steps = lengths({"max_steps": 300}, {"max_steps": 40}).build().training
    bounded = lengths({"max_epochs": 20}, {"max_epochs": 5}, max_epochs=22).build().training
    open_ended = lengths({"max_epochs": 3}, {}).build().training

    assert (by_epochs.max_epochs, by_epochs.max_steps) == (25, None)
    assert (by_steps.max_epochs, by_steps.max_steps) == (None, 340)
    assert bounded.max_epochs == 22
    assert open_ended.max_epochs == 10


def test_the_resolved_file_gives_the_same_run() -> None:
    """It has the total length of the phases."""
    import tomli

    built = lengths({"max_epochs": 20}, {"max_epochs": 5, "optimizer": {"type": "lbfgs"}}).build()
    again = Config.from_dict(tomli.loads(freeze(built))).build()

    assert again == built
    assert config_hash(again) == config_hash(built)


@pytest.mark.parametrize(
    "phases, training, message",
    [
        ([{}, {"max_epochs": 2}], {}, "phases[0]: needs max_epochs or max_steps; only the last phase"),
        ([{"max_epochs": 10}, {}], {}, "before the last take 10 epochs; with max_epochs = 10 the last never"),
        ([{"max_epochs": 2}, {"max_epochs": 2}], {"max_epochs": 2}, "training.max_epochs: the phases before the last"),
        ([{"max_epochs": 0}], {}, "phases[0].max_epochs: must be at least 1, got 0"),
        ([{"epochs": 1}], {}, "phases[0].epochs: unknown key; did you mean 'max_epochs'?"),
        ([{"optimizer": {"type": "lbgfs"}}], {}, "phases[0].optimizer.type: unknown optimizer 'lbgfs'; did"),
    ],
)  # fmt: skip
def test_mistakes_in_phases_are_located(phases, training, message) -> None:
    """Lengths, keys and parts are checked before anything is built."""
    with pytest.raises(ConfigError) as caught:
        lengths(*phases, **training).build()

    assert message in str(caught.value)


@given(
    lengths=st.lists(st.tuples(st.none() | st.integers(1, 9), st.none() | st.integers(1, 40)), min_size=1, max_size=4),
    per_epoch=st.integers(1, 7),
    limit=st.integers(1, 60),
)
def test_plans_of_phases_stay_within_the_whole(lengths, per_epoch, limit) -> None:
    """No schedule is longer than its phase or the run, and together they are as long as the run."""
    whole = Plan.make(per_epoch, accumulate=1, max_epochs=None, max_steps=limit)
    plans = Plan.of_phases(whole, lengths)

    for plan, (epochs, steps) in zip(plans, lengths, strict=True):
        assert 1 <= plan.total_steps <= min(limit, (epochs or limit) * per_epoch, steps or limit)
    if all(epochs is None and steps is None for epochs, steps in lengths):
        assert plans[0] == whole


# --- optimizers and parameters ----------------------------------------------------------------------------------------


def test_phases_equal_consecutive_loops(tmp_path: Path) -> None:
    """Two optimizers, the second with a schedule, are bit-identical to two hand-written loops."""
    keep = KeepWeights()
    halving = {"type": "step", "step_size": 2, "gamma": 0.5, "every": "update"}
    phases = [
        {"max_epochs": 2},
        {"max_epochs": 1, "optimizer": {"type": "sgd", "lr": 0.1}, "scheduler": halving},
    ]
    training = {"test": False, "max_epochs": 3, "max_grad_norm": None}
    run(small(tmp_path, phases=phases, training=training, callbacks={"keep": keep})).check()

    data = three_blobs().train
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    model.load_state_dict(dict(zip(model.state_dict(), keep.weights[0].values(), strict=True)))
    adamw = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.01, fused=True)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4, nesterov=True, fused=True)
    schedule = torch.optim.lr_scheduler.StepLR(sgd, 2, 0.5)
    for epoch in (1, 2, 3):
        for _, indices in keep.run.parts.loaders.train.sampler.batches(epoch):
            optimizer = adamw if epoch < 3 else sgd
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(data.inputs[indices]), data.target_values[indices]).backward()
            optimizer.step()
            if optimizer is sgd:
                schedule.step()

    for ours, bare in zip(keep.run.parts.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, bare, rtol=0, atol=0)
    assert keep.rates[13] == 0.01
    assert keep.rates[14:] == [0.1, 0.05, 0.05, 0.025, 0.025, 0.0125, 0.0125]


def test_frozen_parameters_do_not_change_in_their_phase(tmp_path: Path) -> None:
    """The head is trained first, then everything; a pattern that matches no parameter is refused."""
    keep = KeepWeights()
    phases = [{"name": "head", "max_epochs": 1, "freeze": ["hidden.*"]}, {"name": "all", "max_epochs": 1}]
    run(small(tmp_path, phases=phases, training={"max_epochs": 2, "test": False}, callbacks={"keep": keep})).check()
    before, between, after = keep.weights

    for name in before:
        assert torch.equal(before[name], between[name]) == name.startswith("hidden.")
        assert not torch.equal(between[name], after[name])
    assert all(parameter.requires_grad for parameter in keep.run.parts.model.parameters())
    assert "phase 2 of 2: all" in (only_run(tmp_path) / "log.txt").read_text()

    with pytest.raises(ConfigError, match=r"phases\[1\].freeze: the model has no parameter 'hiden\.\*'"):
        run(small(tmp_path, phases=[{"max_epochs": 1}, {"freeze": ["hiden.*"]}]))
    with pytest.raises(ConfigError, match=r"phases\[0\]: there are no parameters to train"):
        run(small(tmp_path, phases=[{"freeze": ["*"]}]))


def curve(samples: int, seed: int) -> TensorSamples:
    """Return points of a smooth function of one variable."""
    places = torch.rand(samples, 1, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return TensorSamples(places, torch.sin(3 * places), None, "sine")


def test_adam_then_lbfgs_fit_a_function_closely(tmp_path: Path) -> None:
    """A few updates of L-BFGS on the full batch reach what many of Adam do not; its state is saved."""
    parts = {
        "data": Splits(curve(64, 0), curve(64, 1)),
        "model": {"num_outputs": 1, "activation": "tanh"},
        "loss": {"type": "mse"},
        "metrics": {"accuracy": "@unset"},
        "loader": {"batch_size": 64, "shuffle": False},
    }
    phases = [{"max_epochs": 100}, {"max_epochs": 20, "optimizer": {"type": "lbfgs", "max_iter": 10}}]
    adam = run(small(tmp_path / "adam", **parts, training={"max_epochs": 200})).check()
    keep = KeepWeights()
    both = run(small(tmp_path / "both", **parts, phases=phases, training={"max_epochs": 120}, callbacks={"keep": keep}))
    state = read_checkpoint(keep.run.checkpoints.latest().path)

    assert both.check().metrics["val_loss"] < adam.metrics["val_loss"] / 20
    assert state["training"]["state"]["phase"] == 1
    assert state["training"]["state"]["phase_epoch"] == 100
    assert state["optimizer"]["state"][0]["n_iter"] > 50
    assert state["optimizer"]["state"][0]["old_dirs"]


def test_a_phase_counted_in_updates_ends_its_epoch(tmp_path: Path) -> None:
    """The next phase starts with a new epoch; the weights at the end of the phase are validated and saved."""
    keep = KeepWeights()
    phases = [{"max_steps": 10}, {"max_steps": 5, "optimizer": {"type": "sgd", "lr": 0.5}}]
    config = small(
        tmp_path,
        phases=phases,
        training={"max_epochs": "@unset", "validate_every": {"epochs": 50}, "test": False},
        checkpoint={"every": {"epochs": 50}},
        callbacks={"keep": keep},
    )
    run(config).check()
    lines = [json.loads(line) for line in (only_run(tmp_path) / "metrics.jsonl").read_text().splitlines()]

    assert config.training.max_steps == 15
    assert [(line["epoch"], line["step"]) for line in lines if line["event"] == "epoch"] == [(1, 7), (2, 10), (3, 15)]
    assert [line["step"] for line in lines if line["event"] == "validation"] == [10, 15]
    assert keep.rates == [0.01] * 10 + [0.5] * 5
    assert keep.run.phases[0].optimizer.state == {}
    assert sorted(path.name for path in (only_run(tmp_path) / "checkpoints").glob("step-*")) == [
        "step-00000010",
        "step-00000015",
    ]


def test_half_precision_and_lbfgs_exclude_each_other(tmp_path: Path) -> None:
    """The scaler would have to skip an evaluation in the middle of an update."""
    with pytest.raises(ConfigError, match=r"phases\[0\]\.optimizer: lbfgs evaluates the loss several times per update"):
        run(small(tmp_path, phases=[{"optimizer": {"type": "lbfgs"}}], training={"precision": "fp16"}))


def test_which_optimizers_need_closure_reevaluation() -> None:
    """The signature of ``step`` decides, not the name of the class, and not whether it has a scheduler."""
    weight = [nn.Parameter(torch.zeros(1))]
    scheduled = [torch.optim.LBFGS(weight), torch.optim.AdamW(weight)]
    for optimizer in scheduled:
        torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)

    class Own(torch.optim.SGD):
        def step(self, closure: Any) -> Any:
            return super().step(closure)

    assert needs_closure_reevaluation(torch.optim.LBFGS(weight))
    assert needs_closure_reevaluation(Own(weight))
    assert not needs_closure_reevaluation(torch.optim.AdamW(weight))
    assert [needs_closure_reevaluation(optimizer) for optimizer in scheduled] == [True, False]


@pytest.mark.parametrize("every, rates", [("epoch", [0.01, 0.005]), ("update", [0.01 * 0.5**7, 0.01 * 0.5**14])])
def test_a_scheduler_steps_per_epoch_or_per_update(tmp_path, every, rates):
    """The scheduler decides unless the run file does. An epoch is logged with its own rate."""
    run(small(tmp_path, scheduler={"type": "step", "step_size": 1, "gamma": 0.5, "every": every})).check()

    assert [line["metrics"]["lr"] for line in of_kind(tmp_path, "epoch")] == pytest.approx(rates)


def test_a_plateau_scheduler_reads_its_monitored_metric(tmp_path):
    """It steps per epoch, and refuses a metric that does not exist."""
    plateau = {"type": "plateau", "patience": 0, "factor": 0.5, "threshold": 1e9, "threshold_mode": "abs"}
    run(small(tmp_path / "a", training={"max_epochs": 3}, scheduler={**plateau, "monitor": "train_loss"})).check()
    outcome = run(small(tmp_path / "b", scheduler={**plateau, "monitor": "val_los"}))

    assert [line["metrics"]["lr"] for line in of_kind(tmp_path / "a", "epoch")] == [0.01, 0.01, 0.005]
    assert "scheduler.monitor: there is no metric 'val_los'; did you mean 'val_loss'?" in outcome.reason
