"""A folder of recordings as a dataset."""

from __future__ import annotations

import numpy as np
import pytest

from dovetail.data.collators import DefaultCollator
from dovetail.data.errors import DataError
from dovetail.data.folders import folder
from dovetail.data.loader import make_loader


@pytest.fixture
def recordings(tmp_path):
    """Return a folder with recordings of all formats, and its metadata."""
    root = tmp_path / "recordings"
    (root / "sub").mkdir(parents=True)
    np.savez(root / "a.npz", DE=np.arange(4.0), FE=np.arange(4.0) + 10, rpm=1797)
    np.savez(root / "single.npz", signal=np.arange(5.0))
    np.save(root / "sub" / "b.npy", np.arange(6, dtype=np.int16))
    (root / "c.csv").write_text("1\n2\n3\n4\n")
    (root / "metadata.csv").write_text("file,label,rpm\nsub/b.npy,worn,1700\nc.csv,ok,1800\nsingle.npz,ok,\n")
    return root


def test_a_folder_of_recordings(recordings):
    """Files are read on first use, with their metadata."""
    samples = folder(recordings, "label", meta=["rpm"])

    assert (len(samples), samples.num_classes, samples.class_names) == (3, 2, ("ok", "worn"))
    assert samples.targets.tolist() == [1, 0, 0]
    assert samples[0]["inputs"].tolist() == [0, 1, 2, 3, 4, 5]
    assert samples[1]["inputs"].tolist() == [1, 2, 3, 4]
    assert samples[2]["inputs"].tolist() == [0, 1, 2, 3, 4]
    assert samples[0]["rpm"] == 1700
    assert samples.column("label").tolist() == ["worn", "ok", "ok"]
    assert samples.subset(np.asarray([2, 0]))[0]["inputs"].tolist() == [0, 1, 2, 3, 4]


def test_length_makes_recordings_equal(recordings):
    """Inputs that were read stay in memory."""
    samples = folder(recordings, "label", length=3)

    assert DefaultCollator()([samples[index] for index in range(3)])["inputs"].tolist() == [
        [0, 1, 2],
        [1, 2, 3],
        [0, 1, 2],
    ]
    assert samples.input_shape == (3,)
    (recordings / "c.csv").unlink()
    assert samples[1][0].tolist() == [1, 2, 3]


def test_keys_are_stacked(recordings):
    """To channels, in the given order."""
    (recordings / "metadata.csv").write_text("file,label\na.npz,1\na.npz,2\n")

    assert folder(recordings, "label", keys=["FE", "DE"])[0][0].tolist() == [[10, 11, 12, 13], [0, 1, 2, 3]]
    assert folder(recordings, "label", keys=["DE"]).input_shape == (1, 4)
    with pytest.raises(
        DataError, match=r"metadata.csv:2: .*a.npz: keys: the arrays must have the same shape, .* 'rpm' \(\)"
    ):
        folder(recordings, "label", keys=["DE", "rpm"])[0]
    with pytest.raises(DataError, match=r"there are several arrays, 'DE', 'FE', 'rpm': choose with `keys`"):
        folder(recordings, "label")[0]
    with pytest.raises(DataError, match=r"metadata.csv:3: .*a.npz: there is no array 'DX'; did you mean 'DE'\?"):
        folder(recordings, "label", keys=["DX"])[1]


def test_the_fingerprint_reflects_changes(recordings):
    """Of the metadata and of the files' sizes, without reading the files."""
    first = folder(recordings, "label").fingerprint
    np.save(recordings / "sub" / "b.npy", np.arange(7, dtype=np.int16))
    second = folder(recordings, "label").fingerprint
    with (recordings / "metadata.csv").open("a") as file:
        file.write("c.csv,worn,1\n")

    assert len({first, second, folder(recordings, "label").fingerprint}) == 3


@pytest.mark.parametrize(
    "name", ["../secret.npy", "/etc/hostname", "link.npy", "sub/../../secret.npy", "dir/secret.npy"]
)
def test_files_outside_the_folder_are_refused(recordings, name):
    """Also by a symbolic link to a file or to a folder."""
    np.save(recordings.parent / "secret.npy", np.zeros(3))
    (recordings / "link.npy").symlink_to(recordings.parent / "secret.npy")
    (recordings / "dir").symlink_to(recordings.parent)
    (recordings / "metadata.csv").write_text(f"file,label\nc.csv,a\n{name},b\n")

    with pytest.raises(DataError, match=r"metadata.csv:3: file .* lies outside the folder"):
        folder(recordings, "label")


FAULTY = {
    "absent file": ("nope.npy,b", {}, r"metadata.csv:3: there is no file 'nope.npy'"),
    "a folder": ("sub,b", {}, r"metadata.csv:3: there is no file 'sub'"),
    "another format": ("x.wav,b", {}, r"metadata.csv:3: file 'x.wav' is none of '.npz', '.npy', '.csv'"),
    "no label": ("c.csv,", {}, r"metadata.csv:3: 'label' has no value here"),
    "no column": ("c.csv,b", {"file": "fil"}, r"metadata.csv: file: there is no column 'fil'; did you mean 'file'\?"),
    "no meta": ("c.csv,b", {"meta": ["rmp"]}, r"meta: there is no column 'rmp'"),
    "too short": ("c.csv,b", {"length": 5}, r"metadata.csv:2: .*c.csv: length = 5, but the array has shape \(4,\)"),
    "too large": ("c.csv,b", {"max_bytes": 10}, r"metadata.csv:4: .*b.npy: the array of shape \(6,\) needs 12 bytes"),
    "damaged": ("c.csv,b", {}, r"metadata.csv:5: .*bad.npy: the array cannot be read"),
}


@pytest.mark.parametrize("row, options, message", FAULTY.values(), ids=FAULTY)
def test_a_faulty_row_is_named(recordings, row, options, message):
    """At the start if that needs no reading, otherwise when the file is read."""
    (recordings / "x.wav").write_bytes(b"")
    (recordings / "bad.npy").write_bytes(b"bad")
    (recordings / "metadata.csv").write_text(f"file,label\nc.csv,a\n{row}\nsub/b.npy,a\nbad.npy,a\n")

    with pytest.raises(DataError, match=message):
        list(make_loader(folder(recordings, "label", **options), batch_size=1))


def test_a_missing_folder_is_named(tmp_path):
    """And so is a folder without metadata."""
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        folder(tmp_path / "nowhere", "label")
    with pytest.raises(FileNotFoundError, match=r"metadata.csv: no such file"):
        folder(tmp_path, "label")
