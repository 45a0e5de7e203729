"""The physics losses: what they say of simulated bearings, and what they refuse."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dovetail import Config, ModelOutput
from dovetail.main import run
from dovetail.ops import frequency_consistency, sommerfeld_number, sommerfeld_severity
from dovetail_signals.geometry import bearing
from dovetail_signals.losses.constraint import PhysicalConstraintLoss
from dovetail_signals.losses.frequency import FrequencyConsistencyLoss
from dovetail_signals.losses.sommerfeld import SommerfeldConsistencyLoss
from dovetail_signals.losses.temporal import TemporalSmoothnessLoss
from dovetail_signals.simulated import simulated_rolling

ORDERS = bearing("SKF-6205").orders()
EXPECTED = {"1": [ORDERS.bpfo], "2": [ORDERS.bpfi]}


def scored(logits):
    """Outputs with these class scores."""
    return ModelOutput.from_raw(torch.as_tensor(logits, dtype=torch.float32))


@pytest.fixture(scope="module")
def rolling():
    """A batch of simulated recordings: healthy, outer race, inner race."""
    data = simulated_rolling(
        3,
        faults=["healthy", "outer_race", "inner_race"],
        recordings=4,
        seconds=1.0,
        window=12_000,
        snr_db=(10.0, 10.0),
        slip=0.002,
        resonance_hz=(2500.0, 2600.0),
        meta=["rpm"],
    )
    samples = [data[index] for index in range(len(data))]
    return {
        "inputs": torch.stack([sample["inputs"] for sample in samples]),
        "targets": torch.tensor([int(sample["targets"]) for sample in samples]),
        "meta": {"rpm": torch.tensor([float(sample["rpm"]) for sample in samples])},
    }


def envelope(signals):
    """The squared signal: where impacts show at their own frequency instead of at the resonance they excite."""
    squared = signals**2
    return squared - squared.mean(-1, keepdim=True)


def test_the_penalty_is_least_where_the_fault_is(rolling):
    """In the envelope of simulated recordings at 1700 to 1800 turns a minute, through ``meta.signal``."""
    loss = FrequencyConsistencyLoss(EXPECTED, 12_000, 0.02, unit="orders", harmonics=2)
    meta = {**rolling["meta"], "signal": envelope(rolling["inputs"])}
    batch = {**rolling, "meta": meta, "inputs": torch.zeros(12, 3, 8, 8)}

    penalties = loss.penalties(torch.zeros(12, 3), batch)

    faulty = rolling["targets"] > 0
    assert torch.equal(penalties[faulty].argmin(1), rolling["targets"][faulty])


def test_learning_by_the_physics_alone_finds_the_faults(rolling):
    """No label is looked at: following the gradient, the scores come to name the faults."""
    loss = FrequencyConsistencyLoss(EXPECTED, 12_000, 0.02, unit="orders", harmonics=2)
    batch = {**rolling, "inputs": envelope(rolling["inputs"])}
    logits = torch.zeros(12, 3, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=20.0)
    for _ in range(50):
        optimizer.zero_grad()
        loss(ModelOutput.from_raw(logits), batch).total.backward()
        optimizer.step()

    faulty = rolling["targets"] > 0
    assert torch.equal(logits.detach().argmax(1)[faulty], rolling["targets"][faulty])


def test_frequency_consistency_is_the_op(rolling):
    """With bands in Hz as the documents have them."""
    loss = FrequencyConsistencyLoss({1: [107.0], 2: [162.0]}, 12_000, bands={1: [[2500.0, 2600.0]]})
    logits = torch.randn(12, 3)

    found = loss(scored(logits), rolling)

    torch.testing.assert_close(found.total, frequency_consistency(logits, loss.penalties(logits, rolling)))
    assert found.weight == 12


def test_sommerfeld_consistency_reads_conditions_or_the_number():
    """From oil, speed and load, or from the number itself; levels in the order that is given."""
    conditions = {
        "viscosity": torch.tensor([0.02, 0.01]),
        "rpm": torch.tensor([1800.0, 900.0]),
        "load_newton": torch.tensor([1000.0, 9000.0]),
    }
    number = sommerfeld_number(*conditions.values())
    expected = sommerfeld_severity(number).float()
    loss = SommerfeldConsistencyLoss([2, 0, 1])
    scores = scored([[0.0, -math.inf, -math.inf], [-math.inf, 0.0, -math.inf]])  # levels 0.5 and 1

    by_conditions = loss(scores, {"meta": conditions}).total
    by_number = loss(scores, {"meta": {"sommerfeld": number}}).total

    wanted = ((torch.tensor([0.5, 1.0]) - expected) ** 2).mean()
    torch.testing.assert_close(by_conditions, wanted)
    torch.testing.assert_close(by_number, wanted)


def test_sommerfeld_consistency_of_a_predicted_severity():
    """One number for each sample, taken as it is."""
    found = SommerfeldConsistencyLoss()(scored([[0.5], [0.25]]), {"meta": {"sommerfeld": [math.inf, 0.0]}})

    assert found.total.item() == pytest.approx((0.5**2 + 0.75**2) / 2)


def test_temporal_smoothness_reads_names_of_recordings():
    """Only windows of one recording are compared, in the order of their times; the weight counts them."""
    scores = scored([[9.0, -9.0], [-9.0, 9.0], [9.0, -9.0]])
    meta = {"recording": ["a", "b", "a"], "time": torch.tensor([0.5, 0.0, 0.0])}

    of_one = TemporalSmoothnessLoss()(scores, {})
    of_two = TemporalSmoothnessLoss()(scores, {"meta": meta})

    assert of_one.total.item() == pytest.approx(0.1 * 2.0, rel=1e-4)
    assert of_one.weight.item() == 2
    assert of_two.total.item() == pytest.approx(0.0)
    assert of_two.weight.item() == 1


def batch_of_everything(samples=6):
    """Signals, labels and conditions."""
    generator = torch.Generator().manual_seed(4)
    return {
        "inputs": torch.randn(samples, 1, 256, generator=generator),
        "targets": torch.arange(samples) % 3,
        "meta": {"sommerfeld": torch.rand(samples, generator=generator), "rpm": torch.full((samples,), 1800.0)},
    }


def test_physical_constraint_is_the_sum_of_its_parts():
    """Each as the loss of its own gives it, times its factor; the gradient is that of the sum."""
    batch, raw = batch_of_everything(), torch.randn(6, 3, requires_grad=True)
    outputs = ModelOutput.from_raw(raw)
    together = PhysicalConstraintLoss(0.7, 0.4, 0.2, expected_freqs=EXPECTED, sample_rate=512, unit="orders")
    alone = {
        "frequency": (0.7, FrequencyConsistencyLoss(EXPECTED, 512, unit="orders")),
        "sommerfeld": (0.4, SommerfeldConsistencyLoss()),
        "temporal": (0.2, TemporalSmoothnessLoss(1.0)),
    }

    found = together(outputs, batch)
    wanted = F.cross_entropy(raw, batch["targets"])
    for name, (factor, loss) in alone.items():
        part = loss(outputs, batch).total
        torch.testing.assert_close(found.parts[name], part.detach())
        wanted = wanted + factor * part

    torch.testing.assert_close(found.total, wanted)
    got, expected = torch.autograd.grad(found.total, raw), torch.autograd.grad(wanted, raw)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


def test_severities_are_no_scores_of_classes():
    """Beside classes one number a sample is a mistake, even where there are as many samples as classes."""
    batch = {"targets": torch.arange(3), "meta": {"sommerfeld": torch.ones(3)}}

    with pytest.raises(ValueError, match=r"outputs have shape \[3\] instead of \[batch, classes\]"):
        SommerfeldConsistencyLoss()(scored([0.1, 0.2, 0.3]), batch)


@pytest.mark.parametrize("told", [True, False])
def test_temporal_smoothness_compares_windows_of_one_recording_in_a_run(tmp_path, told):
    """Shuffled batches tell which windows belong together where the data are asked to; else an alert says so."""
    table = {
        "data": {
            "type": "signals.simulated_rolling",
            "recordings": 2,
            "seconds": 0.5,
            "window": 1000,
            "meta": ["recording", "time"] if told else ["rpm"],
            "split": {"validation": 0, "test": 0},
        },
        "model": {"type": "signals.cnn1d", "channels": [4]},
        "loss": {"type": "signals.temporal_smoothness", "time_step": 1 / 12},
        "loader": {"batch_size": 60},
        "training": {"max_epochs": 1},
        "checkpoint": {"monitor": "train_loss"},
        "hardware": {"device": "cpu", "threads": 1},
        "report": {"enabled": False},
        "logging": {"console": False},
        "paths": {"output": str(tmp_path)},
    }
    seen = []

    class Watch:
        """Keeps how many windows follow another one."""

        def dovetail_batch_start(self, run):
            """Ask the loss about the epoch's only batch."""
            batch = next(iter(run.parts.loaders.train.batches(1)))
            found = run.parts.loss.windows(torch.zeros(60, 5), batch)
            seen.append(int((found.neighbours[:, 0] >= 0).sum()))

    run(Config.from_dict(table).with_parts(callbacks={"watch": Watch()}).build()).check()
    alerts = "".join(path.read_text() for path in tmp_path.rglob("alerts.jsonl"))

    assert seen == [10 * 5 if told else 59]
    assert ("windows of different recordings are compared" in alerts) != told


def test_labels_that_were_mixed_reach_every_loss(rolling):
    """Shares of classes are taken for what they are: whole ones are the labels, and the physics looks at none."""
    logits = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    shares = {**rolling, "targets": F.one_hot(rolling["targets"], 3).float()}
    options = {"expected_freqs": EXPECTED, "sample_rate": 12_000, "unit": "orders"}
    for loss in (
        PhysicalConstraintLoss(1.0, 0.0, 0.1, **options),
        PhysicalConstraintLoss(1.0, 0.0, 0.1, classification=nn.CrossEntropyLoss(), **options),
        FrequencyConsistencyLoss(**options),
        TemporalSmoothnessLoss(),
    ):
        torch.testing.assert_close(loss(scored(logits), shares).total, loss(scored(logits), rolling).total)
    half = {**rolling, "targets": torch.full((12, 3), 1 / 3)}
    parts = PhysicalConstraintLoss(1.0, 0.0, 0.1, **options)(scored(logits), half).parts

    torch.testing.assert_close(parts["classification"], -logits.log_softmax(1).mean())


def test_physical_constraint_takes_another_classification_loss():
    """A plain one, as torch has them; a factor of 0 leaves its term out, and the parts with it."""
    batch, outputs = batch_of_everything(), scored(torch.randn(6, 3))
    smoothing = nn.CrossEntropyLoss(label_smoothing=0.1)

    found = PhysicalConstraintLoss(0.0, 0.0, 0.0, classification=smoothing)(outputs, batch)

    torch.testing.assert_close(found.total, smoothing(outputs.logits, batch["targets"]))
    assert list(found.parts) == ["classification"]


def test_samples_without_a_label_count_for_the_physics():
    """Cross-entropy is the mean over those that have one."""
    batch, outputs = batch_of_everything(), scored(torch.randn(6, 3))
    targets = torch.tensor([0, -100, 2, -100, -100, 1])

    found = PhysicalConstraintLoss(expected_freqs=EXPECTED, sample_rate=512, unit="orders")(
        outputs, {**batch, "targets": targets}
    )

    torch.testing.assert_close(found.parts["classification"], F.cross_entropy(outputs.logits, targets))
    assert found.parts["frequency"] > 0


@pytest.mark.slow
def test_a_run_trains_with_it(tmp_path):
    """Named in a run file with a nested loss, on simulated bearings: the parts are logged and the loss falls."""
    file = tmp_path / "run.toml"
    file.write_text(
        """
[run]
name = "physics"
[data]
type = "signals.simulated_rolling"
faults = ["healthy", "outer_race", "inner_race"]
recordings = 4
seconds = 0.25
meta = ["rpm"]
[model]
type = "mlp"
hidden_dims = [16]
[loss]
type = "signals.physical_constraint"
classification = { type = "focal", gamma = 2.0 }
expected_freqs = { 1 = [3.585], 2 = [5.415] }
sample_rate = 12000
unit = "orders"
lambda_sommerfeld = 0.0
[optimizer]
type = "adamw"
lr = 0.01
[training]
max_epochs = 3
[hardware]
device = "cpu"
[logging]
console = false
[report]
enabled = false
"""
    )
    done = subprocess.run(
        [sys.executable, "-m", "dovetail", "run", str(file)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )

    assert done.returncode == 0, done.stderr
    (metrics,) = (tmp_path / "runs").rglob("metrics.jsonl")
    assert "frequency" in metrics.read_text()


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: FrequencyConsistencyLoss({"inner": [5.0]}), "keys must be class indices 0, 1, …, got 'inner'"),
        (lambda: FrequencyConsistencyLoss({"0": [-5.0]}), "class 0: expected frequencies must be above 0"),
        (lambda: FrequencyConsistencyLoss({"0": [5.0]}, tolerance=0.0), "tolerance must be above 0"),
        (lambda: FrequencyConsistencyLoss({}, bands={"0": [[1.0]]}), r"a band must be \[low, high\] in Hz, got \[1\.0\]"),
        (lambda: SommerfeldConsistencyLoss([0, 0, 1]), r"must name each class once, 0 to 2, got \[0, 0, 1\]"),
        (lambda: SommerfeldConsistencyLoss(clearance=0.0), "clearance must be above 0"),
        (lambda: TemporalSmoothnessLoss(-1.0), "lambda_smooth must be at least 0"),
        (PhysicalConstraintLoss, "lambda_freq: needs expected_freqs"),
        (lambda: PhysicalConstraintLoss(-1.0), "lambda_freq: must be at least 0, got -1"),
    ],
)
def test_options_that_make_no_sense_are_refused(make, message):
    """When the loss is built."""
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "loss, changed, message",
    [
        (
            FrequencyConsistencyLoss({"1": [3.0]}, unit="orders"),
            {"meta": {}},
            "in orders needs meta.rpm, but the batch's meta has nothing",
        ),
        (FrequencyConsistencyLoss({"7": [3.0]}), {}, "no class 7; the model has classes 0 to 2"),
        (
            FrequencyConsistencyLoss({"1": [3.0]}),
            {"inputs": torch.ones(6, 1, 8, 8)},
            r"must be signals .* \[6, 1, 8, 8\]",
        ),
        (FrequencyConsistencyLoss({"1": [3.0]}), {"inputs": torch.ones(5, 8)}, "5 signals for 6 outputs"),
        (
            SommerfeldConsistencyLoss(),
            {"meta": {"rpm": [1.0] * 6}},
            "needs meta.viscosity, but the batch's meta has rpm",
        ),
        (SommerfeldConsistencyLoss([0, 1]), {}, "has 2 classes, but the model has 3"),
        (SommerfeldConsistencyLoss(), {"meta": {"sommerfeld": [1.0]}}, "one number for each of 6 samples"),
        (SommerfeldConsistencyLoss(), {"meta": {"sommerfeld": [None] * 6}}, "meta.sommerfeld must be one number"),
        (PhysicalConstraintLoss(0, 0), {"targets": torch.arange(6)}, "label 3 is out of range for 3 classes"),
        (PhysicalConstraintLoss(0, 0), {"targets": torch.ones(6)}, r"integers of shape \[6\]; got torch\.float32"),
        (PhysicalConstraintLoss(0, 0), {"targets": None}, "got NoneType"),
        (TemporalSmoothnessLoss(), {"targets": torch.arange(5)}, r"targets must have shape \[6\], not \[5\]"),
    ],
)
def test_batches_that_do_not_fit_are_refused(loss, changed, message):
    """With what is missing and what was found."""
    with pytest.raises(ValueError, match=message):
        loss(scored(torch.zeros(6, 3)), {**batch_of_everything(), **changed})


def test_scores_of_another_shape_are_refused():
    """Sequences are not classified."""
    with pytest.raises(ValueError, match=r"outputs have shape \[6, 3, 2\] instead of \[batch, classes\]"):
        TemporalSmoothnessLoss()(scored(torch.zeros(6, 3, 2)), batch_of_everything())
