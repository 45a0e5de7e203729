"""Trainers of one's own: batches of their own number, state that no checkpoint has, losses that train nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dovetail.checkpoint.format import read_checkpoint
from dovetail.config.diagnostics import ConfigError
from dovetail.losses.result import LossResult
from dovetail.main import resume, run
from dovetail.train.checkpoints.unsaved import UNSAVED
from dovetail.train.dry_run import check
from dovetail.train.errors import NoBatchesError, PartError, TrainingError, known_error
from dovetail.train.first_batch import ZERO_GRADIENT
from dovetail.train.trainer import StandardTrainer
from small_runs import only_run, small


class StopAt:
    """A callback that asks for the end after an update."""

    def __init__(self, step: int) -> None:
        self.step = step

    def dovetail_batch_end(self, run: Any, step: int) -> None:
        """Ask."""
        if step == self.step:
            run.request_stop("that is enough", by="test", status="interrupted")


class Singles(StandardTrainer):
    """Trains on 20 batches of 5 samples in an epoch, where the loader has 7."""

    def batches(self, run):
        """Return them in an order of the epoch's own."""
        order = torch.randperm(100, generator=torch.Generator().manual_seed(run.state.epoch))
        for chosen in list(order.split(5))[run.state.batch :]:
            yield run.parts.loaders.train.reread(run.state.epoch, chosen.numpy())


class Counted(Singles):
    """Says so."""

    def num_batches(self, loader):
        """Count."""
        return len(loader.dataset) // 5


def alerts(output: Path, kind: str) -> list[str]:
    """Return what the only run alerted of."""
    file = only_run(output) / "alerts.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [one["message"] for one in lines if one["type"] == kind]


def rates(output: Path) -> list[float]:
    """Return the learning rate at the end of each epoch."""
    lines = (only_run(output) / "metrics.jsonl").read_text().splitlines()
    return [one["metrics"]["lr"] for line in lines if (one := json.loads(line))["event"] == "epoch"]


COSINE = {"type": "cosine", "every": "update"}


def test_a_schedule_is_as_long_as_the_batches_that_a_trainer_counts(tmp_path):
    """With ``num_batches`` a cosine is half-way after half of the run, and nobody is warned."""
    run(small(tmp_path, trainer=Counted(), scheduler=COSINE)).check()
    half, end = rates(tmp_path)
    assert half == pytest.approx(0.005, rel=0.01)
    assert end < 1e-4
    assert not alerts(tmp_path, "epoch_length")


def test_epochs_of_another_length_than_planned_are_told_once(tmp_path):
    """Without it the schedule is over too early, and the alert says by how much and what helps."""
    run(small(tmp_path, trainer=Singles(), scheduler=COSINE)).check()
    (told,) = alerts(tmp_path, "epoch_length")
    assert "epoch 1 had 20 updates, not 7" in told
    assert "end after 14 updates" in told
    assert "num_batches(loader)" in told


def test_epochs_of_the_loaders_length_are_not_told(tmp_path):
    """Not with accumulation that leaves a short group, not where max_steps ends an epoch, not where one stops."""
    run(small(tmp_path, training={"max_steps": 9, "accumulate": 2}), listeners=[StopAt(7)]).check()
    assert not alerts(tmp_path, "epoch_length")


@pytest.mark.parametrize("trainer", [Singles, Counted])
def test_a_run_with_batches_of_its_own_resumes_where_it_was(tmp_path, trainer):
    """Also beyond as many batches as the loader has: the weights are those of a run that was never stopped."""

    def weights(output: Path) -> dict[str, torch.Tensor]:
        newest = max((only_run(output) / "checkpoints").glob("step-*"))
        return read_checkpoint(newest)["model"]

    run(small(tmp_path / "whole", trainer=trainer())).check()
    run(small(tmp_path / "broken", trainer=trainer()), listeners=[StopAt(13)]).check()
    resume(only_run(tmp_path / "broken"), small(tmp_path / "broken", trainer=trainer())).check()
    whole, broken = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


def test_a_trainer_that_counts_no_batches_is_refused(tmp_path):
    """An epoch without batches is bad input, at the trainer."""
    trainer = Counted()
    trainer.num_batches = lambda loader: 0
    with pytest.raises(ConfigError, match=r"trainer: num_batches\(\) returned 0; an epoch has at least one batch"):
        run(small(tmp_path, trainer=trainer))


class Twofold(StandardTrainer):
    """Updates one layer more with an optimizer of its own, and keeps a slow copy of it and one that never moves."""

    def __init__(self) -> None:
        self.teacher = nn.Linear(2, 2)
        self.layers = [nn.Linear(4, 3)]
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.noise = torch.Generator()

    def update(self, run, closure):
        """Update both."""
        (layer,) = self.layers
        if not self.optimizers:
            self.optimizers["second"] = torch.optim.Adam(layer.parameters())
        loss = super().update(run, closure)
        layer(torch.ones(4)).sum().backward()
        self.optimizers["second"].step()
        return loss


class Saved(Twofold):
    """Has a state."""

    def state_dict(self):
        """Return it."""
        return {"layer": self.layers[0].state_dict()}

    def load_state_dict(self, state):
        """Take it back."""
        self.layers[0].load_state_dict(state["layer"])


def test_what_no_checkpoint_has_is_told(tmp_path):
    """Another optimizer, a generator and a network that moves are named, a teacher that stays as it is is not."""
    run(small(tmp_path, trainer=Twofold())).check()
    told = alerts(tmp_path, UNSAVED)
    assert sorted(one.split(",")[0] for one in told) == [
        "trainer keeps Adam 'optimizers['second']'",
        "trainer keeps Generator 'noise'",
        "trainer keeps Linear 'layers[0]'",
    ]
    assert all("Give Twofold state_dict() and load_state_dict(state)" in one for one in told)


@pytest.mark.parametrize("sections", [{"trainer": Saved()}, {"trainer": StandardTrainer()}])
def test_a_part_with_a_state_of_its_own_is_believed(tmp_path, sections):
    """What it saves is its own affair."""
    run(small(tmp_path, **sections)).check()
    assert not alerts(tmp_path, UNSAVED)


def test_a_callback_that_holds_the_runs_own_parts_keeps_nothing(tmp_path):
    """A checkpoint has the model, its layers and the optimizer already."""

    class Holds:
        def dovetail_run_start(self, run: Any) -> None:
            self.model, self.optimizer, self.run = run.parts.model, run.parts.optimizer, run
            self.weights = list(run.parts.model.parameters())

    run(small(tmp_path, callbacks={"holds": Holds()})).check()
    assert not alerts(tmp_path, UNSAVED)


class Detached:
    """A loss whose total hangs on the outputs, but not for autograd."""

    def __call__(self, outputs, batch) -> LossResult:
        """Return it."""
        wrong = (outputs.logits.argmax(1) != batch["targets"]).float().mean()
        return LossResult(wrong.requires_grad_(), {}, len(batch["targets"]))


class Constant:
    """A loss without any graph."""

    def __call__(self, outputs, batch) -> LossResult:
        """Return it."""
        return LossResult(outputs.logits.detach().square().mean(), {}, len(batch["targets"]))


class Forgetful(StandardTrainer):
    """Computes a loss that hangs on nothing."""

    def compute_loss(self, run, batch):
        """Compute it."""
        return Detached()(run.forward(batch), batch)


@pytest.mark.parametrize(
    "sections,expected",
    [
        ({"loss": Detached()}, "loss: no gradient of 'Detached' reaches the model"),
        ({"loss": Constant()}, "loss: no gradient of 'Constant' reaches the model"),
        ({"trainer": Forgetful()}, "trainer: no gradient of 'Forgetful' reaches the model"),
        ({"loss": Detached(), "training": {"accumulate": 3}}, "loss: no gradient of 'Detached' reaches the model"),
    ],
)
def test_a_loss_that_trains_nothing_is_bad_input(tmp_path, sections, expected):
    """It would go through the whole run, and pass for one that learns badly."""
    outcome = run(small(tmp_path, **sections))
    assert isinstance(outcome.error, ConfigError)
    assert re.search(expected, outcome.reason)


class Weighted(nn.Module):
    """A loss with a weight."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, inputs, target):
        """Return it."""
        return self.weight * nn.functional.cross_entropy(inputs, target)


@pytest.mark.parametrize("optimizer", ["adamw", "lbfgs"])
@pytest.mark.parametrize("weight", [0.0, 1e-30])
def test_a_gradient_of_zero_is_told(tmp_path, weight, optimizer):
    """Once, and the run goes on: a run may be meant to begin so. A gradient that is small is none of those."""
    run(small(tmp_path, loss=Weighted(weight), optimizer={"type": optimizer, "lr": 1e-2})).check()

    told = alerts(tmp_path, ZERO_GRADIENT)
    assert len(told) == (weight == 0)
    for one in told:
        assert one.startswith(
            "the gradient of loss 'Weighted' is 0 for every weight of the model in the first update. "
        )


def test_a_model_that_is_frozen_but_for_its_loss_may_train(tmp_path):
    """Where nothing in the model is to be trained, no gradient need reach it."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, outputs, batch) -> LossResult:
            loss = nn.functional.cross_entropy(outputs.logits * self.scale, batch["targets"])
            return LossResult(loss, {}, len(batch["targets"]))

    model = nn.Linear(4, 3).requires_grad_(False)
    assert run(small(tmp_path, model=model, loss=Scaled())).check().status == "completed"


def test_a_part_that_cannot_give_its_state_is_named(tmp_path):
    """As one that fails in a hook is."""

    class Mute:
        def dovetail_epoch_end(self) -> None:
            """Do nothing."""

        def state_dict(self):
            raise KeyError("nothing")

        def load_state_dict(self, state) -> None:
            """Take nothing."""

    with pytest.raises(PartError, match=r"callbacks\.mute failed in state_dict: KeyError: 'nothing'"):
        run(small(tmp_path, callbacks={"mute": Mute()})).check()


def test_a_dry_run_finds_what_trains_nothing_and_what_has_no_batches(tmp_path):
    """Both are found before anything is trained."""

    class Empty(StandardTrainer):
        def batches(self, run):
            return []

    with pytest.raises(ConfigError, match="loss: no gradient of 'Detached' reaches the model"):
        check(small(tmp_path, loss=Detached()))
    with pytest.raises(NoBatchesError, match=r"epoch 1 had no batches: the trainer's batches\(\) yielded none"):
        check(small(tmp_path, trainer=Empty()))


def test_a_dry_run_tells_the_parts_that_compute_that_the_run_starts(tmp_path):
    """A trainer may get ready then; callbacks and trackers are not told of a run that there is not."""
    told = []

    class GetsReady(StandardTrainer):
        def dovetail_run_start(self, run):
            self.scale = 0.5

        def compute_loss(self, run, batch):
            result = super().compute_loss(run, batch)
            return result._replace(total=self.scale * result.total)

    class Tells:
        def dovetail_run_start(self, run):
            told.append(run)

        def dovetail_batch_end(self, run, step):
            told.append(step)

    found = check(small(tmp_path, trainer=GetsReady(), callbacks={"tells": Tells()}))

    assert found.loss > 0
    assert told == []


@pytest.mark.parametrize(
    "twice,expected", [(False, r"parameters 2 3 did not, counted from 0"), (True, r"mark a variable ready only once")]
)
def test_what_torch_says_of_parameters_left_out_of_a_loss_is_explained(tmp_path, twice, expected):
    """It speaks of an argument of a class that nobody here calls: a layer of no loss, and one of two."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        layers = nn.ModuleDict({"used": nn.Linear(4, 3), "other": nn.Linear(4, 3)})

        class Both(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layers = layers

            def forward(self, inputs):
                return self.layers["used"](inputs).sum() + (self.layers["other"](inputs).sum() if twice else 0)

        together = nn.parallel.DistributedDataParallel(Both())

        def train() -> None:
            for _ in range(2):
                loss = together(torch.ones(2, 4))
                if twice:
                    layers["other"](torch.ones(2, 4)).sum().backward()
                loss.backward()

        with pytest.raises(RuntimeError) as said:
            train()
    finally:
        torch.distributed.destroy_process_group()

    error = known_error(said.value, small(tmp_path))
    assert isinstance(error, TrainingError)
    assert "Call requires_grad_(False)" in str(error)
    assert re.search(expected, str(error)), str(error)
