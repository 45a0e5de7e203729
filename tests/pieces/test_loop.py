"""Epochs of training and validation outside of a run: exact averages, any loader, any loss, and their results."""

from __future__ import annotations

import math

import attrs
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dovetail.losses.language_modeling import LanguageModelingLoss
from dovetail.losses.peft import PEFTAwareLoss
from dovetail.metrics.accuracy import Accuracy
from dovetail.monitor.gradients import GradientMonitor
from dovetail.pieces import EpochResult, GradientAccumulator, TrainingLoop, ValidationLoop
from dovetail.train.errors import NonFiniteLossError, TrainingError
from dovetail.train.hardware import DeviceError
from loop_samples import network, pairs
from loss_samples import WeightedLoss


class Tokens(nn.Module):
    """Returns scores that depend on each token alone, in double precision."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.scores = nn.Embedding(7, 7, dtype=torch.float64)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return logits, as models of Hugging Face do."""
        assert attention_mask.shape == input_ids.shape
        return {"logits": self.scores(input_ids)}


# --- training ---------------------------------------------------------------------------------------------------------


@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=7), steps=st.integers(1, 4), seed=st.integers(0, 99))
def test_updates_are_those_of_large_batches(sizes, steps, seed):
    """The updates match up to rounding when batches differ in rows and counted tokens, and the last group is short."""
    torch.manual_seed(seed)
    rows = torch.randint(0, 7, (sum(sizes), 6))
    mask = torch.arange(6) < torch.randint(0, 7, (sum(sizes), 1))  # some rows do not count at all
    small = [
        {"input_ids": ids, "attention_mask": counts, "labels": ids}
        for ids, counts in zip(rows.split(sizes), mask.split(sizes), strict=True)
    ]
    groups = [small[start : start + steps] for start in range(0, len(small), steps)]
    large = [{key: torch.cat([batch[key] for batch in group]) for key in group[0]} for group in groups]
    models = Tokens(), Tokens()
    for model, loader, accumulate in ((models[0], small, steps), (models[1], large, 1)):
        loop = TrainingLoop(GradientAccumulator(accumulate), None, LanguageModelingLoss())
        result = loop.run_epoch(1, model, loader, torch.optim.SGD(model.parameters(), lr=0.7))
        assert result.num_samples == len(rows)
        assert loop.gradient_accumulator.stats.effective_step == len(groups)

    torch.testing.assert_close(models[0].scores.weight, models[1].scores.weight, rtol=1e-12, atol=1e-12)


def test_an_epoch_matches_a_loop_written_by_hand():
    """The weights are the same to the bit, and the result has the loop's figures."""
    model, bare, batches = network(), network(), pairs(5, 6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    seen: list[tuple[float, int]] = []
    loop = TrainingLoop(
        GradientAccumulator(max_gradient_norm=None),
        None,
        nn.CrossEntropyLoss(),
        gradient_clip_norm=None,
        metrics={"accuracy": Accuracy()},
    )
    result = loop.run_epoch(
        3, model, batches, optimizer, schedule, torch.device("cpu"), lambda loss, step: seen.append((loss, step))
    )

    other = torch.optim.SGD(bare.parameters(), lr=0.1, momentum=0.9)
    losses, right = [], 0
    for inputs, targets in batches:
        logits = bare(inputs)
        loss = nn.functional.cross_entropy(logits, targets)
        other.zero_grad()
        loss.backward()
        other.step()
        other.param_groups[0]["lr"] /= 2
        losses.append(loss.item())
        right += int((logits.argmax(1) == targets).sum())
    for ours, theirs in zip(model.parameters(), bare.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert seen == list(zip(losses, range(5), strict=True))
    assert (result.epoch, result.num_batches, result.num_samples, result.learning_rate) == (3, 5, 30, 0.1 / 32)
    assert result.loss == pytest.approx(sum(losses) / 5)
    assert result.metrics == {"accuracy": right / 30}
    assert result.epoch_duration_seconds > 0
    assert [field.name for field in attrs.fields(EpochResult)] == [
        "epoch",
        "loss",
        "metrics",
        "epoch_duration_seconds",
        "num_samples",
        "num_batches",
        "learning_rate",
    ]


@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize("limits, clipped", [((0.01, 1.0), 0.01), ((None, 0.02), 0.02), ((None, None), None)])
def test_gradients_are_clipped_once_to_the_lower_limit(limits, clipped, scheduled):
    """The lower of the loop's and the accumulator's limits applies, with a scheduler too."""
    model, batches = network(), pairs(1, 6)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    loop = TrainingLoop(GradientAccumulator(1, limits[0]), None, nn.CrossEntropyLoss(), limits[1])
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5) if scheduled else None
    loop.run_epoch(1, model, batches, optimizer, schedule)
    changes = [(new - old).norm() for new, old in zip(model.parameters(), before, strict=True)]
    moved = float(torch.stack(changes).detach().norm())

    assert moved == pytest.approx(clipped, rel=1e-3) if clipped else moved > 0.02


def test_an_optimizer_that_needs_a_closure_gets_it():
    """L-BFGS fits in a few updates; the loss and the metrics are those of its first evaluations."""
    model, batches = network(), pairs(1, 40)
    loop = TrainingLoop(GradientAccumulator(), None, nn.CrossEntropyLoss(), metrics={"accuracy": Accuracy()})
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=20, line_search_fn="strong_wolfe")
    first = loop.run_epoch(1, model, batches, optimizer)
    last = loop.run_epoch(2, model, batches, optimizer)

    with pytest.raises(TrainingError, match="LBFGS evaluates the loss several times per update, which fp16"):
        TrainingLoop(GradientAccumulator(), None, nn.CrossEntropyLoss(), precision="fp16").run_epoch(
            1, model, batches, optimizer
        )
    assert last.loss < first.loss / 1.5
    assert first.num_samples == 40
    assert 0 <= first.metrics["accuracy"] <= 1


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_learns(precision):
    """The loss falls, on the CPU too, with accumulation and clipping."""
    model, batches = network(), pairs(3, 20)
    loop = TrainingLoop(GradientAccumulator(2), None, nn.CrossEntropyLoss(), precision=precision)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    losses = [loop.run_epoch(epoch, model, batches, optimizer).loss for epoch in range(12)]

    assert losses[-1] < losses[0] * 0.8
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_a_scheduler_may_step_per_epoch():
    """The loop never steps a scheduler that reads a metric."""
    model, batches = network(), pairs(3, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    loop = TrainingLoop(GradientAccumulator(), None, nn.CrossEntropyLoss(), schedule_per="epoch")
    halving = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    assert loop.run_epoch(1, model, batches, optimizer, halving).learning_rate == 1.0
    assert optimizer.param_groups[0]["lr"] == 0.5

    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    assert loop.run_epoch(2, model, batches, optimizer, plateau).learning_rate == 0.5
    assert optimizer.param_groups[0]["lr"] == 0.5
    with pytest.raises(ValueError, match="schedule_per must be 'update' or 'epoch', got 'step'"):
        TrainingLoop(GradientAccumulator(), None, nn.CrossEntropyLoss(), schedule_per="step")


def test_a_monitor_checks_gradients_before_clipping():
    """It checks every ``check_interval`` updates; exploding gradients end the epoch unless the monitor only alerts."""
    monitor = GradientMonitor(check_interval=2, norm_threshold_warning=0.05, norm_threshold_critical=0.1)
    model, batches = network(), pairs(5, 6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loop = TrainingLoop(GradientAccumulator(max_gradient_norm=1e-3), monitor, nn.CrossEntropyLoss())
    with pytest.raises(TrainingError, match=r"gradients explode: the largest norm in update 2 is 0\."):
        loop.run_epoch(1, model, batches, optimizer)

    patient = GradientMonitor(2, 0.05, 0.1, on_critical="alert")
    loop = TrainingLoop(GradientAccumulator(max_gradient_norm=1e-3), patient, nn.CrossEntropyLoss())
    loop.run_epoch(1, model, batches, optimizer)
    statistics = patient.get_statistics()
    assert statistics["check_count"] == 2
    assert min(statistics["max_norm_history"]) > 0.1


def test_accumulation_in_half_precision_skips_no_update():
    """Multiplied by thousands of samples, the scaled loss would overflow, and the scaler would skip the update."""
    weights = []
    for precision in ("fp32", "fp16"):
        model = network()
        loop = TrainingLoop(GradientAccumulator(3), None, nn.CrossEntropyLoss(), precision=precision)
        batches = [batch for size in (3000, 1000, 2000) for batch in pairs(1, size)]
        loop.run_epoch(1, model, batches, torch.optim.SGD(model.parameters(), lr=0.1))
        weights.append(torch.cat([weight.detach().flatten() for weight in model.parameters()]))
    moved = weights[0] - torch.cat([weight.detach().flatten() for weight in network().parameters()])

    assert (weights[1] - weights[0]).norm() < 0.01 * moved.norm()


@pytest.mark.parametrize("limit", [None, 1.0])
def test_a_monitor_checks_unscaled_gradients(limit):
    """Gradients that overflow in fp16 do not end the epoch: the scaler skips their update."""
    model, batches = network(), [(inputs * 1e3, targets) for inputs, targets in pairs(40, 20)]
    monitor = GradientMonitor(1, norm_threshold_warning=1e3, norm_threshold_critical=1e3)
    loop = TrainingLoop(GradientAccumulator(2, limit), monitor, nn.CrossEntropyLoss(), limit, precision="fp16")
    loop.run_epoch(1, model, batches, torch.optim.SGD(model.parameters(), lr=1e-4))
    norms = monitor.get_statistics()["max_norm_history"]

    assert len(norms) == 20
    assert not math.isfinite(norms[0])
    assert norms[-1] < 1e3


def test_invalid_losses_and_batches_end_an_epoch():
    """A NaN loss, a loader without batches, and batches of an unknown form raise."""
    model = network()
    loop = TrainingLoop(GradientAccumulator(), None, nn.CrossEntropyLoss())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    broken = [*pairs(2, 4), (torch.full((4, 4), math.nan), torch.zeros(4, dtype=torch.int64)), *pairs(9, 4)]
    with pytest.raises(NonFiniteLossError, match="by batch 3 of epoch 1"):
        loop.run_epoch(1, model, broken, optimizer)
    with pytest.raises(TrainingError, match="epoch 2 had no batches: the loader yielded none"):
        loop.run_epoch(2, model, [], optimizer)
    with pytest.raises(TypeError, match="a batch has 'inputs' or 'labels'; this one has x"):
        loop.run_epoch(2, model, [{"x": 1}], optimizer)
    with pytest.raises(TypeError, match="a pair of inputs and targets, not Tensor"):
        loop.run_epoch(2, model, [torch.zeros(2)], optimizer)


# --- validation -------------------------------------------------------------------------------------------------------


def test_validation_changes_nothing():
    """Modes, weights and gradients stay; the loss is the mean over samples, for batches of any sizes."""
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Linear(8, 3))
    model[1].eval()
    inputs, targets = torch.randn(10, 4), torch.randint(0, 3, (10,))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    seen: list[int] = []
    loop = ValidationLoop(nn.CrossEntropyLoss(), metrics={"accuracy": Accuracy()})
    loader = [{"inputs": inputs[:7], "targets": targets[:7]}, (inputs[7:], targets[7:])]
    result = loop.run_epoch(1, model, loader, metrics_callback=lambda loss, step: seen.append(step))

    assert model.training
    assert not model[1].training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert seen == [0, 1]
    assert math.isnan(result.learning_rate)
    model.eval()
    whole = nn.functional.cross_entropy(model(inputs), targets)
    assert result.loss == pytest.approx(float(whole.detach()), rel=1e-6)
    assert result.metrics == {"accuracy": int((model(inputs).argmax(1) == targets).sum()) / 10}


def test_a_strategy_is_a_loss():
    """A loop accepts an object with ``compute_loss`` and ``validate_inputs``; errors of the latter pass through."""
    batches, strategy = pairs(2, 4), WeightedLoss(torch.ones(3))

    validated = [ValidationLoop(loss).run_epoch(1, network(), batches) for loss in (strategy, nn.CrossEntropyLoss())]

    assert validated[0].loss == pytest.approx(validated[1].loss)
    with pytest.raises(ValueError, match="one label per sample"):
        ValidationLoop(strategy).run_epoch(1, network(), [(torch.zeros(2, 4), torch.zeros(2, 1))])


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "device, message", [("gpu", "'gpu' is no device; choose 'auto', 'cpu'"), ("cuda:99", "'cuda:99' is not available")]
)
def test_a_missing_device_is_named(device, message):
    """The error is that of a run, and nothing is moved."""
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    with pytest.raises(DeviceError, match=message):
        TrainingLoop(GradientAccumulator(), None, nn.CrossEntropyLoss()).run_epoch(
            1, model, [], optimizer, device=device
        )
    with pytest.raises(DeviceError, match=message):
        ValidationLoop(nn.CrossEntropyLoss()).run_epoch(1, model, [], device=device)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"gradient_clip_norm": -1.0}, "gradient_clip_norm must be above 0, or None, got -1.0"),
        ({"precision": "fp8"}, "precision: 'fp8' is not one of fp32, bf16, fp16"),
    ],
)
def test_invalid_options_are_refused(options, message):
    """The constructor raises, not an epoch."""
    with pytest.raises(ValueError, match=message):
        TrainingLoop(GradientAccumulator(), None, nn.CrossEntropyLoss(), **options)


def test_a_loop_checks_which_parameters_train(caplog):
    """If none trains, it raises; if all train, the loss for adapters on a frozen base warns once."""
    model, loader = network(), [(torch.randn(6, 4), torch.arange(6) % 3)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loop = TrainingLoop(GradientAccumulator(), None, PEFTAwareLoss())
    for epoch in (1, 2):
        loop.run_epoch(epoch, model, loader, optimizer)

    (message,) = caplog.messages
    assert message.startswith("every parameter trains, although base_model_frozen")
    model.requires_grad_(False)
    with pytest.raises(TrainingError, match="nothing trains: every parameter of the optimizer is frozen"):
        loop.run_epoch(3, model, loader, optimizer)


def test_an_optimizer_of_another_model_is_refused():
    """The first update of an epoch raises, and the other model stays unchanged."""
    model, other, loader = network(), network(), pairs(3, 4)
    loop = TrainingLoop(GradientAccumulator(2), None, nn.CrossEntropyLoss())
    before = {name: parameter.clone() for name, parameter in other.named_parameters()}
    loop.run_epoch(1, model, loader, torch.optim.SGD(model.parameters(), lr=0.1))

    for optimizer in (torch.optim.SGD(other.parameters(), lr=0.1), torch.optim.LBFGS(other.parameters())):
        with pytest.raises(TrainingError, match=r"nothing trains: no parameter of the optimizer has a gradient"):
            loop.run_epoch(2, model, loader, optimizer)
    assert all(torch.equal(before[name], parameter) for name, parameter in other.named_parameters())


def test_an_optimizer_may_have_parameters_of_model_or_loss():
    """It may have one of the layers, a temperature of the loss, and a parameter that nothing uses."""
    loader = pairs(3, 4)
    temperature = nn.Parameter(torch.ones(()))
    model = network()

    def calibrated(input, target):  # noqa: A002 (torch's names)
        return nn.functional.cross_entropy(input / temperature, target)

    loop = TrainingLoop(GradientAccumulator(), None, calibrated)
    for trained in ([model[2].weight], [temperature], [temperature, nn.Parameter(torch.ones(3))]):
        before = trained[0].detach().clone()
        loop.run_epoch(1, model, loader, torch.optim.SGD(trained, lr=0.1))
        assert not torch.equal(before, trained[0])
