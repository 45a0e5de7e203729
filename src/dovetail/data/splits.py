"""The parts of a dataset, and the options that say how to divide it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations
from typing import Any, Final, Literal

import attrs
from attrs import frozen

from dovetail.data.errors import listing

SplitName = Literal["train", "validation", "test"]
SPLIT_NAMES: Final[tuple[SplitName, ...]] = ("train", "validation", "test")

#: What a split draws: single samples, whole groups, or spans of each group's time.
Unit = Literal["sample", "group", "time"]
#: A fraction of the samples, a list of a column's values, or None if not set.
SplitPart = float | list[str | int | float] | None

_DEFAULT: Final = 0.1  # fraction for validation and for test
_TOLERANCE: Final = 1e-6  # decimal fractions do not add up to 1 exactly


@frozen
class Splits:
    """The train, validation and test split of a dataset; None if there is no such split."""

    train: Any
    validation: Any = None
    test: Any = None

    def __iter__(self) -> Iterator[tuple[SplitName, Any]]:
        """Yield the name and the dataset of each split that is not None."""
        return ((name, part) for name in SPLIT_NAMES if (part := getattr(self, name)) is not None)


def _check_part(_: object, attribute: attrs.Attribute[Any], value: SplitPart) -> None:
    if isinstance(value, list):
        if not value:
            raise ValueError(f"{attribute.name} is an empty list of values; leave it out")
        if len(set(map(str, value))) < len(value):
            raise ValueError(f"{attribute.name} names a value twice")
    elif value is not None and not 0 <= value <= 1:
        raise ValueError(f"{attribute.name} must be a fraction between 0 and 1, got {value:g}")


@frozen(kw_only=True)
class SplitOptions:
    """How to divide a dataset.

    ``train``, ``validation`` and ``test`` are fractions of the samples, or with ``by`` lists of that column's values.
    If ``train`` is a fraction, the rest is divided evenly among the splits that are not set. Otherwise ``validation``
    and ``test`` default to 0.1 each (``test`` to 0 with ``by``), and train is the rest.
    """

    train: SplitPart = attrs.field(default=None, validator=_check_part)
    validation: SplitPart = attrs.field(default=None, validator=_check_part)
    test: SplitPart = attrs.field(default=None, validator=_check_part)
    #: A column whose listed values make up a split. Rows with other values go to train, unless train has a list too.
    #: A fraction next to a list is drawn at random from the remaining rows.
    by: str | None = None
    #: Keep the proportions of the classes (true, or "targets"), or of a column's values (its name), in every split.
    stratify: bool | str = False
    #: Width of the bins that a numeric column is cut into before stratifying, e.g. 10 for ages by decade.
    bin_size: float | None = None
    #: What to draw. "group", the default for a dataset with groups, keeps samples that belong together, such as the
    #: windows of one recording, in one split. "time" cuts each group into successive spans. "sample" draws single
    #: samples even if there are groups, so that the test may measure memorisation.
    unit: Unit | None = None
    #: With unit = "time": time between two splits that belongs to neither, in the dataset's unit (seconds for
    #: recordings).
    gap: float = 0.0
    #: Use at most this many samples of each split, for a quick trial.
    limit: int | None = None
    #: Seed of the split; by default the run's seed. Set it to keep the split fixed in runs that vary the seed.
    seed: int | None = None

    def __attrs_post_init__(self) -> None:
        """Check the options against one another.

        Raises:
            ValueError: two options contradict each other.
        """
        lists = self.lists()
        if lists and self.by is None:
            raise ValueError(f"{next(iter(lists))} is a list of values: name their column with `by`")
        if self.by is not None and not lists:
            raise ValueError(f"by = '{self.by}' needs a list of that column's values in train, validation or test")
        if self.by is not None and isinstance(self.train, float | int):
            raise ValueError("train cannot be a fraction with `by`: leave it out, it gets the remaining rows")
        for first, second in combinations(sorted(lists), 2):
            common = sorted(set(map(str, lists[first])) & set(map(str, lists[second])))
            if common:
                raise ValueError(f"{first} and {second} both name {listing(common)}: splits must not overlap")
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
            raise ValueError('unit = "time" gives every split a part of every group: leave stratify out')
        if self.gap and self.unit != "time":
            raise ValueError('gap needs unit = "time"')
        if not (math.isfinite(self.gap) and self.gap >= 0):
            raise ValueError(f"gap must be at least 0, got {self.gap:g}")

    def lists(self) -> dict[SplitName, list[str | int | float]]:
        """Return the splits that are set to a list of values."""
        return {name: value for name in SPLIT_NAMES if isinstance(value := getattr(self, name), list)}

    def fractions(self) -> dict[SplitName, float]:
        """Return each split's fraction of the rows that no list assigns to validation or test; they add up to 1.

        Raises:
            ValueError: the fractions do not add up to 1, or leave nothing for train.
        """
        given = {name: float(value) for name in SPLIT_NAMES if isinstance(value := getattr(self, name), float | int)}
        listed = dict.fromkeys(self.lists(), 0.0)
        unset = [name for name in SPLIT_NAMES if name not in given and name not in listed]
        if "train" in given:
            given |= dict.fromkeys(unset, max(0.0, 1 - sum(given.values())) / max(1, len(unset)))
        else:
            given |= {name: 0.0 if name == "test" and self.by else _DEFAULT for name in unset}
            given["train"] = 1 - sum(value for name, value in given.items() if name != "train")
        parts = {name: (given if name in given else listed)[name] for name in SPLIT_NAMES}
        shown = ", ".join(f"{name} {part:g}" for name, part in parts.items())
        if sum(parts.values()) > 1 + _TOLERANCE or parts["train"] < -_TOLERANCE:
            raise ValueError(f"the fractions add up to more than 1: {shown}")
        if sum(parts.values()) < 1 - _TOLERANCE:
            raise ValueError(f"the fractions add up to less than 1, so samples would be left out: {shown}")
        if parts["train"] < _TOLERANCE:
            raise ValueError(f"nothing is left for train: {shown}")
        return parts
