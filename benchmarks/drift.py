"""What watching data for drift costs: profiles, the divergence of every feature, and an epoch of the monitor.

The goal is 10 ms per epoch for 100 features × 10,000 rows. Beside it stands what people write: ``np.histogram`` over
the reference's quantiles and ``scipy.spatial.distance.jensenshannon``, feature by feature. Everything runs in turn; a
figure is the least of a few repetitions in one round, the ratios are medians over rounds of two figures of one round.
All of it runs in one thread and touches no disk, so processor time is measured, which a busy machine spoils less.

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
from dovetail.monitor.profile import Profile

BATCH = 256


def timed(call: Callable[[], object], repeats: int) -> Callable[[], float]:
    """Return what measures a call: the least of a few repetitions, in seconds of processor time."""

    def measure() -> float:
        seconds = []
        for _ in range(repeats):
            began = time.process_time()
            call()
            seconds.append(time.process_time() - began)
        return min(seconds)

    return measure


class NoRun:
    """Stands for the run where the monitor only measures: what it logs and alerts goes nowhere."""

    def log(self, event: str, metrics: object) -> None:
        """Do nothing."""

    def alert(self, *told: object, **details: object) -> None:
        """Do nothing."""


def section(features: int, rows: int, rounds: int, repeats: int) -> str:
    """Return the results for one size."""
    rng = np.random.default_rng(0)
    data = rng.standard_normal((rows, features), dtype=np.float32)
    moved = data + rng.uniform(0, 1, features).astype(np.float32)
    reference = Profile.build(data)
    monitor = DriftMonitor()
    monitor.reference = Profile.build({f"inputs[{place}]": data[:, place] for place in range(features)})
    batches = [{"inputs": one} for one in torch.from_numpy(moved).split(BATCH)]

    def epoch() -> None:
        for batch in batches:
            monitor.dovetail_validation_batch(cast("Any", batch))
        monitor.dovetail_validation_end(cast("Any", NoRun()))

    def by_hand() -> list[float]:
        edges = reference.numeric.edges.astype(np.float64)
        return [
            float(jensenshannon(*[np.histogram(one[:, place], edges[place])[0] for one in (data, moved)], base=2) ** 2)
            for place in range(features)
        ]

    hand = "an epoch by hand: histograms and scipy"
    figures = alternate(
        {
            "the reference's profile, once a run": timed(lambda: Profile.build(data), repeats),
            "the data's profile and all divergences": timed(lambda: measure_drift(reference, moved), repeats),
            f"`drift_monitor`, an epoch in batches of {BATCH}": timed(epoch, repeats),
            hand: timed(by_hand, 1),
        },
        rounds,
    )
    of_base = ratios(figures, hand)
    lines = [[what, f"{1e3 * statistics.median(one):.2f}", f"{of_base[what]:.2f}"] for what, one in figures.items()]
    title = f"### {features:,} features × {rows:,} rows, float32"
    return f"{title}\n\n{table(['what', 'ms of processor time', '× by hand'], lines)}"


def main() -> None:
    """Measure and record."""
    sections = [section(100, 10_000, 9, 15), section(1000, 100_000, 3, 1)]
    about = f"{versions('dovetail', 'numpy', 'scipy', 'torch')}. 10 bins between the reference's extremes. "
    about += "Medians of alternating rounds; ratios are taken within a round."
    record("Drift", "make bench-drift", "\n\n".join([about, *sections]))


if __name__ == "__main__":
    main()
