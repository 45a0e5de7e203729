"""Datasets of simulated bearings, which need no files and whose ground truth is known."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import numpy as np
import numpy.typing as npt
import torch

from dovetail import AtLeast, Between, MoreThan
from dovetail.random import derive_seed
from dovetail_signals.geometry import bearing as known_bearing
from dovetail_signals.journal_bearing import JOURNAL_FAULTS, JournalFault, journal_vibration, sommerfeld_number
from dovetail_signals.rolling_bearing import ROLLING_FAULTS, RollingFault, rolling_vibration
from dovetail_signals.windows import Recording, WindowSamples, cut

_MINUTE: Final = 60.0
#: A journal bearing of a small pump: viscosity in Pa·s, dimensions in metres.
_JOURNAL: Final = {"viscosity": 0.02, "diameter": 0.05, "length": 0.05, "clearance": 5e-5}

Range = tuple[float, float]


def simulated_rolling(
    seed: int,
    *,
    faults: Sequence[RollingFault] = ROLLING_FAULTS,
    bearing: str = "SKF-6205",
    recordings: Annotated[int, AtLeast(1)] = 6,
    seconds: Annotated[float, MoreThan(0)] = 2.0,
    sample_rate: Annotated[float, MoreThan(0)] = 12_000.0,
    window: Annotated[int, AtLeast(2)] = 1024,
    overlap: Annotated[float, Between(0, 0.99)] = 0.0,
    rpm: Range = (1700.0, 1800.0),
    severity: Range = (0.5, 1.5),
    snr_db: Range = (0.0, 10.0),
    slip: Annotated[float, Between(0, 0.1)] = 0.01,
    resonance_hz: Range = (2500.0, 4000.0),
    meta: Sequence[str] = (),
) -> WindowSamples:
    """Return windows of simulated recordings of a rolling-element bearing, one class for each fault.

    `dovetail_signals.rolling_bearing` describes the simulation. Columns: ``fault``, ``rpm``, ``shaft_hz``,
    ``severity``, ``snr_db``, ``resonance_hz``, ``sample_rate_hz``, and the fault frequencies ``bpfo_hz``, ``bpfi_hz``,
    ``bsf_hz``, ``ftf_hz``.

    Args:
        seed: draws every recording.
        faults: the classes.
        bearing: a name in `dovetail_signals.geometry.BEARINGS`.
        recordings: number of recordings of each fault.
        seconds: length of a recording.
        sample_rate: in Hz.
        window: length of a window, in samples.
        overlap: fraction of a window that the next one repeats.
        rpm: range of the shaft's speed in revolutions per minute, drawn uniformly for each recording, as are the other
            ranges.
        severity: range of the impacts' strength.
        snr_db: range of the signal-to-noise ratio, in dB.
        slip: relative standard deviation of the time between impacts.
        resonance_hz: range of the structure's resonance, in Hz.
        meta: columns that go with each window into the batch's ``meta``.

    Raises:
        ValueError: the bearing is unknown, a recording is shorter than a window, or a resonance is not below half the
            sampling rate.
    """
    geometry = known_bearing(bearing)

    def make(fault: Any, random: np.random.Generator) -> tuple[npt.NDArray[np.float64], dict[str, Any]]:
        shaft = _draw_uniform(random, "rpm", rpm) / _MINUTE
        known = {
            "severity": _draw_uniform(random, "severity", severity),
            "snr_db": _draw_uniform(random, "snr_db", snr_db),
        }
        resonance = _draw_uniform(random, "resonance_hz", resonance_hz)
        signal = rolling_vibration(
            fault,
            geometry=geometry,
            shaft_hz=shaft,
            sample_rate=sample_rate,
            length=round(seconds * sample_rate),
            random=random,
            slip=slip,
            resonance_hz=resonance,
            **known,
        )
        found = geometry.frequencies(shaft)
        at = {"bpfo_hz": found.bpfo, "bpfi_hz": found.bpfi, "bsf_hz": found.bsf, "ftf_hz": found.ftf}
        return signal, {"rpm": shaft * _MINUTE, "shaft_hz": shaft, "resonance_hz": resonance, **known, **at}

    return _windows(
        make,
        faults=faults,
        recordings=recordings,
        seed=seed,
        sample_rate=sample_rate,
        window=window,
        overlap=overlap,
        meta=meta,
    )


def simulated_journal(
    seed: int,
    *,
    faults: Sequence[JournalFault] = JOURNAL_FAULTS,
    recordings: Annotated[int, AtLeast(1)] = 6,
    seconds: Annotated[float, MoreThan(0)] = 2.0,
    sample_rate: Annotated[float, MoreThan(0)] = 2_048.0,
    window: Annotated[int, AtLeast(2)] = 1024,
    overlap: Annotated[float, Between(0, 0.99)] = 0.0,
    rpm: Range = (2400.0, 3600.0),
    load_newton: Range = (500.0, 5000.0),
    severity: Range = (0.5, 1.5),
    snr_db: Range = (0.0, 10.0),
    meta: Sequence[str] = (),
) -> WindowSamples:
    """Return windows of simulated recordings of a journal bearing, one class for each fault.

    `dovetail_signals.journal_bearing` describes the simulation. Columns: ``fault``, ``rpm``, ``shaft_hz``,
    ``load_newton``, ``sommerfeld``, ``severity``, ``snr_db``, ``sample_rate_hz``.

    Args:
        seed: draws every recording.
        faults: the classes.
        recordings: number of recordings of each fault.
        seconds: length of a recording.
        sample_rate: in Hz.
        window: length of a window, in samples.
        overlap: fraction of a window that the next one repeats.
        rpm: range of the shaft's speed in revolutions per minute, drawn uniformly for each recording, as are the other
            ranges.
        load_newton: range of the load on the bearing, in newtons.
        severity: range of the amplitude of the fault's orders.
        snr_db: range of the signal-to-noise ratio, in dB.
        meta: columns that go with each window into the batch's ``meta``.

    Raises:
        ValueError: a recording is shorter than a window.
    """

    def make(fault: Any, random: np.random.Generator) -> tuple[npt.NDArray[np.float64], dict[str, Any]]:
        shaft = _draw_uniform(random, "rpm", rpm) / _MINUTE
        load = _draw_uniform(random, "load_newton", load_newton)
        known = {
            "severity": _draw_uniform(random, "severity", severity),
            "snr_db": _draw_uniform(random, "snr_db", snr_db),
        }
        length = round(seconds * sample_rate)
        signal = journal_vibration(
            fault, shaft_hz=shaft, sample_rate=sample_rate, length=length, random=random, **known
        )
        number = sommerfeld_number(shaft_hz=shaft, load=load, **_JOURNAL)
        return signal, {"rpm": shaft * _MINUTE, "shaft_hz": shaft, "load_newton": load, "sommerfeld": number, **known}

    return _windows(
        make,
        faults=faults,
        recordings=recordings,
        seed=seed,
        sample_rate=sample_rate,
        window=window,
        overlap=overlap,
        meta=meta,
    )


def _windows(
    make: Callable[[Any, np.random.Generator], tuple[npt.NDArray[np.float64], dict[str, Any]]],
    *,
    faults: Sequence[str],
    recordings: int,
    seed: int,
    sample_rate: float,
    window: int,
    overlap: float,
    meta: Sequence[str],
) -> WindowSamples:
    digest = hashlib.sha256()
    found = []
    for fault in faults:
        for number in range(recordings):
            random = np.random.default_rng(derive_seed(seed, "simulated", fault, number))
            signal, facts = make(fault, random)
            digest.update(signal.tobytes())
            facts |= {"fault": fault, "sample_rate_hz": sample_rate}
            tensor = torch.from_numpy(signal.astype(np.float32))[None]
            found.append(Recording(f"{fault} {number}", tensor, sample_rate, facts))
    return cut(
        found,
        window=window,
        overlap=overlap,
        target="fault",
        task="classification",
        meta=meta,
        classes=faults,
        fingerprint=digest.hexdigest(),
    )


def _draw_uniform(random: np.random.Generator, option: str, span: tuple[float, float]) -> float:
    """Draw a number uniformly from a range; ValueError if its ends are in the wrong order."""
    if span[0] > span[1]:
        raise ValueError(f"{option}: must be [lowest, highest], got {list(span)}")
    return float(random.uniform(*span))
