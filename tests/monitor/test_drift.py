"""Drift: the divergence held to scipy's, profiles of all kinds of columns, and the monitor in real runs."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

import attrs
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.spatial.distance import jensenshannon
from torch import nn

from dovetail.config.diagnostics import ConfigError
from dovetail.data import Splits
from dovetail.data.samples import TensorSamples
from dovetail.main import run
from dovetail.monitor.columns import DriftError
from dovetail.monitor.data import DriftMonitor
from dovetail.monitor.drift import jensen_shannon, measure_drift
from dovetail.monitor.features import features_of
from dovetail.monitor.profile import Profile
from small_runs import blobs, only_run, small

COUNTS = st.lists(st.integers(0, 10**6), min_size=2, max_size=30).filter(any)
VALUES = st.floats(width=32, allow_nan=True, allow_infinity=True)


@given(COUNTS, st.randoms(use_true_random=False))
def test_the_divergence_is_scipys(counts, random):
    """Of counts with and without zeros: the square of scipy's distance to the base 2."""
    other = [random.choice([0, one, random.randint(0, 1000)]) for one in counts]
    other[0] += 1

    assert jensen_shannon(counts, other) == pytest.approx(jensenshannon(counts, other, base=2) ** 2, abs=1e-12)


@given(arrays.arrays(np.float64, (5, 8), elements=st.floats(0, 1e6)))
def test_many_at_once_are_each_alone(counts):
    """Rows of a matrix give what each gives by itself, in both directions, between 0 and 1."""
    counts[:, 0] += 1
    other = counts[::-1]
    found = jensen_shannon(counts, other)

    assert found.shape == (5,)
    assert found == pytest.approx([float(jensen_shannon(one, two)) for one, two in zip(counts, other, strict=True)])
    assert found == pytest.approx(jensen_shannon(other, counts))
    assert ((found >= 0) & (found <= 1)).all()


def test_extremes_of_the_divergence():
    """0 of a distribution from itself, 1 of those without overlap, and none of nothing."""
    assert jensen_shannon([1, 2, 3], [2, 4, 6]) == 0
    assert jensen_shannon([1, 0], [0, 5]) == 1
    for wrong in ([0, 0], [-1, 2], [math.nan, 1]):
        with pytest.raises(DriftError, match="not all of them 0"):
            jensen_shannon([1, 1], wrong)


@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 60), st.integers(1, 4)), elements=VALUES), st.integers(1, 12))
def test_every_value_is_in_one_bin(data, bins):
    """Whatever the numbers: bins rise, each row counts once, NaN apart, and a reference has not drifted from itself."""
    profile = Profile.build(data, bins=bins)
    numeric = profile.numeric

    assert (np.diff(numeric.edges, axis=1) >= 0).all()
    assert (numeric.counts.sum(1) == len(data)).all()
    assert numeric.counts[:, -1].tolist() == np.isnan(data).sum(0).tolist()
    finite = np.where(np.isfinite(data), data, np.nan)
    for place, edges in enumerate(numeric.edges):
        with np.errstate(invalid="ignore"):
            expected = [((finite[:, place] >= low) & (finite[:, place] < high)).sum() for low, high in pairwise(edges)]
        assert numeric.counts[place, 1:-2].tolist() == expected
    assert measure_drift(profile, data).js_divergence == 0


@given(st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_bins_of_the_reference_hold_equally_many(bins, seed):
    """Of numbers that are all different, no two bins differ by more than two rows."""
    data = np.random.default_rng(seed).permutation(500).astype(np.float64)[:, None]
    (counts,) = Profile.build(data, bins=bins).numeric.counts

    assert counts[0] == counts[-2] == counts[-1] == 0
    assert np.ptp(counts[1:-2]) <= 2


def test_what_drifts_is_found():
    """A shift, a spread, a new minimum, a constant that changes, values that go missing; the rest is left in peace."""
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((5000, 8)).astype(np.float32)
    reference[:, 6] = 3.0
    current = rng.standard_normal((5000, 8)).astype(np.float32)
    current[:, 1] += 1.0
    current[:, 2] *= 3.0
    current[:2500, 3] = -1000.0
    current[:2500, 4] = np.nan
    current[:, 6] = 3.0000002
    found = measure_drift(Profile.build(reference, names=list("abcdefgh")), current)

    assert set(found.affected_features) == {"b", "c", "d", "e", "g"}
    assert found.affected_features[0] == "g"
    assert (found.details["g"], found.status, found.js_divergence) == (1.0, "critical", 1.0)
    assert found.states["b"] == "warning"
    assert all(value < 0.01 for name, value in found.details.items() if name in "afh")
    assert found.mean_divergence == pytest.approx(np.mean(list(found.details.values())))
    assert found.in_words().startswith("the data have drifted from the reference in 5 of 8 features: g (1), ")


def test_thresholds_belong_to_the_state_above_them():
    """At a threshold exactly a feature is in its state."""
    reference = Profile.build({"x": np.array(["a"] * 50 + ["b"] * 50)})
    current = {"x": np.array(["a"] * 90 + ["b"] * 10)}
    value = measure_drift(reference, current).details["x"]

    assert measure_drift(reference, current, warning=value, critical=value).status == "critical"
    assert measure_drift(reference, current, warning=value, critical=1).status == "warning"
    assert measure_drift(reference, current, warning=math.nextafter(value, 1), critical=1).status == "healthy"


def test_categories():
    """Shares of names are compared; names that are new, and values that are missing, count as such."""
    table = pd.DataFrame({"colour": ["red", "red", "blue", None], "kind": [1, 1, 2, 3], "size": [0.1, 0.2, 0.3, 0.4]})
    profile = Profile.build(table, categorical=["kind"])
    other = pd.DataFrame({"size": [0.1, 0.4], "kind": [1, 7], "colour": ["green", "red"], "more": [1, 2]})
    found = profile.of(other)

    assert profile.names == ("size", "colour", "kind")
    assert profile.categorical["colour"].categories == ("red", "blue")
    assert profile.categorical["colour"].counts.tolist() == [2, 1, 0, 1]
    assert found.categorical["colour"].counts.tolist() == [1, 0, 1, 0]
    assert found.categorical["kind"].counts.tolist() == [1, 0, 0, 1, 0]
    expected = jensenshannon([2, 1, 0, 1], [1, 0, 1, 0], base=2) ** 2
    assert measure_drift(profile, other).details["colour"] == pytest.approx(expected)


@given(
    arrays.arrays(np.float64, (20, 3), elements=st.floats(allow_nan=True, allow_infinity=True)),
    st.lists(st.none() | st.text(max_size=5) | st.integers(-9, 9), min_size=1, max_size=20),
)
def test_a_saved_profile_is_the_same(tmp_path_factory, numbers, names):
    """Through JSON every edge and every count comes back to the last bit."""
    column = np.empty(len(names), object)
    column[:] = names
    data = {"a": numbers[:, 0], "b": numbers[:, 1], "c": numbers[:, 2], "names": column}
    profile, path = Profile.build(data), tmp_path_factory.mktemp("profiles") / "reference.json"
    profile.save(path)
    loaded = Profile.load(path)

    loaded.check_like(profile)
    assert loaded.rows == profile.rows
    assert loaded.numeric.edges.dtype == profile.numeric.edges.dtype
    assert loaded.numeric.counts.tolist() == profile.numeric.counts.tolist()
    assert loaded.categorical["names"].counts.tolist() == profile.categorical["names"].counts.tolist()
    assert measure_drift(loaded, data).js_divergence == 0


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda kept: kept.update(format=2), "has format 2, this Dovetail reads 1"),
        (lambda kept: kept.pop("rows"), "is no profile: KeyError"),
        (lambda kept: kept["numeric"][0]["counts"].pop(), "is no profile"),
        (lambda kept: kept["numeric"][0]["edges"].reverse(), "is no profile"),
        (lambda kept: kept["numeric"][0]["counts"].__setitem__(0, -1), "is no profile"),
        (lambda kept: kept.update(categorical=[{"name": "x", "categories": [1], "counts": [1]}]), "is no profile"),
        (lambda kept: kept.update(dtype="object"), "is no profile"),
    ],
)
def test_a_file_that_is_no_profile_is_refused(tmp_path, change, message):
    """Each with a message that names the file."""
    path = tmp_path / "reference.json"
    Profile.build(np.arange(10.0)[:, None], bins=3).save(path)
    kept = json.loads(path.read_text())
    change(kept)
    path.write_text(json.dumps(kept))

    with pytest.raises(DriftError, match=rf"reference\.json {message}"):
        Profile.load(path)


def test_data_that_have_no_profile():
    """No rows, no features, text for numbers, shapes and names that do not fit: each has its message."""
    profile = Profile.build({"a": np.arange(5.0)})
    for make, message in [
        (lambda: Profile.build(np.zeros((0, 2))), "there are no rows in column '0', '1'"),
        (lambda: Profile.build(np.zeros((2, 0))), "there are no features"),
        (lambda: Profile.build(np.zeros(3)), r"must be \[rows, features\], got shape \[3\]"),
        (lambda: Profile.build(np.zeros((3, 2)), names=["a"]), "1 names for 2 columns"),
        (lambda: Profile.build(np.zeros((3, 2)), names=["a", "a"]), "two columns have the same name"),
        (lambda: Profile.build({"a": np.zeros(3, complex)}), "no column of numbers or names: complex128"),
        (lambda: Profile.build({"a": np.zeros(3)}, categorical=["b"]), "no column 'b' to be categorical"),
        (lambda: Profile.build(np.zeros((3, 2)), bins=0), "bins must be at least 1, got 0"),
        (lambda: profile.of({"b": np.zeros(3)}), "no column 'a', which the reference has"),
        (lambda: profile.of({"a": np.array(["x"])}), "column 'a' is <U1; in the reference it holds numbers"),
        (lambda: measure_drift(profile, Profile.build({"a": np.arange(6.0)})), r"make the second with reference\.of"),
        (lambda: measure_drift(profile, {"a": np.zeros(3)}, warning=0.3), "0 < warning <= critical, got 0.3 and 0.2"),
    ]:
        with pytest.raises(DriftError, match=message):
            make()


def test_a_thousand_features():
    """All at once, from a tensor, in half precision too; parts added up are the whole."""
    data = torch.randn(400, 1000, generator=torch.Generator().manual_seed(0))
    profile = Profile.build(data)
    parts = profile.of(data[:150]) + profile.of(data[150:])

    assert parts.rows == 400
    assert parts.numeric.counts.tolist() == profile.numeric.counts.tolist()
    assert len(measure_drift(profile, data + 1).affected_features) == 1000
    assert Profile.build(data.to(torch.bfloat16)).numeric.edges.dtype == np.float32


# --- features of batches ----------------------------------------------------------------------------------------------


def test_features_of_batches():
    """Numbers by their place, sums of what is large, tokens without padding, and targets."""
    few = features_of({"inputs": torch.zeros(2, 1, 2), "targets": torch.tensor([0, 2])}, most=10)
    assert Profile.build(few.columns, categorical=few.categorical).names == ("inputs[0,0]", "inputs[0,1]", "targets")
    assert few.categorical == {"targets"}

    large = torch.arange(24.0).reshape(2, 3, 4)
    many = features_of({"inputs": {"x": large}, "targets": torch.zeros(2, 1)}, most=11)
    assert list(many.columns) == ["inputs.x.mean", "inputs.x.std", "inputs.x.min", "inputs.x.max", "targets"]
    assert many.columns["inputs.x.max"].tolist() == [11.0, 23.0]
    assert many.columns["inputs.x.std"] == pytest.approx(large.flatten(1).numpy().std(1))

    wide = torch.arange(160.0).reshape(2, 2, 40)
    channels = features_of({"inputs": wide}, most=8)
    assert list(channels.columns)[4:] == ["inputs[1].mean", "inputs[1].std", "inputs[1].min", "inputs[1].max"]
    assert channels.columns["inputs[1].mean"] == pytest.approx(wide[:, 1].mean(1).numpy())

    mask = torch.tensor([[True, True, False], [True, False, False]])
    text = features_of({"inputs": torch.arange(6).reshape(2, 3), "mask": mask}, most=10)
    assert text.columns["inputs"].tolist() == [0, 1, 3]


# --- in a run ---------------------------------------------------------------------------------------------------------


def shifted(rows: int, by: float) -> Splits:
    """Return blobs whose validation has its third input moved."""
    validation = blobs(rows, seed=1)
    inputs = validation.inputs.clone()
    inputs[:, 2] += by
    return Splits(blobs(1000), attrs.evolve(validation, inputs=inputs))


def figures(tmp_path: Any) -> list[dict[str, float]]:
    """Return what the monitor logged."""
    lines = (only_run(tmp_path) / "metrics.jsonl").read_text().splitlines()
    return [one["metrics"] for one in map(json.loads, lines) if one["event"] == "monitor"]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_finds_the_input_that_drifted(tmp_path, workers):
    """After each validation there are figures; the alert names the feature, and is told once."""
    monitor, data = DriftMonitor(), shifted(300, 1.5)
    loader = {"batch_size": 16, "num_workers": workers}
    assert run(small(tmp_path, data=data, callbacks={"drift": monitor}, loader=loader)).status == "completed"
    columns = {f"inputs[{place}]": data.train.inputs[:, place].numpy() for place in range(4)}
    columns["targets"] = data.train.targets
    expected = measure_drift(
        Profile.build(columns, categorical=["targets"]),
        {**{f"inputs[{place}]": data.validation.inputs[:, place].numpy() for place in range(4)},
         "targets": data.validation.targets},
    )  # fmt: skip
    (alert,) = map(json.loads, (only_run(tmp_path) / "alerts.jsonl").read_text().splitlines())

    assert monitor.last is not None
    assert monitor.last.details == expected.details
    assert [one["drift"] for one in figures(tmp_path)] == [expected.js_divergence] * 2
    assert (alert["type"], alert["severity"], alert["details"]["affected_features"]) == (
        "drift",
        "critical",
        ["inputs[2]"],
    )
    assert Profile.load(only_run(tmp_path) / "drift_reference.json").rows == 1000


def test_a_run_without_drift_says_nothing(tmp_path):
    """Figures are logged, and there is no alert; with few rows there is not even a verdict."""
    for rows, logged in ((300, 2), (50, 0)):
        run(small(tmp_path / str(rows), data=shifted(rows, 0.0), callbacks={"drift": {"type": "drift_monitor"}}))

        assert len(figures(tmp_path / str(rows))) == logged
        assert not (only_run(tmp_path / str(rows)) / "alerts.jsonl").exists()


def test_the_reference_of_another_run(tmp_path):
    """A profile that one run has kept is the reference of another; one of other features is refused at the start."""
    run(small(tmp_path / "first", data=shifted(300, 0.0), callbacks={"drift": {"type": "drift_monitor"}}))
    kept = str(only_run(tmp_path / "first") / "drift_reference.json")
    monitor = {"type": "drift_monitor", "reference": kept}
    run(small(tmp_path / "second", data=shifted(300, 3.0), callbacks={"drift": monitor}))

    assert (only_run(tmp_path / "second") / "alerts.jsonl").exists()

    Profile.build(np.arange(10.0)[:, None], names=["temperature"]).save(tmp_path / "other.json")
    monitor["reference"] = str(tmp_path / "other.json")
    outcome = run(small(tmp_path / "third", data=shifted(300, 3.0), callbacks={"drift": monitor}))
    assert outcome.status == "failed"
    assert "there is no column 'temperature', which the reference has" in outcome.reason


class Moved:
    """A transform of the training samples alone."""

    deterministic = True

    def __call__(self, sample: Any) -> Any:
        """Move the inputs far away."""
        return sample[0] + 100, sample[1]


def test_what_is_done_to_training_samples_alone_is_no_drift(tmp_path):
    """The reference is of the training samples as validation would see them, without their augmentation."""
    run(
        small(
            tmp_path,
            data=shifted(300, 0.0),
            transforms={"moved": Moved()},
            callbacks={"drift": {"type": "drift_monitor"}},
        )
    )

    assert max(one["drift"] for one in figures(tmp_path)) < 0.1


def test_large_samples_are_summed_up(tmp_path):
    """Images with more numbers than ``max_features`` are watched by mean, spread and range."""

    def images(rows: int, gain: float) -> TensorSamples:
        inputs = torch.randn(rows, 1, 8, 8, generator=torch.Generator().manual_seed(rows))
        return TensorSamples(gain * inputs, torch.arange(rows) % 3, ("a", "b", "c"), "noise")

    monitor = DriftMonitor(max_features=10)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    run(small(tmp_path, data=Splits(images(600, 1.0), images(200, 1.5)), model=model, callbacks={"drift": monitor}))

    assert monitor.last is not None
    assert list(monitor.last.details) == ["inputs.mean", "inputs.std", "inputs.min", "inputs.max", "targets"]
    assert "inputs.std" in monitor.last.affected_features


def test_thresholds_that_cross_are_refused(tmp_path):
    """With the config, before anything is read."""
    monitor = {"type": "drift_monitor", "drift_threshold_warning": 0.5}
    with pytest.raises(ValueError, match=r"at most drift_threshold_critical, got 0\.5 and 0\.2"):
        DriftMonitor(drift_threshold_warning=0.5)
    with pytest.raises(ConfigError, match="at most drift_threshold_critical"):
        run(small(tmp_path, callbacks={"drift": monitor}))
