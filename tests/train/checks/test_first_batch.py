"""The first-batch check: a part that does not fit is bad input; a broken part is a failure."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dovetail.config.diagnostics import ConfigError
from dovetail.data import Splits
from dovetail.data.samples import TensorSamples
from dovetail.losses.result import LossResult
from dovetail.main import run
from dovetail.train.checks.dry_run import check
from dovetail.train.checks.first_batch import ZERO_GRADIENT
from dovetail.train.errors import TrainingError
from dovetail.train.trainer import StandardTrainer
from small_runs import Keep, alerts, blobs, only_run, small


class Narrow(nn.Module):
    """A model of three numbers, where the data have four."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, inputs):
        """Return scores."""
        return self.body(inputs)


class Broken(Narrow):
    """A model with a mistake in its code."""

    def __init__(self, mistake: str) -> None:
        super().__init__()
        self.mistake = mistake

    def forward(self, inputs):
        """Raise the error."""
        match self.mistake:
            case "attribute":
                return self.boddy(inputs)
            case "type":
                return inputs + self.mistake
            case "index":
                return inputs.shape[7]
            case _:
                return nn.functional.linear(inputs, torch.ones(3, 5))


class Fussy:
    """A loss that refuses batches from some update on, as bad data would make it."""

    def __init__(self, bad: int) -> None:
        self.seen, self.bad = 0, bad

    def __call__(self, outputs, batch) -> LossResult:
        """Return the mean square, or refuse."""
        if torch.is_grad_enabled():
            self.seen += 1
        if self.seen > self.bad:
            raise ValueError("these numbers are no temperatures")
        return LossResult(outputs.logits.square().mean(), {}, len(outputs.logits))


class TwoClasses:
    """A metric that needs more than one batch, and refuses outputs of another width."""

    def __init__(self, width: int = 3) -> None:
        self.width, self.batches = width, 0

    def reset(self) -> None:
        """Do nothing."""
        self.batches = 0

    def update(self, outputs, batch) -> None:
        """Add a batch."""
        if outputs.logits.shape[1] != self.width:
            raise ValueError(f"takes {self.width} scores")
        self.batches += 1

    def compute(self) -> dict[str, float]:
        """Return the figure."""
        if self.batches < 2:
            raise ValueError("one class only")
        return {"two_classes": 1.0}


def outcome_and_log(tmp_path: Path, **sections: Any) -> tuple[Any, str, str]:
    """Train, and return the outcome, the log, and the written figures."""
    outcome = run(small(tmp_path, **sections))
    folder = only_run(tmp_path)
    figures = folder / "metrics.jsonl"
    return outcome, (folder / "log.txt").read_text(), figures.read_text() if figures.exists() else ""


def labels_up_to(highest: int, samples: int = 30) -> TensorSamples:
    """Return blobs with a label that is too large in the first batch, whatever the order."""
    found = blobs(samples)
    return TensorSamples(found.inputs, torch.full((samples,), highest), ("a", "b", "c"), "mislabelled")


@pytest.mark.parametrize(
    "sections,place,expected",
    [
        (
            {"model": Narrow()},
            "model",
            r"'Narrow' does not accept inputs of float32 \[16, 4\], in its layer body.0 = Linear\(.*batch.py:\d+\)",
        ),
        (
            {"data": Splits(labels_up_to(7), blobs(30))},
            "loss",
            r"'cross_entropy' does not accept outputs of float32 \[16, 3\], targets of int64 \[16\]: .*label 7 is out",
        ),
        (
            {"data": Splits(blobs(100)), "loss": {"type": "mse"}},
            "loss",
            r"'mse' does not accept outputs of float32 \[16, 3\], targets of int64 \[16\]: ",
        ),
        (
            {"metrics": {"far": {"type": "mae"}}},
            "metrics.far",
            r"'mae' does not accept outputs of float32 \[16, 3\], targets of int64 \[16\]: ",
        ),
        (
            {"data": Splits(blobs(100), test=blobs(30)), "metrics": {"far": TwoClasses(5)}},
            "metrics.far",
            r"'TwoClasses' does not accept outputs of float32 \[16, 3\], .*: takes 5 scores \(called in .*batch.py",
        ),
        (
            {
                "data": Splits(blobs(100)),
                "metrics": {"far": {"type": "mae"}},
                "training": {"max_epochs": 1, "train_metrics": True},
            },
            "metrics.far",
            r"'mae' does not accept outputs of float32 \[16, 3\], ",
        ),
    ],
)
def test_a_part_that_does_not_fit_is_bad_input(tmp_path, sections, place, expected):
    """A run and a dry run name the part, its place, shapes and dtypes before anything is trained."""
    outcome, log, figures = outcome_and_log(tmp_path / "run", **sections)
    with pytest.raises(ConfigError) as tried:
        check(small(tmp_path / "dry", **sections))

    assert outcome.status == "failed"
    assert isinstance(outcome.error, ConfigError)
    for error in (outcome.error, tried.value):
        (problem,) = error.problems
        assert problem.path == place
        assert re.search(expected, problem.message), problem.message
    assert "Traceback" in log
    assert figures == ""


@pytest.mark.slow
def test_a_compiled_model_gives_the_message_of_the_eager_one(tmp_path):
    """The compiler's own message says little about the input."""
    hardware = {"device": "cpu", "threads": 1, "compile": True}
    outcome, _, _ = outcome_and_log(tmp_path, model=Narrow(), hardware=hardware)

    assert isinstance(outcome.error, ConfigError)
    assert "'Narrow' does not accept inputs of float32 [16, 4], in its layer body.0 = Linear(" in outcome.reason
    assert "mat1 and mat2 shapes cannot be multiplied" in outcome.reason


@pytest.mark.parametrize("mistake", ["attribute", "type", "index", "matrix"])
def test_a_mistake_in_a_parts_code_is_a_failure(tmp_path, mistake):
    """A run and a dry run raise the error itself; the log has the line of the part's code."""
    outcome, log, _ = outcome_and_log(tmp_path / "run", model=Broken(mistake))
    with pytest.raises(type(outcome.error)) as tried:
        check(small(tmp_path / "dry", model=Broken(mistake)))

    assert not isinstance(outcome.error, ConfigError | TrainingError)
    assert "test_first_batch.py" in log
    assert any(
        entry.path.name == "test_first_batch.py" and "return" in str(entry.statement) for entry in tried.traceback
    )


def test_an_error_in_a_later_update_is_a_failure(tmp_path):
    """The parts fit in the first update, so the error is reported unchanged."""
    outcome, log, _ = outcome_and_log(tmp_path / "late", loss=Fussy(1))

    assert outcome.status == "failed"
    assert type(outcome.error) is ValueError
    assert "Traceback" in log
    early, _, _ = outcome_and_log(tmp_path / "early", loss=Fussy(0))
    assert isinstance(early.error, ConfigError)


def test_out_of_memory_in_the_first_update_keeps_its_advice(tmp_path):
    """It is not taken for a part that does not fit."""

    class Hungry(Narrow):
        def forward(self, inputs):
            return torch.empty(1 << 60)

    outcome, _, _ = outcome_and_log(tmp_path, model=Hungry())

    assert not isinstance(outcome.error, ConfigError)
    assert "out of memory" in outcome.reason


def test_a_metric_that_needs_several_batches_is_accepted(tmp_path):
    """The whole split may give the figure, so the monitored name is checked there."""
    sections = {"metrics": {"two": TwoClasses()}, "checkpoint": {"monitor": "val_two_classes", "mode": "max"}}
    outcome, _, _ = outcome_and_log(tmp_path, **sections)

    assert outcome.status == "completed"
    assert outcome.metrics["val_two_classes"] == 1.0


def test_the_trial_evaluation_does_not_change_training(tmp_path):
    """With and without a validation split, dropout draws the same numbers, and the weights are equal."""
    weights = []
    for name, data in [("with", Splits(blobs(100), blobs(30, seed=1))), ("without", Splits(blobs(100)))]:
        model = {"type": "mlp", "hidden_dims": [16], "dropout": 0.5}
        ended, _, _ = outcome_and_log(tmp_path / name, data=data, model=model, checkpoint={"monitor": "train_loss"})
        assert ended.status == "completed"
        (last,) = sorted((only_run(tmp_path / name) / "checkpoints").glob("step-*14"))
        weights.append((last / "model.safetensors").read_bytes())

    assert weights[0] == weights[1]


def test_the_checks_are_gone_after_the_first_update(tmp_path):
    """The model, loss and metrics are called directly again, and no hook was called for the trial batch."""
    seen: list[Any] = []

    class Watch:
        def dovetail_run_start(self, run):
            seen.append((run.forward, run.criterion, run.parts.metrics))

        def dovetail_validation_batch(self, batch):
            seen.append("validation")

        def dovetail_epoch_start(self, epoch):
            seen.append(epoch)

        def dovetail_batch_start(self, run, step):
            if step == 1:
                assert seen[0] == (run.forward, run.criterion, run.parts.metrics)
                seen.append("same")

    outcome, _, _ = outcome_and_log(tmp_path, callbacks={"watch": Watch()}, training={"max_epochs": 1})

    assert outcome.status == "completed", outcome.reason
    assert seen[1:] == [1, "same", "validation", "validation"]


def test_a_streaming_split_is_refused(tmp_path):
    """Without a length, samples cannot be shuffled, and a run cannot resume inside an epoch."""

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter([(torch.zeros(4), 0)])

    with pytest.raises(
        ConfigError, match=r"the train split, an object of type Stream, has no len\(\): a run reads samples by"
    ):
        run(small(tmp_path, data=Splits(Stream(), None, None)))


def test_an_empty_split_is_refused(tmp_path):
    """None stands for no split."""
    with pytest.raises(ConfigError, match="data: the validation split has no samples; where there is no such split"):
        run(small(tmp_path, data=Splits(blobs(20), blobs(0), None)))


def test_a_batch_of_one_sample_in_batch_norm_is_refused(tmp_path):
    """The last batch of an epoch has one sample: a run and a dry run say so before the first update."""
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    config = small(tmp_path, data=Splits(blobs(33), None, None), model=model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ConfigError, match=r"loader.batch_size: a batch norm cannot train on"):
        check(config)
    outcome = run(config)

    assert outcome.status == "failed"
    assert all(torch.equal(before[name], model.state_dict()[name]) for name in dict(model.named_parameters()))
    assert "set loader.drop_last = true" in outcome.reason
    assert "Torch says: Expected more than 1 value per channel" in outcome.reason


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


class Detached:
    """A loss whose total depends on the outputs, but not through autograd."""

    def __call__(self, outputs, batch) -> LossResult:
        """Return the loss."""
        wrong = (outputs.logits.argmax(1) != batch["targets"]).float().mean()
        return LossResult(wrong.requires_grad_(), {}, len(batch["targets"]))


class Constant:
    """A loss without a graph."""

    def __call__(self, outputs, batch) -> LossResult:
        """Return the loss."""
        return LossResult(outputs.logits.detach().square().mean(), {}, len(batch["targets"]))


class Forgetful(StandardTrainer):
    """Computes a loss that depends on nothing."""

    def compute_loss(self, run, batch):
        """Return the loss."""
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
    """Otherwise the run would complete and look like one that learns badly."""
    outcome = run(small(tmp_path, **sections))
    assert isinstance(outcome.error, ConfigError)
    assert re.search(expected, outcome.reason)


class Weighted(nn.Module):
    """A loss that is multiplied by a factor."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, inputs, target):
        """Return the loss."""
        return self.weight * nn.functional.cross_entropy(inputs, target)


@pytest.mark.parametrize("optimizer", ["adamw", "lbfgs"])
@pytest.mark.parametrize("weight", [0.0, 1e-30])
def test_a_gradient_of_zero_is_an_alert(tmp_path, weight, optimizer):
    """There is one alert, and the run continues, since this may be intended. A small gradient is not 0."""
    run(small(tmp_path, loss=Weighted(weight), optimizer={"type": optimizer, "lr": 1e-2})).check()

    messages = alerts(tmp_path, ZERO_GRADIENT)
    assert len(messages) == (weight == 0)
    for message in messages:
        assert message.startswith(
            "the gradient of loss 'Weighted' is 0 for every weight of the model in the first update. "
        )


def test_a_loss_may_train_on_a_frozen_model(tmp_path):
    """If the model has no trainable parameter, no gradient has to reach it."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, outputs, batch) -> LossResult:
            loss = nn.functional.cross_entropy(outputs.logits * self.scale, batch["targets"])
            return LossResult(loss, {}, len(batch["targets"]))

    model = nn.Linear(4, 3).requires_grad_(False)
    assert run(small(tmp_path, model=model, loss=Scaled())).check().status == "completed"
