"""Recordings listed in a metadata table."""

from __future__ import annotations

import csv
import wave

import numpy as np
import pytest
import torch
from scipy.io import savemat

from dovetail import Config
from dovetail.data import SplitOptions, split
from dovetail.data.loader import make_loader
from dovetail.main import run
from dovetail_signals.recordings import recordings
from places import DATA

CWRU = DATA / "cwru_bearing"


def write_table(folder, rows):
    """Write the metadata table."""
    with (folder / "metadata.csv").open("w", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def folder(tmp_path):
    """Return a folder with a recording of each format: ramps of 400 samples at 1 kHz."""
    ramp = np.arange(400, dtype=np.float32)
    np.savez(tmp_path / "a.npz", DE=ramp, fs=1000)
    savemat(tmp_path / "b.mat", {"bearing": {"gs": ramp[:, None] + 1000, "sr": 1000.0}})
    (tmp_path / "c.csv").write_text("DE\n" + "".join(f"{value + 2000}\n" for value in range(400)))
    with wave.open(str(tmp_path / "d.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(1000)
        file.writeframes((ramp * 10).astype("<i2").tobytes())
    rows = [
        {"file": name, "fault": fault, "rpm": 1700 + number, "sample_rate_hz": 1000}
        for number, (name, fault) in enumerate([("a.npz", "x"), ("b.mat", "y"), ("c.csv", "x"), ("d.wav", "y")])
    ]
    write_table(tmp_path, rows)
    return tmp_path


def test_every_format_is_read(folder):
    """A file of each format becomes windows, with its metadata, in the order of the table."""
    dataset = recordings(folder, "fault", window=100, overlap=0.5, meta=["rpm"])

    assert len(dataset) == 4 * 7
    assert dataset.class_names == ("x", "y")
    assert dataset.input_shape == (1, 100)
    assert [float(dataset[index]["inputs"][0, 0]) for index in (0, 1, 7, 14)] == [0, 50, 1000, 2000]
    assert float(dataset[22]["inputs"][0, 0]) == pytest.approx(500 / 32768)
    assert dataset[27]["rpm"] == 1703
    assert dataset.spans[1].tolist() == [0.05, 0.15]
    assert dataset.column("recording")[7] == "b.mat"
    with pytest.raises(KeyError, match="there are fault"):
        dataset.column("rmp")


def test_windows_have_their_recording_and_time(folder):
    """In the batch's meta if requested, and as columns for a split."""
    dataset = recordings(folder, "fault", window=100, overlap=0.5, meta=["recording", "time"])
    batch = dataset.get_batch(np.asarray([1, 8]))

    assert batch["meta"]["recording"] == ["a.npz", "b.mat"]
    assert batch["meta"]["time"].tolist() == pytest.approx([0.05, 0.05])
    assert (dataset[3]["recording"], dataset[3]["time"]) == ("a.npz", pytest.approx(0.15))
    assert dataset.column("time").max() == pytest.approx(0.3)
    with pytest.raises(ValueError, match="target: unknown column 'time'"):
        recordings(folder, "time", window=100)


def test_the_table_can_name_the_channels(tmp_path):
    """For each recording its own, in the given order."""
    np.savez(tmp_path / "a.npz", DE=np.zeros(10, np.float32), FE=np.ones(10, np.float32))
    np.savez(tmp_path / "b.npz", gs=np.full(10, 2, np.float32), tp=np.full(10, 3, np.float32))
    rows = [{"file": "a.npz", "on": "FE+DE"}, {"file": "b.npz", "on": "gs+tp"}]
    write_table(tmp_path, [row | {"fault": "x"} for row in rows])
    dataset = recordings(tmp_path, "fault", window=10, channels="on", sample_rate=1000.0)

    assert dataset.signal[:, [0, 10]].tolist() == [[1, 2], [0, 3]]


def test_mixed_sampling_rates_raise_unless_resampled(folder):
    """The error names a recording with the rarest rate; resampling keeps the frequency of a tone."""
    time = np.arange(4000) / 4000
    np.savez(folder / "e.npz", DE=np.sin(2 * np.pi * 50 * time).astype(np.float32), fs=4000)
    rows = [
        {"file": "a.npz", "fault": "x", "sample_rate_hz": 1000},
        {"file": "c.csv", "fault": "x", "sample_rate_hz": 1000},
        {"file": "e.npz", "fault": "y", "sample_rate_hz": 4000},
    ]
    write_table(folder, rows)
    with pytest.raises(ValueError, match=r"1000 Hz, 4000 Hz; 'e.npz'.*resample_to"):
        recordings(folder, "fault", window=100)

    dataset = recordings(folder, "fault", window=1000, resample_to=1000.0, where={"fault": "y"})
    spectrum = torch.fft.rfft(dataset[0]["inputs"][0]).abs()
    assert int(spectrum.argmax()) == 50
    assert len(recordings(folder, "fault", window=100, where={"sample_rate_hz": [1000]})) == 8


@pytest.mark.parametrize(
    "change, options, message",
    [
        ({"sample_rate_hz": 2000}, {}, "is 1000 Hz in the file, but 2000 Hz in the table"),
        ({"file": "z.npz"}, {}, "z.npz: no such file"),
        ({"file": "../a.npz"}, {}, "outside the folder"),
        ({"fault": ""}, {}, "'a.npz' has no value of 'fault'"),
        ({}, {"window": 500}, "'a.npz' has 400 samples, fewer than a window of 500"),
        ({}, {"channels": ["FE"]}, "no signal 'FE'; it has DE"),
        (
            {},
            {"channels": "channel"},
            "channels: a recording has no value in a column 'channel'; there are file, fault",
        ),
        ({}, {"meta": ["load"]}, "meta: unknown column 'load'"),
        ({}, {"where": {"fault": "q"}}, "no recording has"),
        ({}, {"where": {"flt": "q"}}, "where: no column 'flt'"),
        ({}, {"classes": ["y"]}, "has the class 'x', which is not among"),
        ({}, {"metadata": "other.csv"}, "other.csv: no such file"),
        ({}, {"sample_rate": "fs"}, "neither in the file nor in column 'fs'"),
        ({}, {"window": 500, "short": "drop"}, "every recording is shorter"),
        ({}, {"task": "regression"}, "needs numbers in 'fault'"),
    ],
)
def test_bad_recordings_raise(folder, change, options, message):
    """The error says what is wrong in which file."""
    first = {"file": "a.npz", "fault": "x", "rpm": 1, "sample_rate_hz": 1000} | change
    write_table(folder, [first, {"file": "c.csv", "fault": "y", "rpm": 2, "sample_rate_hz": 1000}])
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        recordings(folder, "fault", **{"window": 100} | options)


@pytest.mark.parametrize(
    "content, message",
    [
        ("file,fault\na.npz,Größe\n".encode("latin-1"), r"metadata\.csv: not UTF-8 \(invalid .* at byte"),
        (b"file;fault\na.npz;x\n", r"no column 'file'; there are file;fault \(fields are separated by commas\)"),
    ],
)
def test_a_table_in_another_format_raises(folder, content, message):
    """The error names the encoding, or hints at the separator."""
    (folder / "metadata.csv").write_bytes(content)

    with pytest.raises(ValueError, match=message):
        recordings(folder, "fault", window=100)


@pytest.mark.skipif(not CWRU.is_dir(), reason="needs the CWRU data under DOVETAIL_DATA")
def test_the_traps_of_the_real_recordings():
    """All recordings together mix rates; a split by load keeps recordings whole."""
    with pytest.raises(ValueError, match=r"12000 Hz, 48000 Hz; 'Normal_0_48k.npz'"):
        recordings(CWRU, "class", window=2048, channels=["DE"])
    dataset = recordings(
        CWRU, "class", window=2048, channels=["DE"], where={"fault": ["ball", "inner_race", "outer_race"]}, meta=["rpm"]
    )
    splits = split(dataset, SplitOptions(by="load_hp", test=[3], validation=0.2, unit="time", gap=0.1), 0)

    assert dataset.num_classes == 9
    assert set(splits.test.column("load_hp").tolist()) == {3}
    assert set(splits.train.column("load_hp").tolist()) == {0, 1, 2}
    assert not set(splits.train.column("recording")) & set(splits.test.column("recording"))
    batch = next(iter(make_loader(splits.train, batch_size=8)))
    assert batch["inputs"].shape == (8, 1, 2048)
    assert set(batch["meta"]) == {"rpm"}


def test_a_run_trains_on_a_folder(folder, tmp_path):
    """A run file's split by time and by recording both work."""
    table = {
        "run": {"name": "small"},
        "data": {
            "type": "signals.recordings",
            "path": str(folder),
            "target": "fault",
            "window": 50,
            "split": {"validation": 0.25, "unit": "time", "test": 0.25},
        },
        "model": {"type": "mlp", "hidden_dims": [4]},
        "loss": {"type": "cross_entropy"},
        "optimizer": {"type": "adamw"},
        "training": {"max_epochs": 1},
        "report": {"enabled": False},
        "logging": {"console": False},
        "paths": {"output": str(tmp_path / "runs")},
    }
    assert run(Config.from_dict(table).build()).status == "completed"

    table["data"]["split"] = {"by": "recording", "test": ["d.wav"], "validation": ["c.csv"]}
    assert run(Config.from_dict(table).build()).status == "completed"
