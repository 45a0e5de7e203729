"""Windows of the recordings in a folder, listed in a metadata table."""

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
    """Return windows of the recordings that a metadata table lists; a split can use every column of the table.

    A split keeps the windows of one recording together unless ``split.unit`` is set.

    Args:
        path: the folder.
        target: the metadata column to predict.
        window: length of a window, in values.
        overlap: fraction of a window that the next one repeats.
        metadata: the table, a CSV file in the folder.
        file: the column with each file's path relative to the folder: ``.npz``, ``.wav``, ``.mat`` or ``.csv``.
        channels: a list of the arrays or columns to use as channels, by default the only one there is; or the name of
            the metadata column that holds each recording's channels, joined by ``+``.
        where: use only recordings with this value, or one of a list of values, in a column: ``{ load_hp = [0, 1] }``.
        sample_rate: the column with each recording's sampling rate in Hz, or the rate of all recordings. If a file
            stores its rate, both must agree.
        resample_to: resample all recordings to this rate, in Hz. Without it, different rates are an error, because a
            model would tell recordings apart by their rate.
        task: ``classification`` or ``regression``.
        meta: columns whose values go with each window into the batch's ``meta``, such as rpm and load; also
            ``recording``, the window's file, and ``time``, where the window begins in it, in seconds.
        classes: the classes in the order of their indices; sorted by default.
        short: a recording shorter than a window is an error (``error``), padded with zeros (``pad``), or dropped
            (``drop``).
        max_bytes: limit on the memory of one file's unpacked arrays; 1 GiB by default.

    Raises:
        FileNotFoundError: the folder, the table or a file does not exist.
        ValueError: the table or a file cannot be used, or the recordings have different sampling rates.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder")
    table = root / metadata
    rows = [row for row in _rows(table) if _chosen(row, where or {}, table)]
    if not rows:
        raise ValueError(f"{table}: where: no recording has {where}")
    digest = hashlib.sha256(repr((channels if isinstance(channels, str) else sorted(channels), resample_to)).encode())
    found = []
    for row in rows:
        if file not in row:
            hint = " (fields are separated by commas)" if len(row) == 1 else ""
            raise ValueError(f"{table}: file: no column '{file}'; there are {', '.join(row)}{hint}")
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
    """Return the rows of a CSV file, with numbers as numbers and empty cells as None."""
    if not table.is_file():
        raise FileNotFoundError(f"{table}: no such file")
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.DictReader(lines))
    except UnicodeDecodeError as error:
        raise ValueError(f"{table}: not UTF-8 ({error.reason} at byte {error.start})") from None
    for line, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise ValueError(f"{table}:{line}: the row and the header have different numbers of fields")
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
            f"{table}: channels: a recording has no value in a column '{channels}'; there are {', '.join(row)}"
        )
    return str(row[channels]).split("+")


def _chosen(row: Mapping[str, Any], where: Mapping[str, Any], table: Path) -> bool:
    for name, wanted in where.items():
        if name not in row:
            raise ValueError(f"{table}: where: no column '{name}'; there are {', '.join(row)}")
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
        raise ValueError(f"{table}: '{name}' is outside the folder {root}")
    signal, own = read_signal(path, channels, max_bytes)
    stated = row.get(sample_rate) if isinstance(sample_rate, str) else sample_rate
    rate = own if stated is None else float(stated)
    if rate is None:
        raise ValueError(f"{path}: the sampling rate is neither in the file nor in column '{sample_rate}'")
    if own is not None and rate != own:
        raise ValueError(f"{path}: the sampling rate is {own:g} Hz in the file, but {rate:g} Hz in the table")
    return Recording(name, signal, rate, row)


def at_common_rate(recordings: list[Recording], wanted: float | None) -> list[Recording]:
    """Return the recordings at one sampling rate, resampled if ``wanted`` is a rate in Hz.

    Raises:
        ValueError: they have different rates and ``wanted`` is None.
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
                f"the recordings have different sampling rates ({shown}; '{odd.name}' has the rarest): a model would "
                f"learn the rate; set resample_to, or select recordings with where"
            )
        return recordings
    return [
        evolve(recording, signal=resample(recording.signal, recording.sample_rate, wanted), sample_rate=wanted)
        for recording in recordings
    ]


def handle_short(recordings: list[Recording], window: int, short: Short) -> list[Recording]:
    """Pad or drop recordings shorter than a window; with ``error``, leave them to the error of `cut`."""
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
            raise ValueError(f"every recording is shorter than a window of {window} samples")
        return kept
    return recordings
