"""The drift monitor: whether a run's validation data resemble its training data."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dovetail.monitor.columns import DriftError, longest
from dovetail.monitor.drift import DriftMetrics, measure_drift
from dovetail.monitor.profile import DataProfile
from dovetail.spec import AtLeast, Between

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.train.context import Run

_logger: Final = logging.getLogger("dovetail.monitor")
_CHUNK: Final = 16_384  # samples that are collected before they are counted
_READ: Final = 256  # training samples per read
#: The reference in the run's folder.
_REFERENCE: Final = "drift_reference.json"


class DriftMonitor:
    """Compares the validation data with a reference, feature by feature.

    The reference is a saved profile, or the profile of the training samples, transformed as in validation. It is saved
    in the run's folder as ``drift_reference.json``. After each validation, the monitor logs the event ``monitor`` with
    ``drift``, the Jensen-Shannon divergence (0 to 1) of the feature that drifted most, ``drift_mean``, the mean over
    all features, and ``drift_features``, the number of features that drifted. It raises the alert ``drift`` if any
    feature drifted.

    Args:
        reference: a profile that another run or :meth:`DataProfile.save` wrote.
        drift_threshold_warning: a feature with at least this divergence has drifted.
        drift_threshold_critical: a feature with at least this divergence has drifted critically.
        bins: equally full bins per numeric feature of the training samples.
        reference_rows: number of training samples, evenly spread, that make up the reference.
        max_features: a sample with more numbers than this is summarised by mean, standard deviation, minimum and
            maximum.
        min_rows: with fewer validation samples than this, there is no verdict, because chance alone causes drift.
        cooldown: updates during which the alert is not repeated, unless a warning becomes critical.

    Raises:
        DriftError: when the run starts: the file is not a profile, or the data have other features.
        ValueError: the thresholds are not in order.
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
            raise ValueError(
                "drift_threshold_warning must be above 0 and at most drift_threshold_critical, "
                f"got {drift_threshold_warning:g} and {drift_threshold_critical:g}"
            )
        self._path, self._bins, self._rows, self._max_features = reference, bins, reference_rows, max_features
        self._min_rows, self._cooldown = min_rows, cooldown
        self._thresholds = {"warning": drift_threshold_warning, "critical": drift_threshold_critical}
        self._collected: list[Features] = []
        self._collected_rows = 0
        self._current: DataProfile | None = None
        #: The reference; None before the run starts.
        self.reference: DataProfile | None = None
        #: The result of the last validation with enough samples.
        self.last: DriftMetrics | None = None

    def dovetail_run_start(self, run: Run) -> None:
        """Load or build the reference."""
        loaders = run.parts.loaders
        if loaders.validation is None:
            _logger.warning("there is no validation split, so drift cannot be measured")
            return
        if self._path is not None:
            self.reference = DataProfile.load(self._path)
        else:
            train = loaders.validation.with_dataset(loaders.train.dataset)
            length = len(loaders.train.dataset)
            rows = np.unique(np.linspace(0, length - 1, min(length, self._rows)).round().astype(np.int64))
            batches = (train.reread(0, rows[start : start + _READ]) for start in range(0, len(rows), _READ))
            features = concatenate(features_of(batch, self._max_features) for batch in batches)
            self.reference = DataProfile.build(features.columns, categorical=features.categorical, bins=self._bins)
        first = loaders.validation.reread(0, np.zeros(1, np.int64))
        self.reference.of(features_of(first, self._max_features).columns)  # raises if the features differ
        self.reference.save(run.store.path / _REFERENCE)

    def dovetail_epoch_start(self) -> None:
        """Discard the batches of a validation that did not finish."""
        self._reset()

    def dovetail_validation_batch(self, batch: Batch) -> None:
        """Collect the features of a batch."""
        if self.reference is None:
            return
        features = features_of(batch, self._max_features)
        self._collected.append(features)
        self._collected_rows += longest(features.columns) if features.columns else 0
        if self._collected_rows >= _CHUNK:
            self._count()

    def dovetail_validation_end(self, run: Run) -> None:
        """Measure the drift, log it, and alert."""
        self._count()
        current = self._current
        self._reset()
        if self.reference is None or current is None:
            return
        if current.rows < self._min_rows:
            _logger.info("%d validation samples are too few to tell drift from chance", current.rows)
            return
        self.last = drift = measure_drift(self.reference, current, **self._thresholds)
        metrics = {"drift": drift.js_divergence, "drift_mean": drift.mean_divergence}
        run.log("monitor", {**metrics, "drift_features": len(drift.affected_features)})
        if drift.status != "healthy":
            run.alert(
                "drift",
                drift.in_words(),
                severity=drift.status,
                cooldown=self._cooldown,
                js_divergence=drift.js_divergence,
                affected_features=drift.affected_features,
            )

    def _count(self) -> None:
        if self.reference is not None and self._collected:
            counted = self.reference.of(concatenate(self._collected).columns)
            self._current = counted if self._current is None else self._current + counted
        self._collected, self._collected_rows = [], 0

    def _reset(self) -> None:
        self._collected, self._collected_rows, self._current = [], 0, None


# --- features of batches ----------------------------------------------------------------------------------------------


class Features(NamedTuple):
    """The features of some samples."""

    #: By name: ``[samples]``, ``[samples, …]`` if each number of a sample is a feature, or ``[tokens]``.
    columns: dict[str, npt.NDArray[Any]]
    #: The names of categorical features: classes and tokens.
    categorical: frozenset[str]


def features_of(batch: Mapping[str, Any], most: int) -> Features:
    """Return the features of a batch, named after their place in the batch.

    If a sample has at most ``most`` numbers, each is a feature (``inputs[3]``, ``inputs[0,2]``). If it has more, their
    mean, standard deviation, minimum and maximum are (``inputs.mean``), or those of each index of the first dimension
    (``inputs[1].mean``) if that gives at most ``most`` features. Integers are categories: classes, or tokens. The
    tokens of a sample are one feature, without those that a mask of their shape excludes.

    Args:
        batch: a batch with ``inputs`` and ``targets``.
        most: the maximum number of features per tensor.
    """
    columns: dict[str, npt.NDArray[Any]] = {}
    categorical = set()
    given = batch.get("inputs")
    inputs = (
        {f"inputs.{key}": value for key, value in given.items()} if isinstance(given, Mapping) else {"inputs": given}
    )
    for name, value in {**inputs, "targets": batch.get("targets")}.items():
        if not isinstance(value, Tensor) or not value.ndim or value.is_complex():
            continue
        if value.is_floating_point():
            columns |= _numeric(name, value.detach().cpu(), most)
        else:
            mask = batch.get("mask")
            valid = value[mask] if isinstance(mask, Tensor) and mask.shape == value.shape else value
            columns[name] = valid.flatten().cpu().numpy()
            categorical.add(name)
    return Features(columns, frozenset(categorical))


def _numeric(name: str, value: Tensor, most: int) -> dict[str, npt.NDArray[Any]]:
    value = value if value.dtype in {torch.float32, torch.float64} else value.float()
    shape = value.shape[1:]
    if shape.numel() == 1:
        return {name: value.reshape(-1).numpy()}
    if shape.numel() <= most:
        return {name: value.numpy()}
    channels = value.flatten(2) if len(shape) > 1 and shape[0] * 4 <= most else value.flatten(1)[:, None]
    columns: dict[str, npt.NDArray[Any]] = {}
    for number, channel in enumerate(channels.unbind(1)):
        stem = f"{name}[{number}]" if channels.shape[1] > 1 else name
        columns[f"{stem}.mean"] = channel.mean(1).numpy()
        columns[f"{stem}.std"] = channel.std(1, correction=0).numpy()
        columns[f"{stem}.min"] = channel.amin(1).numpy()
        columns[f"{stem}.max"] = channel.amax(1).numpy()
    return columns


def concatenate(parts: Iterable[Features]) -> Features:
    """Return the features of all samples together.

    Raises:
        DriftError: there are no features, or batches differ in their features, as texts of different lengths do.
    """
    listed = list(parts)
    if not listed or not listed[0].columns:
        raise DriftError("the batches have no inputs or targets that are tensors")
    first = listed[0].columns
    shapes = {name: column.shape[1:] for name, column in first.items()}
    if any({name: column.shape[1:] for name, column in part.columns.items()} != shapes for part in listed):
        raise DriftError(
            "batches have different features, as inputs of different lengths have; set a smaller max_features to "
            "summarise each sample"
        )
    columns = {name: np.concatenate([part.columns[name] for part in listed]) for name in first}
    return Features(columns, listed[0].categorical)
