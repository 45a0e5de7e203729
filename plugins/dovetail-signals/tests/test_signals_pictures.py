"""Pictures of signals: they show what is there, where it is, and change nothing."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dovetail import Config
from dovetail.main import run
from dovetail_signals.pictures.heat_map import heat_map
from dovetail_signals.pictures.spectra import Marks, stacked_spectra
from dovetail_signals.pictures.spectrogram import masked
from dovetail_signals.pictures.svg import Axis, round_values
from dovetail_signals.simulated import simulated_rolling

BEARING = {
    "run": {"name": "pictures", "seed": 3},
    "data": {
        "type": "signals.simulated_rolling",
        "recordings": 3,
        "seconds": 1.0,
        "window": 1024,
        "meta": ["rpm"],
        "split": {"validation": 0.3, "test": 0.3, "stratify": True},
    },
    "transforms": {
        "shift": {"type": "signals.time_shift"},
        "stft": {"type": "signals.stft"},
        "masks": {"type": "signals.spec_augment", "time_mask_param": 5, "freq_mask_param": 30},
    },
    "model": {"type": "signals.spectrogram_cnn", "channels": [4, 4], "dropout": 0.2},
    "loss": {"type": "cross_entropy"},
    "training": {"max_epochs": 1},
    "hardware": {"device": "cpu", "threads": 1},
    "logging": {"console": False},
}
BOTH = {
    "spectrograms": {"type": "signals.spectrogram_picture", "samples": 2},
    "knocks": {"type": "signals.envelope_picture", "band": [2000.0, 5000.0]},
}


def train(folder, **changed):
    """Run it, and return the outcome and the folder of its pictures."""
    tables = {**BEARING, **changed, "paths": {"output": str(folder)}}
    outcome = run(Config.from_dict(tables).build())
    (found,) = (folder / "pictures").iterdir()
    return outcome, found


def words(svg):
    """Return all that a picture says."""
    return [element.text for element in ET.fromstring(svg).iter() if element.text]  # noqa: S314 (we wrote it)


@pytest.mark.slow
def test_a_run_draws_both_and_does_not_notice(tmp_path):
    """Pictures of classes, masks and fault lines are in the report, and the weights are those of a run without them."""
    outcome, folder = train(tmp_path / "with", callbacks=BOTH)
    plain, bare = train(tmp_path / "without")
    pictures = {path.stem: path.read_text(encoding="utf-8") for path in (folder / "pictures").iterdir()}
    page = (folder / "report.html").read_text(encoding="utf-8")

    assert outcome.check().metrics["train_loss"] == plain.check().metrics["train_loss"]
    assert outcome.test_metrics == plain.test_metrics
    assert not (bare / "pictures").exists()
    assert [*sorted(pictures)] == ["envelope", "spectrogram-1", "spectrogram-2"]
    assert all(picture in page for picture in pictures.values())
    assert {"healthy", "outer_race", "BPFO = 3.58", "2 × BPFI = 10.8"} <= {*words(pictures["envelope"])}
    assert all("as trained on (hatched: masked)" in pictures[f"spectrogram-{number}"] for number in (1, 2))
    assert {"frequency, Hz", "time, s"} <= {*words(pictures["spectrogram-1"])}


@pytest.mark.slow
def test_what_there_is_nothing_to_draw_of_is_said(tmp_path):
    """Inputs that are no spectrograms leave a line in the log; a column that is not there ends the run."""
    raw = {"transforms": {}, "model": {"type": "signals.wdcnn"}}
    _, folder = train(tmp_path / "raw", **raw, callbacks={"one": {"type": "signals.spectrogram_picture"}})
    wrong = {"one": {"type": "signals.envelope_picture", "rpm": "speed"}}
    outcome, _ = train(tmp_path / "wrong", callbacks=wrong)

    assert "the inputs are not spectrograms" in (folder / "log.txt").read_text(encoding="utf-8")
    assert outcome.status == "failed"
    assert "rpm = 'speed': no column 'speed'; there are" in outcome.reason


def test_the_lines_meet_the_peaks():
    """In simulated recordings without slip the outer race's spectrum is highest where its line stands."""
    from dovetail_signals.pictures.envelope import EnvelopePicture

    samples = simulated_rolling(0, faults=["outer_race", "inner_race"], recordings=2, slip=0.0, snr_db=(10.0, 10.0))
    part = EnvelopePicture(band=(2000.0, 5000.0), multiples=2)
    for row, signal in samples.contiguous_segments():
        orders, values = part.spectrum(signal[0], samples.sample_rate, samples.column("shaft_hz")[row])
        fault = samples.column("fault")[row]
        # Around an inner race's frequency are its sidebands, a turn of the shaft away.
        expected, near = (3.5848, 2.0) if fault == "outer_race" else (5.4152, 0.5)
        close = np.abs(orders - expected) < near
        assert orders[close][values[close].argmax()] == pytest.approx(expected, abs=0.05)


def test_stretches_are_as_long_as_the_windows_reach():
    """Each recording is put together again from windows; where some are missing, the longest part of it."""
    samples = simulated_rolling(0, faults=["ball"], recordings=2, seconds=0.5, window=1000, overlap=0.5)
    whole = {
        name: signal for name, (_, signal) in zip(["ball 0", "ball 1"], samples.contiguous_segments(), strict=True)
    }
    holey = samples.subset(np.array([0, 1, 2, 5, 6, 7, 8, 9]))
    ((row, longest),) = holey.contiguous_segments()

    assert [signal.shape for signal in whole.values()] == [(1, 6000), (1, 6000)]
    assert torch.equal(whole["ball 0"][0, 500:1500], samples[1]["inputs"][0])
    assert (row, longest.shape) == (3, (1, 3000))
    assert torch.equal(longest, whole["ball 0"][:, 2500:5500])


@given(
    st.integers(0, 1000),
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 5)), max_size=3),
    st.lists(st.tuples(st.integers(0, 15), st.integers(0, 5)), max_size=3),
    st.sampled_from([0.0, 0.3]),
)
def test_masks_are_found_and_silence_is_none(seed, rows, columns, fill):
    """Masked are exactly the rows and columns that a mask covers, also beside columns of silence."""
    values = torch.randn(12, 16, generator=torch.Generator().manual_seed(seed))
    values[:, 13:] = -50.0
    expected = torch.zeros(12, 16, dtype=torch.bool)
    for start, length in rows:
        expected[start : start + length] = True
    for start, length in columns:
        expected[:, start : start + length] = True
    assert torch.equal(masked(values.masked_fill(expected, fill)), expected) or expected.all()


def test_a_heat_map_shows_its_values():
    """Dark where values are small and bright where they are large, rows from the bottom up; nothing where hidden."""
    axes = (Axis.linear("x", 0, 3), Axis.linear("t", 5, 6))
    drawn = heat_map("a <b>", np.array([[0.0, 1.0], [1.0, 2.5]]), *axes)
    covered = heat_map("a", np.array([[0.0, 1.0], [1.0, 9.0]]), *axes, hidden=np.array([[0.0, 0.0], [0.0, 1.0]]))

    assert "a &lt;b&gt;" in drawn
    assert '<path style="stroke: #00224e" d="M0 1h1"/>' in drawn
    assert '<path style="stroke: #fee838" d="M1 0h1"/>' in drawn
    assert {"x", "t", "5", "5.5", "2.5"} <= {*words(drawn)}
    assert '<path style="stroke: #fee838" d="M1 1h1M0 0h1"/>' in covered.replace("M0 0h1M1 1h1", "M1 1h1M0 0h1")
    assert "M1 0h1" not in covered


def test_powers_are_written_out_and_large_pictures_stay_small():
    """A power of -3 is written as 1e-3; noise of a million values takes less than 200 kB."""
    axes = (Axis.linear("x", 0, 1), Axis.linear("t", 0, 1))
    drawn = heat_map("error", np.linspace(-5, -1, 20).reshape(4, 5), *axes, powers=True)

    assert {"1e-5", "1e-3", "1e-1"} <= {*words(drawn)}
    assert len(heat_map("noise", np.random.default_rng(0).random((1000, 1000)), *axes)) < 200_000


def test_spectra_have_their_peaks_where_they_are():
    """The highest point of each class's line is at its peak's place, however narrow the peak is."""
    values = np.full(4000, 0.1)
    values[1000] = 1.0
    drawn = stacked_spectra("s", {"one": values, "two": np.zeros(4000)}, "orders", 4.0, [Marks("A&B", [1.0], "train")])
    line = re.findall(r'd="(M8\.\d[^"]*)"', drawn)[0]
    points = [tuple(map(float, point.split())) for point in line[1:].split("L")]
    x, _ = min(points, key=lambda point: point[1])

    assert x == pytest.approx(8 + 542 / 4, abs=1.5)
    assert "A&B = 1" in words(drawn)


@given(st.floats(-1e4, 1e4), st.floats(1e-6, 1e6), st.integers(2, 9))
def test_ticks_are_round_few_and_inside(offset, span, most):
    """At most as many as asked for, evenly spaced, within the values."""
    low = offset * span
    found = round_values(low, low + span, most)

    assert len(found) <= most
    assert all(low - 1e-6 * span <= tick <= low + span * (1 + 1e-6) for tick in found)
    if len(found) > 2:
        steps = np.diff(found)
        assert np.allclose(steps, steps[0], rtol=1e-3)


def test_uneven_axes_keep_their_order():
    """On a logarithmic axis a number stands where its value is."""
    axis = Axis.from_values("Hz", np.geomspace(10, 1000, 50))

    assert axis.ticks[0] == (0.0, "10")
    assert {words: place for place, words in axis.ticks}["100"] == pytest.approx(0.5, abs=0.01)
    assert [place for place, _ in axis.ticks] == sorted(place for place, _ in axis.ticks)
