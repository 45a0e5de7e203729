"""Reading signals from files."""

from __future__ import annotations

import csv
import wave
import zipfile

import numpy as np
import pytest
from scipy.io import savemat

from dovetail_signals.clips import clips
from dovetail_signals.recordings import recordings
from dovetail_signals.signal_files import read_signal


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


def test_archives_that_unpack_to_too_much_raise(tmp_path):
    """Small files with gigabytes of zeros, and headers that lie, raise before memory is allocated."""
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


def test_files_may_start_with_a_byte_order_mark(folder):
    """Neither the first column's name nor the first value is lost."""
    for name in ("metadata.csv", "c.csv"):
        path = folder / name
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    (folder / "bare.csv").write_bytes(b"\xef\xbb\xbf1.5\n2.5\n")

    assert len(recordings(folder, "fault", window=100)) == 16
    assert read_signal(folder / "bare.csv", ())[0].tolist() == [[1.5, 2.5]]


def test_unreadable_files_raise(tmp_path):
    """A broken archive, a pickle, ragged rows, NaN, an unknown suffix, and several signals."""
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
