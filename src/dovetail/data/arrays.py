"""Safe reading of NumPy's .npy and .npz files: no pickles, and no more memory than the caller allows.

A .npz is a zip, and a zip of 2 MB can hold 2 GB of zeros. So the header of an array, which gives its size, is read
first. Its claim must match the archive's claim, and the size must be within the limit, before memory is allocated.
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
_MAX_HEADER: Final = 10_000  # bytes, NumPy's own limit
_KINDS: Final = "biufcSU"  # numbers, and text of a fixed length: kinds that need no pickle
_READ_ERRORS: Final = (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)


@frozen
class Header:
    """Shape and dtype of an array, as its file gives them."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the array needs."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_headers(path: Path) -> dict[str, Header]:
    """Return the headers of the arrays in a .npz, by name, without reading the arrays.

    Raises:
        FileNotFoundError: the file does not exist.
        DataError: the file is not a .npz, or an array in it is damaged or contains Python objects.
    """
    path = existing_file(path)
    headers = {}
    with _open_archive(path) as archive:
        for entry in archive.infolist():
            name = entry.filename.removesuffix(_SUFFIX)
            with _naming(path, name), archive.open(entry) as file:
                headers[name] = _read_header(file, entry.file_size)
    if not headers:
        raise DataError.at(path, "there is no array in this file")
    return headers


def read_npz(path: Path, name: str, *, max_bytes: int) -> Array:
    """Return an array of a .npz.

    Args:
        path: the file.
        name: the array's name in the file.
        max_bytes: bytes of memory that the array may need.

    Raises:
        FileNotFoundError: the file does not exist.
        DataError: the file is not a .npz or has no such array, or the array is damaged, too large, or contains Python
            objects.
    """
    path = existing_file(path)
    with _open_archive(path) as archive:
        names = [entry.filename.removesuffix(_SUFFIX) for entry in archive.infolist()]
        if name not in names:
            raise DataError.at(path, f"there is no array '{name}'{suggest(name, names)} (there are {listing(names)})")
        entry = archive.infolist()[names.index(name)]
        with _naming(path, name):
            with archive.open(entry) as file:
                _check_size(path, name, _read_header(file, entry.file_size), max_bytes)
            with archive.open(entry) as file:
                return np.asarray(npy.read_array(file, allow_pickle=False))


def read_npy(path: Path, *, max_bytes: int) -> Array:
    """Return the array of a .npy; the arguments and errors are those of :func:`read_npz`."""
    path = existing_file(path)
    with _naming(path, None), path.open("rb") as file:
        _check_size(path, None, _read_header(file, path.stat().st_size), max_bytes)
        file.seek(0)
        return np.asarray(npy.read_array(file, allow_pickle=False))


@contextlib.contextmanager
def _open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except _READ_ERRORS as error:
        raise DataError.at(path, f"this is not a .npz file ({error})") from error
    with archive:
        yield archive


@contextlib.contextmanager
def _naming(path: Path, name: str | None) -> Iterator[None]:
    """Turn errors of reading into a DataError that names file and array."""
    try:
        yield
    except DataError:
        raise
    except _READ_ERRORS as error:
        raise DataError.at(path, f"{_the(name)} cannot be read: {error}") from error


def _the(name: str | None) -> str:
    return "the array" if name is None else f"array '{name}'"


def _read_header(file: IO[bytes], length: int) -> Header:
    version = npy.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = npy.read_array_header_1_0(file, max_header_size=_MAX_HEADER)
    elif version == (2, 0):
        shape, _, dtype = npy.read_array_header_2_0(file, max_header_size=_MAX_HEADER)
    else:
        raise ValueError(f"format version {version} is not supported")
    if dtype.hasobject:
        raise ValueError("it contains Python objects, which only pickle can read; save it as numbers or text")
    if dtype.kind not in _KINDS:
        raise ValueError(f"its dtype {dtype} is neither numbers nor text")
    header = Header(shape, dtype)
    if min(shape, default=0) < 0 or header.nbytes != length - file.tell():
        raise ValueError(f"its header announces {header.nbytes:,} bytes, but {length - file.tell():,} follow")
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
        DataError: the array is text or complex; or a value is NaN, infinite or too large for float32, or, for int64,
            has a fraction. The message names the value's place.
    """
    if values.dtype.kind not in "biuf":
        raise DataError.at(path, f"{_the(name)} has dtype {values.dtype}; inputs must be real numbers")
    with np.errstate(over="ignore", invalid="ignore"):
        converted = values.astype(dtype, order="C")
    valid = np.isfinite(converted) if dtype == "float32" else converted == values
    if not valid.all():
        place = tuple(int(index) for index in np.argwhere(~valid)[0])
        shown = place[0] if len(place) == 1 else place
        wanted = "a finite float32" if dtype == "float32" else "an int64"
        raise DataError.at(path, f"{_the(name)} has {values[place]} at {shown}, which is not {wanted} number")
    return torch.from_numpy(converted)
