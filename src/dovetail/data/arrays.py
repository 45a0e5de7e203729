"""NumPy's .npy and .npz files, read without trusting them: no pickles, and no more memory than was agreed to.

A .npz is a zip, and a zip of 2 MB can hold 2 GB of zeros. So the header of an array, which tells its size, is read
first; what it claims must be what the archive claims, and both less than the limit, before memory is asked for.
"""

from __future__ import annotations

import contextlib
import math
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final, Literal

import numpy as np
import numpy.typing as npt
import torch
from attrs import frozen
from numpy.lib import format as npy

from dovetail.config.diagnostics import suggest
from dovetail.data.errors import DataError, existing_file, listing
from dovetail.storage.errors import format_bytes

Array = npt.NDArray[Any]

_SUFFIX: Final = ".npy"
_LONGEST_HEADER: Final = 10_000  # bytes, as NumPy allows
_KINDS: Final = "biufcSU"  # numbers and text of a fixed length: nothing that needs pickle
_DAMAGED: Final = (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)


@frozen
class Header:
    """What a file says about an array before it is read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the array needs."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_headers(path: Path) -> dict[str, Header]:
    """Return the headers of the arrays in a .npz, by name, without reading the arrays.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: it is no .npz, or an array in it is damaged or made of Python objects.
    """
    path = existing_file(path)
    headers = {}
    with _archive(path) as archive:
        for entry in archive.infolist():
            name = entry.filename.removesuffix(_SUFFIX)
            with _blamed(path, name), archive.open(entry) as file:
                headers[name] = _header(file, entry.file_size)
    if not headers:
        raise DataError.at(path, "there is no array in this file")
    return headers


def read_npz(path: Path, name: str, *, largest: int) -> Array:
    """Return an array of a .npz.

    Args:
        path: the file.
        name: the array's name in it.
        largest: bytes of memory that the array may need.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: it is no .npz, has no such array, or the array is damaged, too large, or made of Python objects.
    """
    path = existing_file(path)
    with _archive(path) as archive:
        names = [entry.filename.removesuffix(_SUFFIX) for entry in archive.infolist()]
        if name not in names:
            raise DataError.at(path, f"there is no array '{name}'{suggest(name, names)} (there are {listing(names)})")
        entry = archive.infolist()[names.index(name)]
        with _blamed(path, name):
            with archive.open(entry) as file:
                _check_size(path, name, _header(file, entry.file_size), largest)
            with archive.open(entry) as file:
                return np.asarray(npy.read_array(file, allow_pickle=False))


def read_npy(path: Path, *, largest: int) -> Array:
    """Return the array of a .npy; the arguments and errors are those of :func:`read_npz`."""
    path = existing_file(path)
    with _blamed(path, None), path.open("rb") as file:
        _check_size(path, None, _header(file, path.stat().st_size), largest)
        file.seek(0)
        return np.asarray(npy.read_array(file, allow_pickle=False))


@contextlib.contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except _DAMAGED as error:
        raise DataError.at(path, f"this is no .npz file ({error})") from error
    with archive:
        yield archive


@contextlib.contextmanager
def _blamed(path: Path, name: str | None) -> Iterator[None]:
    """Name file and array in whatever goes wrong."""
    try:
        yield
    except DataError:
        raise
    except _DAMAGED as error:
        raise DataError.at(path, f"{_the(name)} cannot be read: {error}") from error


def _the(name: str | None) -> str:
    return "the array" if name is None else f"array '{name}'"


def _header(file: IO[bytes], length: int) -> Header:
    version = npy.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = npy.read_array_header_1_0(file, max_header_size=_LONGEST_HEADER)
    elif version == (2, 0):
        shape, _, dtype = npy.read_array_header_2_0(file, max_header_size=_LONGEST_HEADER)
    else:
        raise ValueError(f"format version {version}")
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which only pickle could read; save it as numbers or text")
    if dtype.kind not in _KINDS:
        raise ValueError(f"it has dtype {dtype}, which is neither numbers nor text")
    header = Header(shape, dtype)
    if min(shape, default=0) < 0 or header.nbytes != length - file.tell():
        raise ValueError(f"it should hold {header.nbytes:,} bytes, but {length - file.tell():,} follow the header")
    return header


def _check_size(path: Path, name: str | None, header: Header, largest: int) -> None:
    if header.nbytes > largest:
        needs = f"needs {format_bytes(header.nbytes)} of memory, more than {format_bytes(largest)}"
        raise DataError.at(path, f"{_the(name)} of shape {header.shape} {needs}")


def as_inputs(
    path: Path, name: str | None, values: Array, dtype: Literal["float32", "int64"] = "float32"
) -> torch.Tensor:
    """Return an array as a tensor that a model can take.

    Raises:
        DataError: it is text or complex, or a value is NaN, infinite or too large for float32, or has a fraction where
            integers are wanted; the message names the value's place.
    """
    if values.dtype.kind not in "biuf":
        raise DataError.at(path, f"{_the(name)} has dtype {values.dtype}; inputs are real numbers")
    with np.errstate(over="ignore", invalid="ignore"):
        made = values.astype(dtype, order="C")
    right = np.isfinite(made) if dtype == "float32" else made == values
    if not right.all():
        place = tuple(int(index) for index in np.argwhere(~right)[0])
        shown = place[0] if len(place) == 1 else place
        wanted = "finite float32" if dtype == "float32" else "int64"
        raise DataError.at(path, f"{_the(name)} has {values[place]} at {shown}, which is no {wanted} number")
    return torch.from_numpy(made)
