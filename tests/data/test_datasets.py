"""Tests of the datasets that are no tables: digits, archives of arrays, folders, texts."""

from __future__ import annotations

import struct
import subprocess
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dovetail.data.arrays import as_inputs, read_headers, read_npy, read_npz
from dovetail.data.characters import characters
from dovetail.data.collators import DefaultCollator
from dovetail.data.digits import digits
from dovetail.data.errors import DataError
from dovetail.data.folder import folder
from dovetail.data.loader import make_loader
from dovetail.data.npz import npz_arrays
from dovetail.data.split import SplitOptions, split

# --- digits ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_digits():
    """1,797 images between 0 and 1, in ten classes."""
    images, flat = digits(), digits(flat=True)

    assert (len(images), images.input_shape, flat.input_shape) == (1797, (1, 8, 8), (64,))
    assert images.inputs.dtype is torch.float32
    assert (float(images.inputs.min()), float(images.inputs.max())) == (0, 1)
    assert images.class_names == tuple("0123456789")
    assert np.bincount(images.targets).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert torch.equal(images.inputs.reshape(-1, 64), flat.inputs)
    assert images.fingerprint == flat.fingerprint == "8b3b6ae90863430bdef06a3f7d1ec2f6a905a53d3375655b18cf63780ad98772"


@pytest.mark.slow
def test_digits_without_scikit_learn_say_what_to_install():
    """In a process where it cannot be imported."""
    code = (
        "import sys; sys.modules['sklearn'] = None; sys.modules['sklearn.datasets'] = None\n"
        "from dovetail.data.digits import digits\n"
        "try: digits()\nexcept ModuleNotFoundError as error: print(error)"
    )

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "the dataset 'digits' comes with scikit-learn: pip install 'dovetail[digits]'"


# --- npz ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def save(tmp_path):
    """Save arrays as a .npz and return its path."""

    def saved(name="data.npz", **arrays):
        path = tmp_path / name
        np.savez_compressed(path, **arrays)
        return path

    return saved


def test_npz_arrays_become_samples_and_columns(save):
    """Numbers, and text of a fixed length."""
    path = save(
        inputs=np.arange(12.0).reshape(3, 2, 2), targets=np.asarray([2, 0, 2]), speaker=np.asarray(["a", "b", "a"]),
        code=np.asarray([b"x", b"y", b"z"]), rate=np.asarray(8000),
    )  # fmt: skip

    samples = npz_arrays(path, meta=["speaker"])

    assert samples.inputs.dtype is torch.float32
    assert samples.input_shape == (2, 2)
    assert (samples.class_names, samples.targets.tolist()) == (("0", "2"), [1, 0, 1])
    assert samples.column("code").tolist() == ["x", "y", "z"]
    assert samples[1]["speaker"] == "b"
    assert len(split(samples, SplitOptions(by="speaker", test=["b"], validation=0), 0).train) == 2


def test_npz_options(save):
    """Other names, token ids, a regression, given classes."""
    path = save(
        x=np.asarray([[1, 2], [3, 4]], dtype=np.uint8), y=np.asarray([[0.5], [1.5]]), z=np.asarray([True, False])
    )

    assert npz_arrays(path, inputs="x", targets="z", dtype="int64").inputs.dtype is torch.int64
    assert npz_arrays(path, inputs="x", targets="y", task="regression").target_values.tolist() == [[0.5], [1.5]]
    assert npz_arrays(path, inputs="x", targets="z", classes=["off", "on"]).targets.tolist() == [1, 0]


class Evil:
    """An object that would leave a trace if it were unpickled."""

    def __reduce__(self):
        """Run code on loading."""
        return exec, ("import sys; sys.unpickled = True",)


def test_an_archive_of_python_objects_is_never_unpickled(save, tmp_path):
    """Reliability 6: neither from .npz nor from .npy."""
    path = save(inputs=np.zeros((2, 2)), targets=np.asarray([Evil(), Evil()], dtype=object))
    np.save(tmp_path / "evil.npy", np.asarray([Evil()], dtype=object))

    with pytest.raises(DataError, match=r"data.npz: array 'targets' cannot be read: it holds Python objects"):
        npz_arrays(path)
    with pytest.raises(DataError, match=r"evil.npy: the array cannot be read: it holds Python objects"):
        read_npy(tmp_path / "evil.npy", largest=1000)
    assert not hasattr(sys, "unpickled")


def npy(shape, dtype="<f4", body=b"") -> bytes:
    """Return a .npy file whose header says what it likes."""
    header = str({"descr": dtype, "fortran_order": False, "shape": shape}).encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


def archive(path, **members):
    """Write a zip of raw members."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


@pytest.mark.parametrize("claimed", [2**28, 100])
def test_an_archive_bomb_takes_no_memory(tmp_path, claimed):
    """Reliability 7: 2 MB that would unpack to 1 GB, or whose header lies about it."""
    path = tmp_path / "bomb.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
        file.open("inputs.npy", "w") as member,
    ):
        member.write(npy((claimed,)))
        for _ in range(32):
            member.write(bytes(1 << 22))
    tracemalloc.start()

    with pytest.raises(DataError, match=r"bomb.npz: array 'inputs' (cannot be read: it should hold|of shape)"):
        read_npz(path, "inputs", largest=1 << 20)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4e6


def test_arrays_share_one_limit_of_memory(save):
    """The size is told by the header, before anything is read."""
    path = save(inputs=np.zeros((100, 10)), targets=np.arange(100) % 2)

    assert len(npz_arrays(path, max_bytes=8800)) == 100
    with pytest.raises(DataError, match=r"array 'inputs' of shape \(100, 10\) needs 8 kB of memory, more than 7.99 kB"):
        npz_arrays(path, max_bytes=7990)
    with pytest.raises(
        DataError, match=r"array 'targets' of shape \(100,\) needs 800 bytes of memory, more than 500 bytes"
    ):
        npz_arrays(path, max_bytes=8500)


DAMAGED = {
    "no zip": (lambda path: path.write_bytes(b"hello"), "this is no .npz file"),
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:-30]), "this is no .npz file"),
    "empty zip": (archive, "there is no array in this file"),
    "no array inside": (lambda path: archive(path, inputs=b"hello"), "array 'inputs' cannot be read"),
    "short array": (lambda path: archive(path, inputs=npy((2,), body=bytes(4))), "should hold 8 bytes, but 4 follow"),
    "long array": (lambda path: archive(path, inputs=npy((2,), body=bytes(12))), "should hold 8 bytes, but 12 follow"),
    "negative shape": (
        lambda path: archive(path, inputs=npy((-2, -2), body=bytes(16))),
        "array 'inputs' cannot be read",
    ),
    "records": (
        lambda path: archive(path, inputs=npy((1,), dtype=[("a", "<f4")], body=bytes(4))),
        "dtype .* neither numbers nor text",
    ),
    "code in the header": (lambda path: archive(path, inputs=npy("__import__('os')")), "array 'inputs' cannot be read"),
    "version 9": (lambda path: archive(path, inputs=b"\x93NUMPY\x09\x00" + bytes(20)), "array 'inputs' cannot be read"),
}


@pytest.mark.parametrize("damage, message", DAMAGED.values(), ids=DAMAGED)
def test_damaged_archives(save, damage, message):
    """File and array are named."""
    path = save(inputs=np.zeros((2, 2)), targets=np.asarray([0, 1]))
    damage(path)

    with pytest.raises(DataError, match=f"data.npz: .*{message}"):
        npz_arrays(path)


@settings(max_examples=60)
@given(st.data())
def test_any_flipped_byte_is_read_or_refused(tmp_path_factory, data):
    """Never another error than ours; the zip's checksum tells a changed array."""
    path = tmp_path_factory.mktemp("flip") / "data.npz"
    inputs = np.arange(8.0).reshape(4, 2)
    np.savez_compressed(path, inputs=inputs, targets=np.asarray([0, 1, 0, 1]))
    raw = bytearray(path.read_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(raw)
    try:
        samples = npz_arrays(path)
    except DataError:
        return

    assert samples.inputs.tolist() == inputs.tolist()


WRONG = {
    "no inputs": (
        {"inputs": "input"},
        r"inputs: there is no array 'input'; did you mean 'inputs'\? \(there are 'inputs' \(3, 2\)",
    ),
    "no targets": ({"targets": "y"}, "targets: there is no array 'y'"),
    "no meta": ({"meta": ["rpm"]}, "meta: there is no array 'rpm'"),
    "length": ({"targets": "short"}, r"targets: 'short' has shape \(2,\) for 3 samples in 'inputs'"),
    "meta shape": ({"meta": ["short"]}, r"meta: 'short' has shape \(2,\), where a column has \(3,\)"),
    "scalar": ({"inputs": "rate"}, r"inputs: array 'rate' of shape \(\) has no samples"),
    "complex": ({"inputs": "spectrum"}, "array 'spectrum' has dtype complex128; inputs are real numbers"),
    "text": ({"inputs": "words"}, "array 'words' has dtype <U1"),
    "NaN": ({"inputs": "gaps"}, r"array 'gaps' has nan at \(1, 0\), which is no finite float32 number"),
    "fraction": ({"dtype": "int64", "inputs": "halves"}, r"array 'halves' has 0.5 at 0, which is no int64 number"),
    "label": (
        {"classes": ["a", "b"]},
        r"sample 2: label 2 in 'targets' is out of range: 2 classes have indices 0 to 1",
    ),
    "NaN label": ({"targets": "holes"}, "sample 1: nan in 'holes' is no class label"),
}


@pytest.mark.parametrize("options, message", WRONG.values(), ids=WRONG)
def test_arrays_that_do_not_fit(save, options, message):
    """With their shapes, and the sample at fault."""
    path = save(
        inputs=np.zeros((3, 2)), targets=np.asarray([0, 1, 2]), short=np.zeros(2), rate=np.asarray(1.0),
        spectrum=np.zeros(3, dtype=complex), words=np.asarray(["a", "b", "c"]), halves=np.asarray([0.5, 1, 1]),
        gaps=np.asarray([[0, 0], [np.nan, 0], [0, 0]]), holes=np.asarray([0, np.nan, 1]),
    )  # fmt: skip

    with pytest.raises(DataError, match=f"data.npz: {message}"):
        npz_arrays(path, **options)


def test_headers_tell_sizes(save):
    """Without reading the arrays."""
    headers = read_headers(save(a=np.zeros((3, 4), dtype=np.float32)))

    assert (headers["a"].shape, headers["a"].nbytes) == ((3, 4), 48)


def test_inputs_are_checked_for_float32(tmp_path):
    """A value that only float64 can hold is named."""
    assert as_inputs(tmp_path, None, np.asarray([1, 2])).tolist() == [1, 2]
    with pytest.raises(DataError, match=r"the array has 1e\+39 at 1"):
        as_inputs(tmp_path, None, np.asarray([1.0, 1e39]))


# --- folder ---------------------------------------------------------------------------------------------------------


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
    """Read when asked for, with what the metadata says."""
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
    """And what is read is kept."""
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
    """To channels, in the order given."""
    (recordings / "metadata.csv").write_text("file,label\na.npz,1\na.npz,2\n")

    assert folder(recordings, "label", keys=["FE", "DE"])[0][0].tolist() == [[10, 11, 12, 13], [0, 1, 2, 3]]
    assert folder(recordings, "label", keys=["DE"]).input_shape == (1, 4)
    with pytest.raises(
        DataError, match=r"metadata.csv:2: .*a.npz: keys: arrays of one shape are needed, .* 'rpm' \(\)"
    ):
        folder(recordings, "label", keys=["DE", "rpm"])[0]
    with pytest.raises(DataError, match=r"there are the arrays 'DE', 'FE', 'rpm'; say in `keys`"):
        folder(recordings, "label")[0]
    with pytest.raises(DataError, match=r"metadata.csv:3: .*a.npz: there is no array 'DX'; did you mean 'DE'\?"):
        folder(recordings, "label", keys=["DX"])[1]


def test_the_fingerprint_tells_changes(recordings):
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
def test_files_outside_of_the_folder_are_refused(recordings, name):
    """Also by way of a symbolic link, to a file or to a folder."""
    np.save(recordings.parent / "secret.npy", np.zeros(3))
    (recordings / "link.npy").symlink_to(recordings.parent / "secret.npy")
    (recordings / "dir").symlink_to(recordings.parent)
    (recordings / "metadata.csv").write_text(f"file,label\nc.csv,a\n{name},b\n")

    with pytest.raises(DataError, match=r"metadata.csv:3: file .* lies outside of the folder"):
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
    """At the start where it can be told without reading, else when it is read."""
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


# --- characters -----------------------------------------------------------------------------------------------------


def test_characters(tmp_path):
    """Windows of a text and the text one further on; its end validates."""
    (tmp_path / "text.txt").write_text("abcde" * 20, encoding="utf-8")

    splits = characters(tmp_path / "text.txt", window=4)

    assert [(name, len(part)) for name, part in splits] == [("train", 22), ("validation", 2)]
    assert splits.train.class_names == tuple("abcde")
    assert (splits.train.vocab_size, splits.train.num_classes, splits.train.input_shape) == (5, 5, (4,))
    inputs, targets = splits.train[1]
    assert "".join(splits.train.class_names[index] for index in inputs) == "eabc"
    assert "".join(splits.train.class_names[index] for index in targets) == "abcd"
    assert inputs.dtype is targets.dtype is torch.int64
    with pytest.raises(IndexError, match="window 22 of 22"):
        splits.train[22]


@given(st.integers(1, 9), st.one_of(st.none(), st.integers(1, 12)), st.integers(20, 60))
def test_windows_have_their_next_character(tmp_path_factory, window, stride, length):
    """All of them, whole, and the same read one by one or at once."""
    text = "".join(chr(97 + number % 26) for number in range(length))
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(text)

    part = characters(path, window=window, stride=stride, train=1).train

    starts = range(0, length - window, stride or window)
    assert len(part) == len(starts)
    batch = part.get_batch(np.arange(len(part)))
    for row, start in enumerate(starts):
        assert torch.equal(batch["inputs"][row], part[row][0])
        assert torch.equal(batch["targets"][row], part[row][1])
        assert "".join(part.class_names[index] for index in part[row][1]) == text[start + 1 : start + window + 1]


def test_characters_beyond_ascii(tmp_path):
    """Each is one, whatever its bytes; a byte order mark is none."""
    (tmp_path / "text.txt").write_text("\ufeff" + "é😀a" * 20, encoding="utf-8")

    assert characters(tmp_path / "text.txt", window=4).train.class_names == ("a", "é", "😀")


@pytest.mark.parametrize(
    "content, options, message",
    [
        (b"abc", {}, "3 characters for train are too few for a window of 128"),
        (b"abcdefghij" * 3, {"window": 5}, "3 characters for validation are too few for a window of 5"),
        (b"", {}, "0 characters for train"),
        (b"ab\n\xff", {}, r"text.txt:2: this is not UTF-8 \(byte 0xff\)"),
    ],
)
def test_texts_that_do_not_do(tmp_path, content, options, message):
    """Too short, or no text."""
    (tmp_path / "text.txt").write_bytes(content)

    with pytest.raises(DataError, match=message):
        characters(tmp_path / "text.txt", **options)
