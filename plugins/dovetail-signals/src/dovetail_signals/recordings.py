"""A folder of recordings and a table of what is known about them, as a dataset of windows."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from attrs import evolve

from dovetail import AtLeast, Between, MoreThan
from dovetail_signals.signal_files import MAX_BYTES, read_signal, resample
from dovetail_signals.windows import Recording, WindowSamples, cut

Short = Literal["error", "pad", "drop"]


def recordings(
    path: Path,
    target: str,
    *,
    window: Annotated[int, AtLeast(2)],
    overlap: Annotated[float, Between(0, 0.99)] = 0.0,
    metadata: str = "metadata.csv",
    file: str = "file",
    channels: str | Sequence[str] = (),
    where: Mapping[str, Any] | None = None,
    sample_rate: str | Annotated[float, MoreThan(0)] = "sample_rate_hz",
    resample_to: Annotated[float | None, MoreThan(0)] = None,
    task: Literal["classification", "regression"] = "classification",
    meta: Sequence[str] = (),
    classes: Sequence[str] = (),
    short: Short = "error",
    max_bytes: Annotated[int, AtLeast(1)] = MAX_BYTES,
) -> WindowSamples:
    """Return windows of the recordings that a metadata table lists. Every column of the table can be split by.

    A split keeps the windows of one recording on one side unless it says otherwise (``split.unit``).

    Args:
        path: the folder.
        target: the metadata column to predict.
        window: length of a window, in values.
        overlap: share of a window that the next one repeats.
        metadata: the table, a CSV file in the folder.
        file: the column with each file's path from the folder: ``.npz``, ``.wav``, ``.mat`` or ``.csv``.
        channels: the arrays or columns that are the channels; by default the only one there is. Or the metadata column
            with each recording's own, several of them joined by ``+``.
        where: take only recordings with this value in a column, or with one of a list: ``{ load_hp = [0, 1] }``.
        sample_rate: the column with each recording's sampling rate in Hz, or the rate of all of them. What a file
            says itself must agree.
        resample_to: bring all recordings to this rate, in Hz. Without it, recordings of several rates are refused: a
            model would tell them apart by their rate.
        task: ``classification`` or ``regression``.
        meta: columns that travel with each window into the batch's ``meta``, such as rpm and load; also ``recording``,
            the file that a window is of, and ``time``, the second of it at which the window begins.
        classes: the classes in the order of their indices; by default sorted.
        short: what to do about a recording shorter than a window: ``error``, ``pad`` it with zeros, or ``drop`` it.
        max_bytes: the memory that the arrays of one file may need; 1 GiB by default.

    Raises:
        FileNotFoundError: the folder, the table, or a file is not there.
        ValueError: the table or a file cannot be used, or the recordings have several sampling rates.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder")
    table = root / metadata
    rows = [row for row in _rows(table) if _chosen(row, where or {}, table)]
    if not rows:
        raise ValueError(f"{table}: no recording has {where}")
    digest = hashlib.sha256(repr((channels if isinstance(channels, str) else sorted(channels), resample_to)).encode())
    found = []
    for row in rows:
        if file not in row:
            hint = " (fields are separated by commas)" if len(row) == 1 else ""
            raise ValueError(f"{table}: file: there is no column '{file}'; there are {', '.join(row)}{hint}")
        own = _channels(row, channels, table)
        recording = _read(
            root, str(row[file]), row, channels=own, sample_rate=sample_rate, table=table, max_bytes=max_bytes
        )
        digest.update(f"{recording.name}\0{sorted(row.items())}\0".encode())
        digest.update(recording.signal.numpy().tobytes())
        found.append(recording)
    found = at_common_rate(found, resample_to)
    return cut(
        handle_short(found, window, short),
        window=window,
        overlap=overlap,
        target=target,
        task=task,
        meta=meta,
        classes=classes,
        fingerprint=digest.hexdigest(),
    )


def _rows(table: Path) -> list[dict[str, Any]]:
    """Return the rows of a CSV file, numbers as numbers and nothing as None."""
    if not table.is_file():
        raise FileNotFoundError(f"{table}: no such file")
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.DictReader(lines))
    except UnicodeDecodeError as error:
        raise ValueError(f"{table}: this is not UTF-8 ({error.reason} at byte {error.start})") from None
    for line, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise ValueError(f"{table}:{line}: the row has not as many fields as the header")
    return [{name: _cell(text) for name, text in row.items()} for row in rows]


def _cell(text: str) -> Any:
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text.strip() or None


def _channels(row: Mapping[str, Any], channels: str | Sequence[str], table: Path) -> Sequence[str]:
    if not isinstance(channels, str):
        return channels
    if not row.get(channels):
        raise ValueError(
            f"{table}: channels: a recording has nothing in a column '{channels}'; there are {', '.join(row)}"
        )
    return str(row[channels]).split("+")


def _chosen(row: Mapping[str, Any], where: Mapping[str, Any], table: Path) -> bool:
    for name, wanted in where.items():
        if name not in row:
            raise ValueError(f"{table}: where: there is no column '{name}'; there are {', '.join(row)}")
        if row[name] not in (wanted if isinstance(wanted, list) else [wanted]):
            return False
    return True


def _read(
    root: Path,
    name: str,
    row: Mapping[str, Any],
    *,
    channels: Sequence[str],
    sample_rate: str | float,
    table: Path,
    max_bytes: int,
) -> Recording:
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"{table}: '{name}' lies outside of the folder")
    signal, own = read_signal(path, channels, max_bytes)
    said = row.get(sample_rate) if isinstance(sample_rate, str) else sample_rate
    rate = own if said is None else float(said)
    if rate is None:
        raise ValueError(f"{path}: neither the file nor the column '{sample_rate}' tells its sampling rate")
    if own is not None and rate != own:
        raise ValueError(f"{path}: the file says {own:g} Hz, and the table {rate:g} Hz")
    return Recording(name, signal, rate, row)


def at_common_rate(recordings: list[Recording], wanted: float | None) -> list[Recording]:
    """Return recordings of one sampling rate.

    Raises:
        ValueError: they have several, and no rate is wanted.
    """
    rates = sorted({recording.sample_rate for recording in recordings})
    if wanted is None:
        if len(rates) > 1:
            odd = min(
                recordings,
                key=lambda recording: sum(other.sample_rate == recording.sample_rate for other in recordings),
            )
            shown = ", ".join(f"{rate:g} Hz" for rate in rates)
            raise ValueError(
                f"recordings of several sampling rates ({shown}; '{odd.name}' is one of the fewest): a model would "
                f"learn the rate. Bring them to one with resample_to, or choose with where"
            )
        return recordings
    return [
        evolve(recording, signal=resample(recording.signal, recording.sample_rate, wanted), sample_rate=wanted)
        for recording in recordings
    ]


def handle_short(recordings: list[Recording], window: int, short: Short) -> list[Recording]:
    """Return recordings of at least a window, the shorter ones padded or dropped as asked."""
    if short == "pad":
        return [
            evolve(
                recording,
                signal=torch.nn.functional.pad(recording.signal, (0, max(0, window - recording.signal.shape[1]))),
            )
            for recording in recordings
        ]
    if short == "drop":
        kept = [recording for recording in recordings if recording.signal.shape[1] >= window]
        if not kept:
            raise ValueError(f"every recording is shorter than one window of {window}")
        return kept
    return recordings
