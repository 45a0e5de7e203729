"""Drift: how far the distribution of data has moved from that of a reference."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from attrs import field, frozen

from dovetail.monitor.columns import DriftError
from dovetail.monitor.profile import DataProfile

DriftStatus = Literal["healthy", "warning", "critical"]

_WARNING: Final = 0.1
_CRITICAL: Final = 0.2


def jensen_shannon(reference: npt.ArrayLike, current: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the Jensen-Shannon divergence of distributions, in bits: 0 if they are equal, 1 if they do not overlap.

    ``JSD(p, q) = ½ KL(p ‖ m) + ½ KL(q ‖ m)`` with ``m = ½ (p + q)`` (Lin, Divergence measures based on the Shannon
    entropy, 1991, eq. 3.4). It is the square of ``scipy.spatial.distance.jensenshannon(p, q, base=2)``.

    Args:
        reference: counts or probabilities ``[…, bins]``, at least 0.
        current: counts or probabilities of the same shape. Each distribution is divided by its sum.

    Returns:
        float64 ``[…]``.

    Raises:
        DriftError: a count is negative or not finite, or all counts of a distribution are 0.
    """
    p, q = _distribution(reference), _distribution(current)
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = np.where(p > 0, p * np.log2(p / middle), 0.0) + np.where(q > 0, q * np.log2(q / middle), 0.0)
    return np.asarray(np.clip(bits.sum(-1) / 2, 0.0, 1.0))


def _distribution(counts: npt.ArrayLike) -> npt.NDArray[np.float64]:
    values = np.asarray(counts, np.float64)
    totals = values.sum(-1, keepdims=True)
    if not (np.isfinite(values).all() and (values >= 0).all() and (totals > 0).all()):
        raise DriftError("the counts of a distribution must be finite and at least 0, and not all of them 0")
    probabilities: npt.NDArray[np.float64] = values / totals
    return probabilities


@frozen
class DriftMetrics:
    """The drift of data from a reference."""

    #: Divergence of the feature that drifted most, 0 to 1.
    js_divergence: float
    #: The state of that feature.
    status: DriftStatus
    #: Features at or above the warning threshold, the largest divergence first.
    affected_features: list[str]
    #: ISO 8601, UTC.
    timestamp: str
    #: The divergence of every feature.
    details: dict[str, float]
    #: The state of each affected feature.
    states: Mapping[str, DriftStatus] = field(factory=dict)

    @property
    def mean_divergence(self) -> float:
        """Mean divergence of all features; 0 without features."""
        return sum(self.details.values()) / len(self.details) if self.details else 0.0

    def in_words(self) -> str:
        """Return a sentence that says which features drifted."""
        if self.status == "healthy":
            return f"no drift: the largest divergence of {len(self.details)} features is {self.js_divergence:.3g}"
        named = ", ".join(f"{name} ({self.details[name]:.3g})" for name in self.affected_features[:5])
        more = len(self.affected_features) - 5
        rest = f" and {more} more" if more > 0 else ""
        count = f"{len(self.affected_features)} of {len(self.details)} features"
        return f"the data drifted from the reference in {count}: {named}{rest}"


def measure_drift(
    reference: DataProfile, current: Any, *, warning: float = _WARNING, critical: float = _CRITICAL
) -> DriftMetrics:
    """Return the drift of ``current`` from ``reference``, feature by feature.

    Args:
        reference: the profile of the reference.
        current: the data, or their profile in the reference's bins (``reference.of(data)``). With few rows the
            divergence is above 0 by chance, by about ``bins / (5.5 · rows)``.
        warning: a feature with at least this divergence is in the state ``warning``.
        critical: a feature with at least this divergence is in the state ``critical``.

    Raises:
        DriftError: data and profile do not match, there are no rows, or the thresholds are not in order.
    """
    if not 0 < warning <= critical:
        raise DriftError(f"thresholds must be 0 < warning <= critical, got {warning:g} and {critical:g}")
    other = current if isinstance(current, DataProfile) else reference.of(current)
    reference.check_like(other)
    details: dict[str, float] = {}
    if reference.numeric.names:
        found = jensen_shannon(reference.numeric.counts, other.numeric.counts)
        details |= dict(zip(reference.numeric.names, found.tolist(), strict=True))
    for name, feature in reference.categorical.items():
        details[name] = float(jensen_shannon(feature.counts, other.categorical[name].counts))
    affected = sorted((name for name, value in details.items() if value >= warning), key=lambda name: -details[name])
    states: dict[str, DriftStatus] = {name: "critical" if details[name] >= critical else "warning" for name in affected}
    return DriftMetrics(
        js_divergence=max(details.values()),
        status=states[affected[0]] if affected else "healthy",
        affected_features=affected,
        timestamp=dt.datetime.now(dt.UTC).isoformat(),
        details=details,
        states=states,
    )


def no_drift() -> DriftMetrics:
    """Return the metrics of a comparison without features: healthy."""
    return DriftMetrics(0.0, "healthy", [], dt.datetime.now(dt.UTC).isoformat(), {})
