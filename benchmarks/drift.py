"""Time of drift monitoring: profiles, the divergence of every feature, and an epoch of the monitor.

The goal is 10 ms per epoch for 100 features × 10,000 rows. The comparison is plain NumPy and SciPy: ``np.histogram``
over the reference's bins and ``scipy.spatial.distance.jensenshannon``, feature by feature. Candidates alternate; a
figure is the minimum of a few repetitions in a round, and ratios are medians over rounds of two figures of the same
round. Everything runs in one thread without the disk, so the benchmark measures processor time, which a busy machine
affects less.

Run ``make bench-drift`` or ``python benchmarks/drift.py``.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from _measure import alternate, ratios, record, table, versions
from scipy.spatial.distance import jensenshannon

from dovetail.monitor.drift import measure_drift
from dovetail.monitor.drift_monitor import DriftMonitor
from dovetail.monitor.profile import DataProfile

BATCH = 256


def timed(call: Callable[[], object], repeats: int) -> Callable[[], float]:
    """Return a function that measures a call: the minimum of a few repetitions, in seconds of processor time."""

    def measure() -> float:
        seconds = []
        for _ in range(repeats):
            started = time.process_time()
            call()
            seconds.append(time.process_time() - started)
        return min(seconds)

    return measure


class NoRun:
    """A run that discards what the monitor logs and alerts."""

    def log(self, event: str, metrics: object) -> None:
        """Do nothing."""

    def alert(self, *arguments: object, **details: object) -> None:
        """Do nothing."""


def section(features: int, rows: int, rounds: int, repeats: int) -> str:
    """Return the results for one size."""
    rng = np.random.default_rng(0)
    data = rng.standard_normal((rows, features), dtype=np.float32)
    moved = data + rng.uniform(0, 1, features).astype(np.float32)
    reference = DataProfile.build(data)
    monitor = DriftMonitor()
    monitor.reference = DataProfile.build({f"inputs[{column}]": data[:, column] for column in range(features)})
    batches = [{"inputs": rows} for rows in torch.from_numpy(moved).split(BATCH)]

    def epoch() -> None:
        for batch in batches:
            monitor.dovetail_validation_batch(cast("Any", batch))
        monitor.dovetail_validation_end(cast("Any", NoRun()))

    def by_hand() -> list[float]:
        edges = reference.numeric.edges.astype(np.float64)
        return [
            float(jensenshannon(*[np.histogram(x[:, column], edges[column])[0] for x in (data, moved)], base=2) ** 2)
            for column in range(features)
        ]

    hand = "an epoch by hand: histograms and scipy"
    figures = alternate(
        {
            "the reference's profile, once per run": timed(lambda: DataProfile.build(data), repeats),
            "the data's profile and all divergences": timed(lambda: measure_drift(reference, moved), repeats),
            f"`drift_monitor`, an epoch in batches of {BATCH}": timed(epoch, repeats),
            hand: timed(by_hand, 1),
        },
        rounds,
    )
    of_base = ratios(figures, hand)
    lines = [
        [name, f"{1e3 * statistics.median(values):.2f}", f"{of_base[name]:.2f}"] for name, values in figures.items()
    ]
    title = f"### {features:,} features × {rows:,} rows, float32"
    return f"{title}\n\n{table(['operation', 'ms of processor time', '× by hand'], lines)}"


def main() -> None:
    """Measure and record."""
    sections = [section(100, 10_000, 9, 15), section(1000, 100_000, 3, 1)]
    about = f"{versions('dovetail', 'numpy', 'scipy', 'torch')}. 10 bins between the reference's extremes. "
    about += "Medians of alternating rounds; ratios are taken within a round."
    record("Drift", "make bench-drift", "\n\n".join([about, *sections]))


if __name__ == "__main__":
    main()
