"""The pictures of signals, in whole runs."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from dovetail import Config
from dovetail.main import run

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
    "envelope": {"type": "signals.envelope_picture", "band": [2000.0, 5000.0]},
}


def train(folder, **changed):
    """Train and return the outcome and the run's folder."""
    tables = {**BEARING, **changed, "paths": {"output": str(folder)}}
    outcome = run(Config.from_dict(tables).build())
    (found,) = (folder / "pictures").iterdir()
    return outcome, found


def words(svg):
    """Return all texts of a picture."""
    return [element.text for element in ET.fromstring(svg).iter() if element.text]  # noqa: S314 (we wrote it)


@pytest.mark.slow
def test_pictures_do_not_change_a_run(tmp_path):
    """The report has pictures of classes, masks and fault lines; losses and metrics equal those without pictures."""
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
def test_unusable_data_warn_or_raise(tmp_path):
    """Inputs that are not spectrograms give a warning in the log; a missing column ends the run."""
    raw = {"transforms": {}, "model": {"type": "signals.wdcnn"}}
    _, folder = train(tmp_path / "raw", **raw, callbacks={"one": {"type": "signals.spectrogram_picture"}})
    wrong = {"one": {"type": "signals.envelope_picture", "rpm": "speed"}}
    outcome, _ = train(tmp_path / "wrong", callbacks=wrong)

    assert "the inputs are not spectrograms" in (folder / "log.txt").read_text(encoding="utf-8")
    assert outcome.status == "failed"
    assert "rpm = 'speed': no column 'speed'; there are" in outcome.reason
