"""Recordings from real files, cut into windows and split."""

from __future__ import annotations

import csv
import os
import wave
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from dovetail import Config
from dovetail.data.loader import make_loader
from dovetail.data.split import SplitOptions, split
from dovetail.main import run
from dovetail_signals.clips import clips
from dovetail_signals.recordings import recordings
from dovetail_signals.signal_files import read_signal
from dovetail_signals.windows import Recording, cut

DATA = Path(os.environ.get("DOVETAIL_DATA", Path(__file__).parents[4] / "shared" / "data"))
CWRU = DATA / "cwru_bearing"


def write_table(folder, rows):
    """Write the metadata table."""
    with (folder / "metadata.csv").open("w", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def folder(tmp_path):
    """Return a folder with a recording of each format: 400 values at 1 kHz, ramps that tell the place."""
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
    """A file of each kind becomes windows, with its facts, in the order of the table."""
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


def test_windows_tell_their_recording_and_their_time(folder):
    """In the batch's meta where they are asked for, and for any split."""
    dataset = recordings(folder, "fault", window=100, overlap=0.5, meta=["recording", "time"])
    batch = dataset.get_batch(np.asarray([1, 8]))

    assert batch["meta"]["recording"] == ["a.npz", "b.mat"]
    assert batch["meta"]["time"].tolist() == pytest.approx([0.05, 0.05])
    assert (dataset[3]["recording"], dataset[3]["time"]) == ("a.npz", pytest.approx(0.15))
    assert dataset.column("time").max() == pytest.approx(0.3)
    with pytest.raises(ValueError, match="target: unknown column 'time'"):
        recordings(folder, "time", window=100)


def test_the_table_says_which_channels(tmp_path):
    """Each recording's own, by name; two of them in their order."""
    np.savez(tmp_path / "a.npz", DE=np.zeros(10, np.float32), FE=np.ones(10, np.float32))
    np.savez(tmp_path / "b.npz", gs=np.full(10, 2, np.float32), tp=np.full(10, 3, np.float32))
    rows = [{"file": "a.npz", "on": "FE+DE"}, {"file": "b.npz", "on": "gs+tp"}]
    write_table(tmp_path, [row | {"fault": "x"} for row in rows])
    dataset = recordings(tmp_path, "fault", window=10, channels="on", sample_rate=1000.0)

    assert dataset.signal[:, [0, 10]].tolist() == [[1, 2], [0, 3]]


@settings(max_examples=40)
@given(st.lists(st.integers(8, 90), min_size=1, max_size=5), st.integers(2, 8), st.floats(0, 0.9), st.data())
def test_windows_are_those_of_a_plain_loop(lengths, window, overlap, data):
    """Every window lies inside its recording, and a batch holds what single samples hold."""
    found = [
        Recording(f"r{number}", torch.randn(2, length), 100.0, {"fault": number % 2, "rpm": number})
        for number, length in enumerate(lengths)
    ]
    dataset = cut(
        found,
        window=window,
        overlap=overlap,
        target="fault",
        task="classification",
        meta=["rpm"],
        classes=[],
        fingerprint="x",
    )
    hop = max(1, round(window * (1 - overlap)))
    expected = [
        recording.signal[:, start : start + window]
        for recording in found
        for start in range(0, recording.signal.shape[1] - window + 1, hop)
    ]
    some = np.asarray(data.draw(st.lists(st.integers(0, len(expected) - 1), min_size=1, max_size=6)))

    assert len(dataset) == len(expected)
    assert all(torch.equal(dataset[index]["inputs"], expected[index]) for index in range(len(expected)))
    assert torch.equal(dataset.get_batch(some)["inputs"], torch.stack([expected[index] for index in some]))
    assert torch.equal(dataset.subset(some)[0]["inputs"], expected[some[0]])
    assert dataset.get_batch(some)["meta"]["rpm"].tolist() == dataset.column("rpm")[some].tolist()


def test_mixed_sampling_rates_are_refused_unless_resampled(folder):
    """The message names an odd one; resampling keeps the frequency of a tone."""
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
        ({}, {"channels": "channel"}, "channels: a recording has no value in a column 'channel'; there are file, fault"),
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
def test_bad_recordings_are_refused(folder, change, options, message):
    """Each with the file and what is wrong."""
    first = {"file": "a.npz", "fault": "x", "rpm": 1, "sample_rate_hz": 1000} | change
    write_table(folder, [first, {"file": "c.csv", "fault": "y", "rpm": 2, "sample_rate_hz": 1000}])
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        recordings(folder, "fault", **{"window": 100} | options)


def test_what_unpacks_to_too_much_is_refused(tmp_path):
    """A small file may hold gigabytes of zeros: refused before memory is asked for, and so is a header that lies."""
    np.savez_compressed(tmp_path / "bomb.npz", DE=np.zeros(40_000_000, np.int8), fs=1000)
    savemat(tmp_path / "bomb.mat", {"DE": np.zeros(4_000_000)}, do_compression=True)
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999999,), }"
    with zipfile.ZipFile(tmp_path / "lies.npz", "w") as packed:
        packed.writestr(
            "DE.npy", b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + header.ljust(117) + b"\n" + b"1234"
        )
    clips_of = {"audio": np.zeros(30_000_000, np.int16), "offsets": [0, 9], "sample_rate": 8000, "label": [1]}
    np.savez_compressed(tmp_path / "clips.npz", **clips_of)

    for name in ("bomb.npz", "bomb.mat"):
        assert (tmp_path / name).stat().st_size < 100_000
        with pytest.raises(ValueError, match=rf"{name}: it needs \d+ bytes .* more than max_bytes = 10000000"):
            read_signal(tmp_path / name, ["DE"], max_bytes=10_000_000)
    with pytest.raises(ValueError, match=r"clips\.npz: it needs \d+ bytes"):
        clips(tmp_path / "clips.npz", "label", window=4, max_bytes=10_000_000)
    with pytest.raises(ValueError, match=r"lies\.npz: "):
        read_signal(tmp_path / "lies.npz", ["DE"])


def test_files_may_begin_with_a_byte_order_mark(folder):
    """As spreadsheet programs write them: neither the first column's name nor the first value is lost."""
    for name in ("metadata.csv", "c.csv"):
        path = folder / name
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    (folder / "bare.csv").write_bytes(b"\xef\xbb\xbf1.5\n2.5\n")

    assert len(recordings(folder, "fault", window=100)) == 16
    assert read_signal(folder / "bare.csv", ())[0].tolist() == [[1.5, 2.5]]


@pytest.mark.parametrize(
    "content, message",
    [
        ("file,fault\na.npz,Größe\n".encode("latin-1"), r"metadata\.csv: not UTF-8 \(invalid .* at byte"),
        (b"file;fault\na.npz;x\n", r"no column 'file'; there are file;fault \(fields are separated by commas\)"),
    ],
)
def test_a_table_of_another_form_is_named(folder, content, message):
    """Its encoding, or what stands between its fields."""
    (folder / "metadata.csv").write_bytes(content)

    with pytest.raises(ValueError, match=message):
        recordings(folder, "fault", window=100)


def test_files_that_are_not_what_they_seem_are_refused(tmp_path):
    """A broken archive, a pickle in one, ragged rows, NaN, and an unknown suffix."""
    (tmp_path / "broken.npz").write_bytes(b"PK\3\4 nothing")
    np.savez(tmp_path / "pickle.npz", DE=np.asarray([{"a": 1}, None], dtype=object))
    (tmp_path / "ragged.csv").write_text("1,2\n3\n")
    (tmp_path / "nan.csv").write_text("1\nnan\n")
    (tmp_path / "text.txt").write_text("1\n")
    (tmp_path / "two.npz").write_bytes(b"")
    np.savez(tmp_path / "two.npz", a=np.zeros(5), b=np.zeros(5))
    for name, message in {
        "broken.npz": "broken.npz",
        "pickle.npz": "allow_pickle",
        "ragged.csv": "line 2 has 1 fields",
        "nan.csv": "NaN",
        "text.txt": r"unknown file format '\.txt'",
        "two.npz": "name one or more in `channels`",
    }.items():
        with pytest.raises(ValueError, match=message):
            read_signal(tmp_path / name, [])
    assert read_signal(tmp_path / "two.npz", ["b", "a"])[0].shape == (2, 5)


def test_clips_of_an_archive(tmp_path):
    """Short clips are padded, long ones cut, and other arrays can be split by."""
    sound = np.arange(1, 31, dtype=np.int16)
    np.savez(
        tmp_path / "clips.npz",
        audio=sound,
        offsets=[0, 4, 20, 30],
        label=[2, 1, 2],
        speaker=["ann", "bob", "ann"],
        sample_rate=8000,
    )
    dataset = clips(tmp_path / "clips.npz", "label", window=8, longest=8, meta=["speaker"])

    assert len(dataset) == 3
    assert dataset.class_names == ("1", "2")
    assert (dataset[0]["inputs"][0] * 32768).tolist() == [1, 2, 3, 4, 0, 0, 0, 0]
    assert float(dataset[1]["inputs"][0, 0] * 32768) == 5
    assert dataset[1]["speaker"] == "bob"
    assert [len(part) for _, part in split(dataset, SplitOptions(by="speaker", test=["bob"], validation=0), 0)] == [
        2,
        1,
    ]
    np.savez(tmp_path / "bad.npz", audio=sound, offsets=[0, 40], sample_rate=8000)
    with pytest.raises(ValueError, match="must rise from 0 to at most 30"):
        clips(tmp_path / "bad.npz", "label", window=8)
    with pytest.raises(ValueError, match="no array 'sound'"):
        clips(tmp_path / "bad.npz", "label", window=8, signal="sound")


@pytest.mark.skipif(not CWRU.is_dir(), reason="needs the CWRU data under DOVETAIL_DATA")
def test_the_traps_of_the_real_recordings():
    """All recordings together mix rates; windows of one recording stay together; loads split as asked."""
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
    """The run file's split and metadata reach the trainer; a split that leaks is refused with its place."""
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
