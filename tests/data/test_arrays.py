"""Reading .npy and .npz files that may be damaged or hostile."""

from __future__ import annotations

import struct
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dovetail.data.array_datasets import npz_arrays
from dovetail.data.arrays import as_inputs, read_headers, read_npy, read_npz
from dovetail.data.errors import DataError


@pytest.fixture
def save(tmp_path):
    """Save arrays as a .npz and return its path."""

    def saved(name="data.npz", **arrays):
        path = tmp_path / name
        np.savez_compressed(path, **arrays)
        return path

    return saved


class Evil:
    """An object that would leave a trace if it were unpickled."""

    def __reduce__(self):
        """Run code on loading."""
        return exec, ("import sys; sys.unpickled = True",)


def npy(shape, dtype="<f4", body=b"") -> bytes:
    """Return a .npy file with any header."""
    header = str({"descr": dtype, "fortran_order": False, "shape": shape}).encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


def archive(path, **members):
    """Write a zip of raw members."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def test_an_archive_of_python_objects_is_never_unpickled(save, tmp_path):
    """Neither from .npz nor from .npy (reliability 6)."""
    path = save(inputs=np.zeros((2, 2)), targets=np.asarray([Evil(), Evil()], dtype=object))
    np.save(tmp_path / "evil.npy", np.asarray([Evil()], dtype=object))

    with pytest.raises(DataError, match=r"data.npz: array 'targets' cannot be read: it contains Python objects"):
        npz_arrays(path)
    with pytest.raises(DataError, match=r"evil.npy: the array cannot be read: it contains Python objects"):
        read_npy(tmp_path / "evil.npy", max_bytes=1000)
    assert not hasattr(sys, "unpickled")


@pytest.mark.parametrize("claimed", [2**28, 100])
def test_an_archive_bomb_takes_no_memory(tmp_path, claimed):
    """2 MB that would unpack to 1 GB, or with a header that lies about it (reliability 7)."""
    path = tmp_path / "bomb.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
        file.open("inputs.npy", "w") as member,
    ):
        member.write(npy((claimed,)))
        for _ in range(32):
            member.write(bytes(1 << 22))
    tracemalloc.start()

    with pytest.raises(DataError, match=r"bomb.npz: array 'inputs' (cannot be read: its header announces|of shape)"):
        read_npz(path, "inputs", max_bytes=1 << 20)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4e6


DAMAGED = {
    "no zip": (lambda path: path.write_bytes(b"hello"), "this is not a .npz file"),
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:-30]), "this is not a .npz file"),
    "empty zip": (archive, "there is no array in this file"),
    "no array inside": (lambda path: archive(path, inputs=b"hello"), "array 'inputs' cannot be read"),
    "short array": (lambda path: archive(path, inputs=npy((2,), body=bytes(4))), "announces 8 bytes, but 4 follow"),
    "long array": (lambda path: archive(path, inputs=npy((2,), body=bytes(12))), "announces 8 bytes, but 12 follow"),
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
def test_damaged_archives_are_refused(save, damage, message):
    """The message names file and array."""
    path = save(inputs=np.zeros((2, 2)), targets=np.asarray([0, 1]))
    damage(path)

    with pytest.raises(DataError, match=f"data.npz: .*{message}"):
        npz_arrays(path)


@settings(max_examples=60)
@given(st.data())
def test_any_flipped_byte_is_read_or_refused(tmp_path_factory, data):
    """No other error occurs; the zip's checksum reveals a changed array."""
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


def test_headers_give_sizes(save):
    """Without reading the arrays."""
    headers = read_headers(save(a=np.zeros((3, 4), dtype=np.float32)))

    assert (headers["a"].shape, headers["a"].nbytes) == ((3, 4), 48)


def test_inputs_are_checked_for_float32(tmp_path):
    """The message names a value that only float64 can represent."""
    assert as_inputs(tmp_path, None, np.asarray([1, 2])).tolist() == [1, 2]
    with pytest.raises(DataError, match=r"the array has 1e\+39 at 1"):
        as_inputs(tmp_path, None, np.asarray([1.0, 1e39]))


def test_arrays_of_format_version_2_are_read(tmp_path):
    """NumPy writes it for long headers."""
    with (tmp_path / "data.npy").open("wb") as file:
        np.lib.format.write_array(file, np.arange(3.0), version=(2, 0))

    assert read_npy(tmp_path / "data.npy", max_bytes=24).tolist() == [0, 1, 2]
