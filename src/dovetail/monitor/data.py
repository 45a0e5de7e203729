"""Watching a run's data: whether those it is validated on are still like those it is trained on."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import numpy as np

from dovetail.monitor.columns import DriftError
from dovetail.monitor.drift import DriftMetrics, measure_drift
from dovetail.monitor.features import Features, features_of
from dovetail.monitor.profile import Profile
from dovetail.spec.limits import AtLeast, Between

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.train.context import Run

_logger: Final = logging.getLogger("dovetail.monitor")
_AT_A_TIME: Final = 16_384  # samples that are gathered before they are counted
_READ: Final = 256  # training samples that are read at a time
#: Where the reference is kept, in the run's folder.
_KEPT: Final = "drift_reference.json"


class DriftMonitor:
    """Compares what the model is validated on with a reference, feature by feature.

    The reference is a saved profile, or that of the training samples, transformed as those of validation are. It is
    kept in the run's folder as ``drift_reference.json``. After each validation the event ``monitor`` is logged with
    ``drift``, the Jensen-Shannon divergence of the feature that has drifted most (0 to 1), ``drift_mean``, that of all
    on average, and ``drift_features``, how many have drifted; and the alert ``drift`` is raised where one has.

    Args:
        reference: a profile that another run or :meth:`Profile.save` has written.
        drift_threshold_warning: from this divergence on a feature has drifted.
        drift_threshold_critical: from this one on that is critical.
        bins: bins of a numeric feature in the reference of training samples, equally full.
        reference_rows: so many training samples, evenly spread, make the reference.
        max_features: a sample with more numbers than this is summed up: mean, standard deviation, least and largest.
        min_rows: with fewer validation samples than this there is no verdict, since chance alone drifts.
        cooldown: updates in which the alert is not told again, unless a warning becomes critical.

    Raises:
        DriftError: when the run starts: the file is no profile, or the data have other features. ValueError, at once:
            the thresholds cross.
    """

    def __init__(
        self,
        reference: Path | None = None,
        drift_threshold_warning: Annotated[float, Between(0.0, 1.0)] = 0.1,
        drift_threshold_critical: Annotated[float, Between(0.0, 1.0)] = 0.2,
        *,
        bins: Annotated[int, AtLeast(1)] = 10,
        reference_rows: Annotated[int, AtLeast(1)] = 10_000,
        max_features: Annotated[int, AtLeast(1)] = 1000,
        min_rows: Annotated[int, AtLeast(1)] = 100,
        cooldown: Annotated[int, AtLeast(0)] = 1000,
    ) -> None:
        if not 0 < drift_threshold_warning <= drift_threshold_critical:
            message = "drift_threshold_warning must be above 0 and at most drift_threshold_critical"
            raise ValueError(f"{message}, got {drift_threshold_warning:g} and {drift_threshold_critical:g}")
        self._path, self._bins, self._rows, self._most = reference, bins, reference_rows, max_features
        self._min_rows, self._cooldown = min_rows, cooldown
        self._thresholds = {"warning": drift_threshold_warning, "critical": drift_threshold_critical}
        self._gathered: list[Features] = []
        self._waiting = 0
        self._current: Profile | None = None
        #: The reference; None before the run starts.
        self.reference: Profile | None = None
        #: What the last validation came to.
        self.last: DriftMetrics | None = None

    def dovetail_run_start(self, run: Run) -> None:
        """Read or make the reference."""
        loaders = run.parts.loaders
        if loaders.validation is None:
            _logger.warning("there is no validation split whose drift could be watched")
            return
        if self._path is not None:
            self.reference = Profile.load(self._path)
        else:
            train = loaders.validation.with_dataset(loaders.train.dataset)
            length = len(loaders.train.dataset)
            rows = np.unique(np.linspace(0, length - 1, min(length, self._rows)).round().astype(np.int64))
            batches = (train.reread(0, rows[start : start + _READ]) for start in range(0, len(rows), _READ))
            found = joined(features_of(one, self._most) for one in batches)
            self.reference = Profile.build(found.columns, categorical=found.categorical, bins=self._bins)
        self.reference.of(features_of(loaders.validation.reread(0, np.zeros(1, np.int64)), self._most).columns)
        self.reference.save(run.store.path / _KEPT)

    def dovetail_epoch_start(self) -> None:
        """Forget what a validation that did not come to its end has left."""
        self._forget()

    def dovetail_validation_batch(self, batch: Batch) -> None:
        """Take a batch in."""
        if self.reference is None:
            return
        found = features_of(batch, self._most)
        self._gathered.append(found)
        self._waiting += max(map(len, found.columns.values()), default=0)
        if self._waiting >= _AT_A_TIME:
            self._count()

    def dovetail_validation_end(self, run: Run) -> None:
        """Compare, and tell."""
        self._count()
        current = self._current
        self._forget()
        if self.reference is None or current is None:
            return
        if current.rows < self._min_rows:
            _logger.info("%d validation samples are too few to tell drift from chance", current.rows)
            return
        self.last = found = measure_drift(self.reference, current, **self._thresholds)
        figures = {"drift": found.js_divergence, "drift_mean": found.mean_divergence}
        run.log("monitor", {**figures, "drift_features": len(found.affected_features)})
        if found.status != "healthy":
            run.alert(
                "drift",
                found.in_words(),
                severity=found.status,
                cooldown=self._cooldown,
                js_divergence=found.js_divergence,
                affected_features=found.affected_features,
            )

    def _count(self) -> None:
        if self.reference is not None and self._gathered:
            counted = self.reference.of(joined(self._gathered).columns)
            self._current = counted if self._current is None else self._current + counted
        self._gathered, self._waiting = [], 0

    def _forget(self) -> None:
        self._gathered, self._waiting, self._current = [], 0, None


def joined(parts: Iterable[Features]) -> Features:
    """Return the features of all samples together.

    Raises:
        DriftError: there are none, or batches have different features, as of texts of different lengths.
    """
    listed = list(parts)
    if not listed or not listed[0].columns:
        raise DriftError("the batches have no inputs or targets that are tensors")
    first: Mapping[str, Any] = listed[0].columns
    shapes = {name: one.shape[1:] for name, one in first.items()}
    if any({name: column.shape[1:] for name, column in one.columns.items()} != shapes for one in listed):
        raise DriftError(
            "batches have different features, as inputs of different lengths give; with a smaller max_features each "
            "sample is summed up"
        )
    columns = {name: np.concatenate([one.columns[name] for one in listed]) for name in first}
    return Features(columns, listed[0].categorical)
