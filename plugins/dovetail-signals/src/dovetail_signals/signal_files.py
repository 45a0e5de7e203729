"""Read signals from NumPy archives, WAV, MATLAB and CSV files, and resample them."""

from __future__ import annotations

import csv
import math
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

Array = npt.NDArray[Any]

SUFFIXES: Final = (".npz", ".wav", ".mat", ".csv")
#: Default limit on the memory of one file's unpacked arrays: 1 GiB.
MAX_BYTES: Final = 1 << 30
_BYTES_PER_VALUE: Final = 8  # of the widest type, float64
#: Names of arrays that hold a file's sampling rate, in Hz.
RATES: Final = ("fs", "sample_rate", "sampling_rate", "sr")


def read_signal(path: Path, channels: Sequence[str], max_bytes: int = MAX_BYTES) -> tuple[torch.Tensor, float | None]:
    """Return the signal of a file, [channels, length] float32, and its sampling rate in Hz, or None if it has none.

    Integers in a WAV file are scaled to -1 … 1; other values stay unchanged. Reading never executes code from a file.

    Args:
        path: a ``.npz``, ``.wav``, ``.mat`` (up to version 7) or ``.csv`` file.
        channels: names of the arrays or columns to use as channels; numbers from 0 for a WAV file. If empty, the only
            signal there is, or every channel of a WAV or CSV file.
        max_bytes: limit on the memory of the unpacked arrays of a ``.npz`` or ``.mat`` file, which may be compressed.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file does not have the format of its suffix, or lacks a channel; the message names the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        arrays, rate = _arrays(path, max_bytes)
        signal = _stacked(arrays, channels, every=path.suffix.lower() in {".wav", ".csv"})
    except (ValueError, OSError, MemoryError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise ValueError(f"{path}: {error}") from error
    if not np.isfinite(signal).all():
        raise ValueError(f"{path}: the signal contains NaN or infinite values")
    return torch.from_numpy(np.ascontiguousarray(signal, dtype=np.float32)), rate


def _arrays(path: Path, max_bytes: int) -> tuple[dict[str, Array], float | None]:
    match path.suffix.lower():
        case ".npz":
            return _npz(path, max_bytes)
        case ".wav":
            return _wav(path)
        case ".mat":
            return _mat(path, max_bytes)
        case ".csv":
            return _csv(path), None
        case other:
            raise ValueError(f"unknown file format '{other}'; use one of {', '.join(SUFFIXES)}")


def _stacked(arrays: Mapping[str, Array], channels: Sequence[str], *, every: bool) -> Array:
    signals = {
        name: np.squeeze(array) for name, array in arrays.items() if array.dtype.kind in "fiu" and array.size > 1
    }
    signals = {name: array for name, array in signals.items() if array.ndim == 1}
    if not channels and len(signals) > 1 and not every:
        raise ValueError(f"it has several signals, {', '.join(signals)}; name one or more in `channels`")
    names = list(channels) or list(signals)
    missing = [name for name in names if name not in signals]
    if missing or not names:
        raise ValueError(
            f"no signal '{missing[0]}'; it has {', '.join(signals) or 'none'}"
            if names
            else "it has no one-dimensional numeric array to use as a signal"
        )
    lengths = {name: len(signals[name]) for name in names}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"its channels have different lengths: {lengths}")
    return np.stack([signals[name].astype(np.float32) for name in names])


def _rate_in(arrays: Mapping[str, Array]) -> float | None:
    for name in RATES:
        if name in arrays and arrays[name].size == 1:
            return float(arrays[name].reshape(()))
    return None


def _npz(path: Path, max_bytes: int) -> tuple[dict[str, Array], float | None]:
    arrays = load_npz(path, max_bytes)
    return arrays, _rate_in(arrays)


def load_npz(path: Path, max_bytes: int) -> dict[str, Array]:
    """Return the arrays of a NumPy archive.

    Raises:
        ValueError, OSError, MemoryError, BadZipFile, zlib.error: the archive is damaged, contains Python objects, or
            needs more than ``max_bytes`` of memory.
    """
    with zipfile.ZipFile(path) as packed:  # 2 MB on disk can unpack to 2 GB of zeros
        require_memory(sum(member.file_size for member in packed.infolist()), max_bytes)
    # Open the file here: NumPy does not close one that turns out not to be an archive.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return {name: np.asarray(archive[name]) for name in archive.files}


def require_memory(needed: int, max_bytes: int) -> None:
    """Raise ValueError if ``needed`` is more than ``max_bytes``."""
    if needed > max_bytes:
        raise ValueError(f"it needs {needed} bytes of memory once unpacked, more than max_bytes = {max_bytes}")


def _mat(path: Path, max_bytes: int) -> tuple[dict[str, Array], float | None]:
    from scipy.io import loadmat, whosmat

    try:
        # For structures and cells, whosmat gives only their number.
        require_memory(sum(math.prod(shape) * _BYTES_PER_VALUE for _, shape, _ in whosmat(path)), max_bytes)
        found = loadmat(path)
    except NotImplementedError:
        raise ValueError("MATLAB's format 7.3 (HDF5) is not supported; save the file with -v7") from None
    arrays = {name: value for name, value in found.items() if isinstance(value, np.ndarray)}
    # Fields of a structure get MATLAB's dotted names, such as bearing.gs.
    for name, value in list(arrays.items()):
        if value.dtype.names and value.size == 1:
            fields = {f"{name}.{key}": np.asarray(value[key].item()) for key in value.dtype.names}
            arrays |= fields
    return arrays, _rate_in({name.rpartition(".")[2]: value for name, value in arrays.items()})


def _wav(path: Path) -> tuple[dict[str, Array], float | None]:
    from scipy.io import wavfile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", wavfile.WavFileWarning)  # non-audio chunks of other programs
        rate, found = wavfile.read(path)
    signal = np.asarray(found)
    if signal.dtype == np.uint8:
        signal = (signal.astype(np.float32) - 128) / 128
    elif signal.dtype.kind == "i":
        signal = signal.astype(np.float32) / float(2 ** (8 * signal.dtype.itemsize - 1))
    columns = signal[:, None] if signal.ndim == 1 else signal
    return {str(number): columns[:, number] for number in range(columns.shape[1])}, float(rate)


def _csv(path: Path) -> dict[str, Array]:
    with path.open(newline="", encoding="utf-8-sig") as lines:
        rows = [row for row in csv.reader(lines) if row]
    if not rows:
        raise ValueError("the file is empty")
    header = not _is_number(rows[0][0])
    names = [name.strip() for name in rows[0]] if header else [str(place) for place in range(len(rows[0]))]
    body = rows[1:] if header else rows
    for line, row in enumerate(body, start=1 + header):
        if len(row) != len(names):
            raise ValueError(f"line {line} has {len(row)} fields instead of {len(names)}")
    values = np.asarray(body, dtype=np.float64)
    return {name: values[:, place] for place, name in enumerate(names)}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def resample(signal: torch.Tensor, rate: float, wanted: float) -> torch.Tensor:
    """Return a signal [channels, length] at sampling rate ``wanted``, by a band-limiting polyphase filter.

    Raises:
        ValueError: ``rate`` or ``wanted`` is not a whole number of Hz.
    """
    if rate == wanted:
        return signal
    from scipy.signal import resample_poly

    if not (float(rate).is_integer() and float(wanted).is_integer()):
        raise ValueError(f"resampling needs rates that are whole numbers of Hz, got {rate:g} and {wanted:g}")
    common = int(np.gcd(int(rate), int(wanted)))
    changed = resample_poly(signal.numpy().astype(np.float64), int(wanted) // common, int(rate) // common, axis=1)
    return torch.from_numpy(changed.astype(np.float32))
