"""Epochs of training and validation on their own: exact averages, any loader, any loss, and what they report."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from dovetail.losses.language_modeling import LanguageModelingLoss
from dovetail.losses.peft import PEFTAwareLoss
from dovetail.metrics.accuracy import Accuracy
from dovetail.monitor.gradients import GradientMonitor
from dovetail.pieces.accumulator import GradientAccumulator
from dovetail.pieces.loop import EpochResult, TrainingLoop, ValidationLoop
from dovetail.pieces.seed_manager import SeedManager
from dovetail.train.errors import NonFiniteLossError, TrainingError
from dovetail.train.hardware import DeviceError
from dovetail.train.seeds import set_random_seed


def network(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Return a small network, the same each time."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).to(dtype)


def pairs(count: int, size: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return batches of inputs and labels."""
    generator = torch.Generator().manual_seed(3)
    inputs = [torch.randn(size, 4, generator=generator) for _ in range(count)]
    return [(one, one[:, :3].argmax(1)) for one in inputs]


class Tokens(nn.Module):
    """Scores each token by itself, in double precision."""

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
    """Rows and tokens that count differ from batch to batch, the last group is short; float64 sees no difference."""
    torch.manual_seed(seed)
    rows = torch.randint(0, 7, (sum(sizes), 6))
    mask = torch.arange(6) < torch.randint(0, 7, (sum(sizes), 1))  # some rows do not count at all
    small = [
        {"input_ids": ids, "attention_mask": counts, "labels": ids}
        for ids, counts in zip(rows.split(sizes), mask.split(sizes), strict=True)
    ]
    groups = [small[start : start + steps] for start in range(0, len(small), steps)]
    large = [{key: torch.cat([one[key] for one in group]) for key in group[0]} for group in groups]
    models = Tokens(), Tokens()
    for model, loader, accumulate in ((models[0], small, steps), (models[1], large, 1)):
        loop = TrainingLoop(GradientAccumulator(accumulate), None, LanguageModelingLoss())
        result = loop.run_epoch(1, model, loader, torch.optim.SGD(model.parameters(), lr=0.7))
        assert result.num_samples == len(rows)
        assert loop.gradient_accumulator.stats.effective_step == len(groups)

    torch.testing.assert_close(models[0].scores.weight, models[1].scores.weight, rtol=1e-12, atol=1e-12)


def test_an_epoch_is_the_loop_written_by_hand():
    """Same bits, and the result says what happened."""
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
    assert [one.name for one in attrs.fields(EpochResult)] == [
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
    """The loop's limit and the accumulator's are one, also for an optimizer that has a scheduler."""
    model, batches = network(), pairs(1, 6)
    before = [one.detach().clone() for one in model.parameters()]
    loop = TrainingLoop(GradientAccumulator(1, limits[0]), None, nn.CrossEntropyLoss(), limits[1])
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5) if scheduled else None
    loop.run_epoch(1, model, batches, optimizer, schedule)
    changes = [(one - old).norm() for one, old in zip(model.parameters(), before, strict=True)]
    moved = float(torch.stack(changes).detach().norm())

    assert moved == pytest.approx(clipped, rel=1e-3) if clipped else moved > 0.02


def test_an_optimizer_that_needs_a_closure_gets_it():
    """L-BFGS fits in a few updates; the figures are those of its first evaluations."""
    model, batches = network(), pairs(1, 40)
    loop = TrainingLoop(GradientAccumulator(), None, nn.CrossEntropyLoss(), metrics={"accuracy": Accuracy()})
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=20, line_search_fn="strong_wolfe")
    first = loop.run_epoch(1, model, batches, optimizer)
    last = loop.run_epoch(2, model, batches, optimizer)

    with pytest.raises(TrainingError, match="LBFGS asks for the loss several times, which fp16 cannot give it"):
        TrainingLoop(GradientAccumulator(), None, nn.CrossEntropyLoss(), precision="fp16").run_epoch(
            1, model, batches, optimizer
        )
    assert last.loss < first.loss / 1.5
    assert first.num_samples == 40
    assert 0 <= first.metrics["accuracy"] <= 1


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_learns(precision):
    """On the CPU too, with accumulation and clipping."""
    model, batches = network(), pairs(3, 20)
    loop = TrainingLoop(GradientAccumulator(2), None, nn.CrossEntropyLoss(), precision=precision)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    losses = [loop.run_epoch(epoch, model, batches, optimizer).loss for epoch in range(12)]

    assert losses[-1] < losses[0] * 0.8
    assert all(one.dtype == torch.float32 for one in model.parameters())


def test_a_scheduler_may_step_per_epoch_and_one_that_reads_a_metric_is_the_callers():
    """As ``schedule_per`` says."""
    model, batches = network(), pairs(3, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    loop = TrainingLoop(GradientAccumulator(), None, nn.CrossEntropyLoss(), schedule_per="epoch")
    halving = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    assert loop.run_epoch(1, model, batches, optimizer, halving).learning_rate == 1.0
    assert optimizer.param_groups[0]["lr"] == 0.5

    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    assert loop.run_epoch(2, model, batches, optimizer, plateau).learning_rate == 0.5
    assert optimizer.param_groups[0]["lr"] == 0.5
    with pytest.raises(ValueError, match="schedule_per: 'update' or 'epoch', got 'step'"):
        TrainingLoop(GradientAccumulator(), None, nn.CrossEntropyLoss(), schedule_per="step")


def test_a_monitor_looks_at_the_gradients_before_they_are_clipped():
    """Every so many updates; exploding ones end the epoch unless it says that they only alert."""
    monitor = GradientMonitor(check_interval=2, norm_threshold_warning=0.05, norm_threshold_critical=0.1)
    model, batches = network(), pairs(5, 6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loop = TrainingLoop(GradientAccumulator(max_gradient_norm=1e-3), monitor, nn.CrossEntropyLoss())
    with pytest.raises(TrainingError, match=r"gradients explode: the largest norm is 0\..* in update 2"):
        loop.run_epoch(1, model, batches, optimizer)

    patient = GradientMonitor(2, 0.05, 0.1, on_critical="alert")
    loop = TrainingLoop(GradientAccumulator(max_gradient_norm=1e-3), patient, nn.CrossEntropyLoss())
    loop.run_epoch(1, model, batches, optimizer)
    statistics = patient.get_statistics()
    assert statistics["check_count"] == 2
    assert min(statistics["max_norm_history"]) > 0.1


def test_accumulation_in_half_precision_loses_no_update():
    """Times thousands of samples the scaled loss would be too large, and its update left out."""
    weights = []
    for precision in ("fp32", "fp16"):
        model = network()
        loop = TrainingLoop(GradientAccumulator(3), None, nn.CrossEntropyLoss(), precision=precision)
        batches = [batch for size in (3000, 1000, 2000) for batch in pairs(1, size)]
        loop.run_epoch(1, model, batches, torch.optim.SGD(model.parameters(), lr=0.1))
        weights.append(torch.cat([one.detach().flatten() for one in model.parameters()]))
    moved = weights[0] - torch.cat([one.detach().flatten() for one in network().parameters()])

    assert (weights[1] - weights[0]).norm() < 0.01 * moved.norm()


@pytest.mark.parametrize("limit", [None, 1.0])
def test_a_monitor_sees_gradients_of_half_precision_without_their_scale(limit):
    """Those that are too large for it end nothing: the scaler leaves their update out."""
    model, batches = network(), [(inputs * 1e3, targets) for inputs, targets in pairs(40, 20)]
    monitor = GradientMonitor(1, norm_threshold_warning=1e3, norm_threshold_critical=1e3)
    loop = TrainingLoop(GradientAccumulator(2, limit), monitor, nn.CrossEntropyLoss(), limit, precision="fp16")
    loop.run_epoch(1, model, batches, torch.optim.SGD(model.parameters(), lr=1e-4))
    norms = monitor.get_statistics()["max_norm_history"]

    assert len(norms) == 20
    assert not math.isfinite(norms[0])
    assert norms[-1] < 1e3


def test_what_ends_an_epoch():
    """A loss that is no number, and a loader without batches."""
    model = network()
    loop = TrainingLoop(GradientAccumulator(), None, nn.CrossEntropyLoss())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    broken = [*pairs(2, 4), (torch.full((4, 4), math.nan), torch.zeros(4, dtype=torch.int64)), *pairs(9, 4)]
    with pytest.raises(NonFiniteLossError, match="by batch 3 of epoch 1"):
        loop.run_epoch(1, model, broken, optimizer)
    with pytest.raises(TrainingError, match="epoch 2 had no batches"):
        loop.run_epoch(2, model, [], optimizer)
    with pytest.raises(TypeError, match="a batch has 'inputs' or 'labels'; this one has x"):
        loop.run_epoch(2, model, [{"x": 1}], optimizer)
    with pytest.raises(TypeError, match="a pair of inputs and targets, not Tensor"):
        loop.run_epoch(2, model, [torch.zeros(2)], optimizer)


# --- validation -------------------------------------------------------------------------------------------------------


def test_validation_changes_nothing():
    """Modes, weights and gradients stay; the loss is the mean over samples, whatever the batches."""
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
    assert all(one.grad is None for one in model.parameters())
    assert seen == [0, 1]
    assert math.isnan(result.learning_rate)
    model.eval()
    whole = nn.functional.cross_entropy(model(inputs), targets)
    assert result.loss == pytest.approx(float(whole.detach()), rel=1e-6)
    assert result.metrics == {"accuracy": int((model(inputs).argmax(1) == targets).sum()) / 10}


def test_a_strategy_of_ones_own_is_a_loss():
    """Anything with ``compute_loss`` and ``validate_inputs``; what it refuses is refused."""

    class Own:
        def compute_loss(self, logits: torch.Tensor, labels: torch.Tensor, inputs: Any = None) -> torch.Tensor:
            return nn.functional.cross_entropy(logits, labels)

        def validate_inputs(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
            if labels.ndim != 1:
                raise ValueError("labels are a vector")

    batches = pairs(2, 4)
    assert ValidationLoop(Own()).run_epoch(1, network(), batches).loss == pytest.approx(
        ValidationLoop(nn.CrossEntropyLoss()).run_epoch(1, network(), batches).loss
    )
    with pytest.raises(ValueError, match="labels are a vector"):
        ValidationLoop(Own()).run_epoch(1, network(), [(torch.zeros(2, 4), torch.zeros(2, 1))])


# --- accumulation in a loop of one's own ------------------------------------------------------------------------------


@pytest.mark.parametrize("by_global_norm", [True, False])
def test_the_accumulator_of_a_loop_tells_the_norms_of_its_last_update(by_global_norm):
    """The same ones that the accumulator of a loop written by hand measures."""
    batches, by_hand = pairs(2, 5), network()
    accumulator, other = (GradientAccumulator(2, 0.05, by_global_norm) for _ in range(2))
    model = network()
    TrainingLoop(accumulator, None, nn.CrossEntropyLoss()).run_epoch(
        1, model, batches, torch.optim.SGD(model.parameters(), 0.1)
    )
    for inputs, labels in batches:
        (nn.functional.cross_entropy(by_hand(inputs), labels) / 2).backward()
    other.clip_gradients(by_hand)
    found, expected = accumulator.get_statistics(), other.get_statistics()

    assert found["norm_before"] == pytest.approx(expected["norm_before"], rel=1e-5)
    assert found["norm_after"] == pytest.approx(expected["norm_after"], rel=1e-4)
    assert found["norm_after"] < found["norm_before"]
    assert (found["effective_step"], found["num_parameters"]) == (1, expected["num_parameters"])


@pytest.mark.parametrize("by_global_norm", [True, False])
def test_the_accumulator_in_a_loop_written_by_hand(by_global_norm):
    """Every fourth batch updates, gradients are clipped as torch clips, and the statistics say so."""
    accumulator = GradientAccumulator(4, 0.05, by_global_norm)
    model, updates = network(), []
    for step, (inputs, targets) in enumerate(pairs(9, 4)):
        loss = nn.functional.cross_entropy(model(inputs), targets) / 4
        loss.backward()
        if accumulator.should_update_optimizer(step, loss):
            updates.append(step)
            twin = network()
            for ours, theirs in zip(twin.parameters(), model.parameters(), strict=True):
                ours.grad = theirs.grad.clone()
            before = accumulator.clip_gradients(model)
            groups = [list(twin.parameters())] if by_global_norm else [[one] for one in twin.parameters()]
            for group in groups:
                torch.nn.utils.clip_grad_norm_(group, 0.05)
            for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
                torch.testing.assert_close(ours.grad, theirs.grad)
            found = accumulator.get_statistics()
            assert found["norm_before"] == found["norm_before_clip"] == before > 0.05
            assert found["norm_after"] <= 0.05 * (1 if by_global_norm else math.sqrt(4)) + 1e-6
            model.zero_grad()

    assert updates == [3, 7]
    assert [accumulator.get_effective_step(step) for step in (0, 3, 4, 8)] == [0, 0, 1, 2]
    stats = accumulator.stats
    assert (stats.global_step, stats.effective_step, stats.num_parameters) == (9, 2, 67)
    assert stats.accumulated_loss == pytest.approx(loss.item())


@pytest.mark.parametrize(
    "options, message",
    [((0,), "accumulation_steps"), ((2.5,), "accumulation_steps"), (("4",), "'4'"), ((1, 0.0), "max_gradient_norm")],
)
def test_an_accumulator_refuses_what_makes_no_sense(options, message):
    """At once, naming the option."""
    with pytest.raises(ValueError, match=message):
        GradientAccumulator(*options)


def test_documented_defaults():
    """One batch to an update, clipped to a global norm of 1."""
    accumulator = GradientAccumulator()

    assert (accumulator.accumulation_steps, accumulator.max_gradient_norm, accumulator.clip_by) == (1, 1.0, "norm")


# --- seeds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_seeds_repeat_order_and_draws_of_workers(workers):
    """Two loaders made alike give the same batches, whatever was drawn in between; a state goes back to its draws."""
    seeds = SeedManager(7)
    data = TensorDataset(torch.arange(12))
    orders = []
    for _ in range(2):
        torch.rand(5)
        loader = DataLoader(data, batch_size=3, shuffle=True, num_workers=workers, **seeds.loader_options())
        orders.append([batch[0].tolist() for batch in loader])
    state = seeds.state_dict()
    draws = torch.rand(3)
    seeds.load_state_dict(state)

    assert orders[0] == orders[1] != [list(range(start, start + 3)) for start in range(0, 12, 3)]
    assert torch.equal(torch.rand(3), draws)
    seeds.set()
    first = torch.rand(2)
    assert torch.equal(first, (SeedManager(7), torch.rand(2))[1])


@pytest.mark.parametrize(
    "device, message", [("gpu", "'gpu' is no device; choose 'auto', 'cpu'"), ("cuda:99", "'cuda:99' is not available")]
)
def test_a_device_that_is_not_there_is_named(device, message):
    """As a run names it, and before anything is moved."""
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    with pytest.raises(DeviceError, match=message):
        TrainingLoop(GradientAccumulator(), None, nn.CrossEntropyLoss()).run_epoch(
            1, model, [], optimizer, device=device
        )
    with pytest.raises(DeviceError, match=message):
        ValidationLoop(nn.CrossEntropyLoss()).run_epoch(1, model, [], device=device)


@pytest.mark.parametrize("seed", ["42", 1.5, None])
def test_a_seed_is_an_integer(seed):
    """Anything else is refused by what it is; NumPy's integers are integers."""
    with pytest.raises(TypeError, match="seed must be an integer, got"):
        set_random_seed(seed)
    set_random_seed(np.int64(3))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"gradient_clip_norm": -1.0}, "gradient_clip_norm must be above 0, or None, got -1.0"),
        ({"precision": "fp8"}, "precision: 'fp8' is not one of fp32, bf16, fp16"),
    ],
)
def test_a_loop_refuses_what_makes_no_sense(options, message):
    """When it is made, not in the middle of an epoch."""
    with pytest.raises(ValueError, match=message):
        TrainingLoop(GradientAccumulator(), None, nn.CrossEntropyLoss(), **options)


def test_what_of_a_model_trains_is_looked_at(caplog):
    """Nothing is refused; everything is told of, once, by the loss for adapters on a frozen base."""
    model, loader = network(), [(torch.randn(6, 4), torch.arange(6) % 3)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loop = TrainingLoop(GradientAccumulator(), None, PEFTAwareLoss())
    for epoch in (1, 2):
        loop.run_epoch(epoch, model, loader, optimizer)
    told = [one.getMessage() for one in caplog.records]

    assert [one.startswith("every parameter trains, although base_model_frozen") for one in told] == [True]
    model.requires_grad_(False)
    with pytest.raises(TrainingError, match="nothing trains: every parameter of the optimizer is frozen"):
        loop.run_epoch(3, model, loader, optimizer)


def test_an_optimizer_of_another_model_is_refused():
    """In the first update, before anything is moved; also in a later epoch, and where a model was copied meanwhile."""
    model, other, loader = network(), network(), pairs(3, 4)
    loop = TrainingLoop(GradientAccumulator(2), None, nn.CrossEntropyLoss())
    before = {name: one.clone() for name, one in other.named_parameters()}
    loop.run_epoch(1, model, loader, torch.optim.SGD(model.parameters(), lr=0.1))

    for optimizer in (torch.optim.SGD(other.parameters(), lr=0.1), torch.optim.LBFGS(other.parameters())):
        with pytest.raises(TrainingError, match=r"nothing trains: no parameter of the optimizer has a gradient"):
            loop.run_epoch(2, model, loader, optimizer)
    assert all(torch.equal(before[name], one) for name, one in other.named_parameters())


def test_an_optimizer_may_have_some_of_the_model_or_only_what_a_loss_has():
    """A part of the layers, a loss's own temperature beside a frozen model, and more than there is."""
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
