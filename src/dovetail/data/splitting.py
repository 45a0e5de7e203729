"""Dividing a dataset into train, validation and test: by fractions, by strata, or by the values of a column."""

from __future__ import annotations

from typing import Any

import numpy as np

from dovetail.data.columns import as_label, distinct
from dovetail.data.errors import DataError, count, listing
from dovetail.data.groups import Groups
from dovetail.data.samples import Indices, subset
from dovetail.data.seeding import Keys, mix_array
from dovetail.data.splits import SPLIT_NAMES, SplitName, SplitOptions, Splits
from dovetail.data.strata import apportion, strata
from dovetail.random import derive_seed


def split(dataset: Any, options: SplitOptions | None, seed: int) -> Splits:
    """Divide ``dataset``. The splits never overlap, and cover every sample unless ``limit`` is set.

    The result depends on the options, the seed and the samples. It does not depend on the order of the samples if the
    dataset has ``row_keys()``, as tables and arrays have, or with ``by`` and no fractions. Each split keeps the
    dataset's order.

    Args:
        dataset: a map-style dataset, or :class:`Splits` that it came with, which are kept.
        options: how to divide; None is ``SplitOptions()``.
        seed: seed of the split, unless the options set one.

    Raises:
        DataError: the samples cannot be divided this way: a split would be empty, a class is too small, a column or
            value does not exist, or one of the given splits has no length.
    """
    options = options or SplitOptions()
    seed = seed if options.seed is None else options.seed
    if isinstance(dataset, Splits):
        return _keep_splits(dataset, options, seed)
    if len(dataset) == 0:
        raise DataError("the dataset has no samples")
    keys = _sample_keys(dataset, seed)
    indices = _by_value(dataset, options)
    if not len(indices["train"]):
        raise DataError("no row is left for train")
    groups = _read_groups(dataset, options)
    if groups is None:
        drawn = _draw(dataset, indices["train"], keys, options)
    else:
        if options.by is not None:
            groups.check_undivided(indices, options.by)
        divide = _cut_time if options.unit == "time" else _draw_groups
        drawn = divide(dataset, indices["train"], keys, options, groups)
    indices |= {name: rows for name, rows in drawn.items() if name == "train" or name not in indices}
    return Splits(**{name: _limit(dataset, rows, options, seed) for name, rows in indices.items() if len(rows)})


def _keep_splits(splits: Splits, options: SplitOptions, seed: int) -> Splits:
    asked = [name for name in ("by", "stratify", "bin_size", "unit", *SPLIT_NAMES) if getattr(options, name)]
    if asked:
        raise DataError(f"this dataset comes with its own splits: leave split.{asked[0]} out")
    for name, part in splits:
        if not hasattr(part, "__len__"):
            raise DataError(
                f"the {name} split, an object of type {type(part).__name__}, has no len(): a run reads samples by "
                "index, so make a list of what it yields"
            )
    return Splits(**{name: _limit(part, np.arange(len(part)), options, seed) for name, part in splits})


def _sample_keys(dataset: Any, seed: int) -> Keys:
    """Return a random number for each sample: of its content if the dataset has ``row_keys``, else of its index."""
    own = getattr(dataset, "row_keys", None)
    words = own() if own is not None else np.arange(len(dataset), dtype=np.uint64)
    return mix_array(derive_seed(seed, "split"), words)


def _by_value(dataset: Any, options: SplitOptions) -> dict[SplitName, Indices]:
    """Return the rows that lists of values name; the remaining rows are train's."""
    if options.by is None:
        return {"train": np.arange(len(dataset))}
    values = _read_column(dataset, options.by, "split.by")
    left = np.ones(len(values), dtype=np.bool_)
    indices: dict[SplitName, Indices] = {}
    for name, wanted in options.lists().items():
        chosen = np.zeros(len(values), dtype=np.bool_)
        for value in wanted:
            rows = _equal(values, value)
            if not rows.any():
                known = listing(distinct(values))
                raise DataError(f"split.{name}: no row has {value!r} in column '{options.by}', which has {known}")
            chosen |= rows
        indices[name] = np.flatnonzero(chosen)
        left &= ~chosen
    if "train" in indices and left.any():
        other = distinct(values[left])
        raise DataError(
            f"column '{options.by}' also has {listing(other)} ({count(int(left.sum()), 'row')}), which no split names; "
            f"leave split.train out to put them there"
        )
    return {"train": np.flatnonzero(left), **indices}


def _equal(values: Any, value: str | float) -> Any:
    """Compare a column with a value from TOML, where 3 and "3" are equal."""
    if values.dtype.kind in "iufb":
        try:
            return values == float(value)
        except ValueError:
            return np.zeros(len(values), dtype=np.bool_)
    return values.astype(str) == as_label(value)


def _read_column(dataset: Any, name: str, option: str) -> Any:
    """Return a column as a 1-d array; ``targets`` exists if the dataset has targets. ``option`` is for the message."""
    own = getattr(dataset, "column", None)
    values, missing = None, f"this dataset has no column '{name}'"
    if own is not None:
        try:
            values = own(name)
        except KeyError as error:
            missing = error.args[0]
    if values is None and name == "targets":
        values = getattr(dataset, "targets", None)
    if values is None:
        raise DataError(f"{option}: {missing}")
    values = np.asarray(values)
    if values.shape != (len(dataset),):
        raise DataError(f"{option}: column '{name}' has shape {values.shape} for {count(len(dataset), 'sample')}")
    return values


def _read_groups(dataset: Any, options: SplitOptions) -> Groups | None:
    """Return the groups that a split must respect, or None."""
    groups = None if options.unit == "sample" else Groups.read(dataset)
    if groups is None and options.unit in {"group", "time"}:
        raise DataError(f'split.unit = "{options.unit}": this dataset has no groups of samples')
    return groups


def _cut_time(
    _dataset: Any, pool: Indices, _keys: Keys, options: SplitOptions, groups: Groups
) -> dict[SplitName, Indices]:
    """Divide the time of each group in ``pool`` by fractions."""
    fractions = options.fractions()
    wanted = [name for name in SPLIT_NAMES if fractions[name] > 0]
    parts = groups.cut(pool, [fractions[name] for name in wanted], options.gap)
    for name, rows in zip(wanted, parts, strict=True):
        if not len(rows):
            raise DataError(f"split.{name} = {fractions[name]:g} of each group's time contains no whole sample")
    return dict(zip(wanted, parts, strict=True))


def _draw_groups(
    dataset: Any, pool: Indices, keys: Keys, options: SplitOptions, groups: Groups
) -> dict[SplitName, Indices]:
    """Divide the groups in ``pool`` by fractions."""
    if options.stratify is not False:
        values, what = _strata_values(dataset, options)
        groups.check_uniform(values, pool, what)
    drawn = _draw(dataset, groups.representatives(pool), groups.keys(keys), options, "group")
    return {name: groups.members(rows, pool) for name, rows in drawn.items()}


def _draw(
    dataset: Any, pool: Indices, keys: Keys, options: SplitOptions, noun: str = "row"
) -> dict[SplitName, Indices]:
    """Divide the rows of ``pool`` by fractions."""
    fractions = options.fractions()
    wanted = [name for name in SPLIT_NAMES if fractions[name] > 0]
    if wanted == ["train"]:
        return {"train": pool}
    if options.stratify is False:
        codes = np.zeros(len(pool), dtype=np.int64)
    else:
        values, what = _strata_values(dataset, options)
        codes, _ = strata(values[pool], options.bin_size, len(wanted), what, "group" if noun == "group" else "sample")
    counts = apportion(np.bincount(codes), [fractions[name] for name in wanted])
    for name, number in zip(wanted, counts.sum(axis=0), strict=True):
        if number == 0:
            raise DataError(f"split.{name} = {fractions[name]:g} of {count(len(pool), noun)} is not even one {noun}")
    # Sort by stratum, then by random key: the first rows of each stratum go to the first split, and so on.
    order = pool[np.lexsort((keys[pool], codes))]
    owner = np.concatenate([np.repeat(np.arange(len(wanted)), row) for row in counts])
    return {name: np.sort(order[owner == number]) for number, name in enumerate(wanted)}


def _strata_values(dataset: Any, options: SplitOptions) -> tuple[Any, str]:
    """Return the values to stratify by, one per sample, and their name for messages."""
    if isinstance(options.stratify, str):
        return _read_column(dataset, options.stratify, "split.stratify"), f"column '{options.stratify}'"
    targets = getattr(dataset, "targets", None)
    if targets is None:
        raise DataError("split.stratify = true: this dataset has no attribute 'targets'; name a column instead")
    targets = np.asarray(targets)
    if options.bin_size is None and targets.dtype.kind == "f":
        raise DataError("split.stratify = true: the targets are not classes; cut them into bins (split.bin_size)")
    names = getattr(dataset, "class_names", None)
    if names is not None and targets.dtype.kind in "iu":
        targets = np.asarray(names, dtype=object)[targets]
    return targets, "class"


def _limit(dataset: Any, rows: Indices, options: SplitOptions, seed: int) -> Any:
    if options.limit is None or len(rows) <= options.limit:
        return dataset if len(rows) == len(dataset) else subset(dataset, rows)
    kept = rows[np.argsort(mix_array(derive_seed(seed, "limit"), rows), kind="stable")[: options.limit]]
    return subset(dataset, np.sort(kept))
