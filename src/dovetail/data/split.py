"""Dividing a dataset into train, validation and test: by fractions, by strata, or by the values of a column."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final, Literal

import attrs
import numpy as np
from attrs import frozen

from dovetail.data.address import Keys, mix_array
from dovetail.data.errors import DataError, count, listing
from dovetail.data.groups import Groups, Unit
from dovetail.data.samples import Indices, subset
from dovetail.data.strata import apportion, distinct, label, strata
from dovetail.random import derive_seed

SplitName = Literal["train", "validation", "test"]
NAMES: Final[tuple[SplitName, ...]] = ("train", "validation", "test")

_DEFAULT: Final = 0.1  # of the samples, for validation and for test, where nothing is said
_SLACK: Final = 1e-6  # fractions written in decimals do not add up to 1 exactly

Share = float | list[str | int | float] | None


@frozen
class Splits:
    """The three parts of a dataset; one that is not wanted is None."""

    train: Any
    validation: Any = None
    test: Any = None

    def __iter__(self) -> Iterator[tuple[SplitName, Any]]:
        """Yield the name and the dataset of each part that is there."""
        return ((name, part) for name in NAMES if (part := getattr(self, name)) is not None)


def _check_share(_: object, attribute: attrs.Attribute[Any], value: Share) -> None:
    if isinstance(value, list):
        if not value:
            raise ValueError(f"{attribute.name} is an empty list of values; leave it out")
        if len(set(map(str, value))) < len(value):
            raise ValueError(f"{attribute.name} names a value twice")
    elif value is not None and not 0 <= value <= 1:
        raise ValueError(f"{attribute.name} must be a fraction between 0 and 1, got {value:g}")


@frozen(kw_only=True)
class SplitOptions:
    """How to divide samples.

    Each share is a fraction of the samples, or with ``by`` a list of that column's values. Where ``train`` is a
    fraction, what it leaves is divided evenly among the shares that are not given. Else a validation and a test
    share that are not given are 0.1 each (test 0 beside ``by``), and train is the rest.
    """

    train: Share = attrs.field(default=None, validator=_check_share)
    validation: Share = attrs.field(default=None, validator=_check_share)
    test: Share = attrs.field(default=None, validator=_check_share)
    #: A column whose listed values make up a split. Rows with other values go to train, unless train has a list too.
    #: A fraction beside it is taken at random from what is left for train.
    by: str | None = None
    #: Give every split the same proportions of the classes (true, or "targets"), or of a column's values (its name).
    stratify: bool | str = False
    #: Width of the bins into which a numeric column is cut before stratifying, e.g. 10 for ages by decade.
    bin_size: float | None = None
    #: What is drawn: "group" keeps samples that belong together, such as the windows of one recording, in one split,
    #: which holds unless said otherwise where the dataset tells groups; "time" cuts each group into successive parts;
    #: "sample" draws single samples all the same, so that a test may measure memory.
    unit: Unit | None = None
    #: With unit = "time": time between two splits that is in neither, in the dataset's unit (seconds for recordings).
    gap: float = 0.0
    #: Use at most so many samples of each split, for a quick trial.
    limit: int | None = None
    #: Draws the split; the run's seed by default, so runs that vary the seed may pin the split.
    seed: int | None = None

    def __attrs_post_init__(self) -> None:
        """Check what concerns several options.

        Raises:
            ValueError: they contradict one another.
        """
        if self.lists() and self.by is None:
            raise ValueError(f"{next(iter(self.lists()))} is a list of values: say which column they are of with `by`")
        if self.by is not None and not self.lists():
            raise ValueError(f"by = '{self.by}' needs a list of that column's values in train, validation or test")
        if self.by is not None and isinstance(self.train, float | int):
            raise ValueError("train cannot be a fraction beside `by`: leave it out, it gets the remaining rows")
        names = list(self.lists())
        for first, second in ((one, other) for one in names for other in names if one < other):
            shared = sorted(set(map(str, self.lists()[first])) & set(map(str, self.lists()[second])))
            if shared:
                raise ValueError(f"{first} and {second} both name {listing(shared)}: splits must not overlap")
        if self.bin_size is not None and self.stratify is False:
            raise ValueError("bin_size needs `stratify`: the column to cut into bins")
        if self.bin_size is not None and not (math.isfinite(self.bin_size) and self.bin_size > 0):
            raise ValueError(f"bin_size must be more than 0, got {self.bin_size:g}")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit must be at least 1, got {self.limit}")
        self._check_unit()
        self.fractions()

    def _check_unit(self) -> None:
        if self.unit == "time" and self.stratify is not False:
            raise ValueError('unit = "time" gives every split its part of every group: leave stratify out')
        if self.gap and self.unit != "time":
            raise ValueError('gap needs unit = "time"')
        if not (math.isfinite(self.gap) and self.gap >= 0):
            raise ValueError(f"gap must be at least 0, got {self.gap:g}")

    def lists(self) -> dict[SplitName, list[str | int | float]]:
        """Return the shares that are lists of values."""
        return {name: value for name in NAMES if isinstance(value := getattr(self, name), list)}

    def fractions(self) -> dict[SplitName, float]:
        """Return the fraction of each split, of the rows that no list gives to validation or test; they add up to 1.

        Raises:
            ValueError: the fractions given do not add up to 1, or leave nothing for train.
        """
        given = {name: float(value) for name in NAMES if isinstance(value := getattr(self, name), float | int)}
        listed = dict.fromkeys(self.lists(), 0.0)
        missing = [name for name in NAMES if name not in given and name not in listed]
        if "train" in given:
            given |= dict.fromkeys(missing, max(0.0, 1 - sum(given.values())) / max(1, len(missing)))
        else:
            given |= {name: 0.0 if name == "test" and self.by else _DEFAULT for name in missing}
            given["train"] = 1 - sum(value for name, value in given.items() if name != "train")
        parts = {name: (given if name in given else listed)[name] for name in NAMES}
        shown = ", ".join(f"{name} {part:g}" for name, part in parts.items())
        if sum(parts.values()) > 1 + _SLACK or parts["train"] < -_SLACK:
            raise ValueError(f"the fractions add up to more than 1: {shown}")
        if sum(parts.values()) < 1 - _SLACK:
            raise ValueError(f"the fractions add up to less than 1, so samples would be left out: {shown}")
        if parts["train"] < _SLACK:
            raise ValueError(f"nothing is left for train: {shown}")
        return parts


def split(dataset: Any, options: SplitOptions | None, seed: int) -> Splits:
    """Divide ``dataset``: the splits never overlap and, but for ``limit``, cover every sample.

    What goes where depends on the options, the seed and the samples. Where the dataset has ``row_keys()`` (tables and
    arrays have) it does not depend on the order of the samples; nor does it ever with ``by`` and without fractions.
    Each split keeps the dataset's order.

    Args:
        dataset: a map-style dataset, or :class:`Splits` that it came with, which are kept as they are.
        options: how to divide; None is ``SplitOptions()``.
        seed: draws the split unless the options have a seed of their own.

    Raises:
        DataError: the samples cannot be divided so: a split would be empty, a class is too small, a column or value
            is missing, or a split that is made already has no length.
    """
    options = options or SplitOptions()
    seed = seed if options.seed is None else options.seed
    if isinstance(dataset, Splits):
        _refuse_second_split(options)
        unsized = next((name for name, part in dataset if not hasattr(part, "__len__")), None)
        if unsized is not None:
            what = f"the {unsized} split, an object of {type(getattr(dataset, unsized)).__name__}"
            raise DataError(f"{what}, has no len(): a run reads samples by number, so make a list of what it gives")
        return Splits(**{name: _limited(part, np.arange(len(part)), options, seed) for name, part in dataset})
    if len(dataset) == 0:
        raise DataError("the dataset has no samples")
    keys = _keys(dataset, seed)
    indices = _by_value(dataset, options)
    groups = _groups(dataset, options)
    if groups is None:
        taken = _drawn(dataset, indices["train"], keys, options)
    else:
        if options.by is not None:
            groups.refuse_divided(indices, options.by)
        divide = _cut if options.unit == "time" else _drawn_whole
        taken = divide(dataset, indices["train"], keys, options, groups)
    indices |= {name: rows for name, rows in taken.items() if name == "train" or name not in indices}
    parts = {name: _limited(dataset, rows, options, seed) for name, rows in indices.items() if len(rows)}
    if "train" not in parts:
        raise DataError("no row is left for train")
    return Splits(**parts)


def _refuse_second_split(options: SplitOptions) -> None:
    asked = [name for name in ("by", "stratify", "bin_size", "unit", *NAMES) if getattr(options, name)]
    if asked:
        raise DataError(f"this dataset comes with its own splits: leave split.{asked[0]} out")


def _keys(dataset: Any, seed: int) -> Keys:
    """Return a random number for each sample: drawn for its content where the dataset tells it, else for its index."""
    own = getattr(dataset, "row_keys", None)
    words = own() if own is not None else np.arange(len(dataset), dtype=np.uint64)
    return mix_array(derive_seed(seed, "split"), words)


def _by_value(dataset: Any, options: SplitOptions) -> dict[SplitName, Indices]:
    """Return the rows that lists of values name; what is left is train's."""
    if options.by is None:
        return {"train": np.arange(len(dataset))}
    values = column(dataset, options.by, "split.by")
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
    """Compare a column with a value from TOML, where 3 and "3" may mean the same."""
    if values.dtype.kind in "iufb":
        try:
            return values == float(value)
        except ValueError:
            return np.zeros(len(values), dtype=np.bool_)
    return values.astype(str) == label(value)


def column(dataset: Any, name: str, asked_by: str) -> Any:
    """Return a column of ``dataset`` as a 1-d array; ``targets`` is there wherever the dataset has targets.

    Raises:
        DataError: there is none of that name; the message says who asked.
    """
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
        raise DataError(f"{asked_by}: {missing}")
    values = np.asarray(values)
    if values.shape != (len(dataset),):
        raise DataError(f"{asked_by}: column '{name}' has shape {values.shape} for {count(len(dataset), 'sample')}")
    return values


def _groups(dataset: Any, options: SplitOptions) -> Groups | None:
    """Return which samples belong together, or None where that does not matter."""
    groups = None if options.unit == "sample" else Groups.read(dataset)
    if groups is None and options.unit in {"group", "time"}:
        raise DataError(f'split.unit = "{options.unit}": this dataset does not tell which samples belong together')
    return groups


def _cut(_dataset: Any, pool: Indices, _keys: Keys, options: SplitOptions, groups: Groups) -> dict[SplitName, Indices]:
    """Divide the time of each group in ``pool`` by fractions."""
    fractions = options.fractions()
    asked = [name for name in NAMES if fractions[name] > 0]
    parts = groups.cut(pool, [fractions[name] for name in asked], options.gap)
    for name, rows in zip(asked, parts, strict=True):
        if not len(rows):
            raise DataError(f"split.{name} = {fractions[name]:g} of each group's time holds no whole sample")
    return dict(zip(asked, parts, strict=True))


def _drawn_whole(
    dataset: Any, pool: Indices, keys: Keys, options: SplitOptions, groups: Groups
) -> dict[SplitName, Indices]:
    """Divide the groups in ``pool`` by fractions."""
    if options.stratify is not False:
        values, what = _stratified_by(dataset, options)
        groups.refuse_mixed(values, pool, what)
    drawn = _drawn(dataset, groups.representatives(pool), groups.keys(keys), options, "group")
    return {name: groups.members(rows, pool) for name, rows in drawn.items()}


def _drawn(
    dataset: Any, pool: Indices, keys: Keys, options: SplitOptions, noun: str = "row"
) -> dict[SplitName, Indices]:
    """Divide the rows of ``pool`` by fractions."""
    fractions = options.fractions()
    asked = [name for name in NAMES if fractions[name] > 0]
    if asked == ["train"]:
        return {"train": pool}
    if options.stratify is False:
        codes = np.zeros(len(pool), dtype=np.int64)
    else:
        values, what = _stratified_by(dataset, options)
        codes, _ = strata(values[pool], options.bin_size, len(asked), what, "group" if noun == "group" else "sample")
    counts = apportion(np.bincount(codes), [fractions[name] for name in asked])
    for name, number in zip(asked, counts.sum(axis=0), strict=True):
        if number == 0:
            raise DataError(f"split.{name} = {fractions[name]:g} of {count(len(pool), noun)} is no {noun} at all")
    # Sorted by stratum, then by random key: each stratum's first rows go to the first split, and so on.
    order = pool[np.lexsort((keys[pool], codes))]
    owner = np.concatenate([np.repeat(np.arange(len(asked)), row) for row in counts])
    return {name: np.sort(order[owner == number]) for number, name in enumerate(asked)}


def _stratified_by(dataset: Any, options: SplitOptions) -> tuple[Any, str]:
    """Return the value of each sample of which every split shall have its share, and what it is."""
    if isinstance(options.stratify, str):
        return column(dataset, options.stratify, "split.stratify"), f"column '{options.stratify}'"
    targets = getattr(dataset, "targets", None)
    if targets is None:
        raise DataError("split.stratify = true: this dataset does not tell its targets; name a column instead")
    if options.bin_size is None and np.asarray(targets).dtype.kind == "f":
        raise DataError("split.stratify = true: the targets are no classes; cut them into bins (split.bin_size)")
    return _named(np.asarray(targets), dataset), "class"


def _named(targets: Any, dataset: Any) -> Any:
    names = getattr(dataset, "class_names", None)
    return np.asarray(names, dtype=object)[targets] if names is not None and targets.dtype.kind in "iu" else targets


def _limited(dataset: Any, rows: Indices, options: SplitOptions, seed: int) -> Any:
    if options.limit is None or len(rows) <= options.limit:
        return dataset if len(rows) == len(dataset) else subset(dataset, rows)
    kept = rows[np.argsort(mix_array(derive_seed(seed, "limit"), rows), kind="stable")[: options.limit]]
    return subset(dataset, np.sort(kept))
