"""Exact shares: how many of each stratum go to each split, and what the strata are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from dovetail.data.errors import DataError, count

if TYPE_CHECKING:
    import numpy.typing as npt

#: A fraction such as 0.1 is a hair off: 0.1 × 30 must count as 3, not as 2 and almost one more.
_HAIR: Final = 1e-9

Floats: TypeAlias = "npt.NDArray[np.float64]"
Counts: TypeAlias = "npt.NDArray[np.int64]"


def share(total: int, fractions: Sequence[float]) -> Counts:
    """Divide ``total`` by ``fractions`` that add up to 1; what is left over goes to the largest remainders."""
    exact = total * np.asarray(fractions, dtype=np.float64)
    parts = np.floor(exact + _HAIR).astype(np.int64)
    order = np.argsort(-np.round(exact - parts, 9), kind="stable")
    parts[order[: total - int(parts.sum())]] += 1
    return parts


def apportion(sizes: Counts, fractions: Sequence[float]) -> Counts:
    """Divide each stratum by ``fractions``, exactly in every direction.

    Every count is its exact share rounded down or up, every stratum is used up, and the splits' totals are those that
    :func:`share` gives for all samples together. (Rounding each stratum for itself would give twenty strata of five all
    their odd sample to the same split.) Such a rounding always exists: Cox and Ernst, INFOR 20 (1982), 423–432.

    Args:
        sizes: ``[strata]`` numbers of samples.
        fractions: one for each split, adding up to 1.

    Returns:
        ``[strata, splits]`` numbers of samples.
    """
    exact = np.outer(sizes, np.asarray(fractions, dtype=np.float64))
    counts: Counts = np.floor(exact + _HAIR).astype(np.int64)
    remainder = np.where(exact - counts > _HAIR, exact - counts, 0.0)
    for row, size in enumerate(sizes):
        order = np.argsort(-np.round(remainder[row], 9), kind="stable")
        counts[row, order[: int(size - counts[row].sum())]] += 1
    raised: npt.NDArray[np.bool_] = counts > exact + _HAIR
    wanted = share(int(sizes.sum()), fractions)
    while (excess := counts.sum(axis=0) - wanted).any():
        _move(counts, raised, remainder, int(np.argmax(excess)), np.flatnonzero(excess < 0))
    return counts


def _move(
    counts: Counts, raised: npt.NDArray[np.bool_], remainder: Floats, source: int, short: npt.NDArray[Any]
) -> None:
    """Hand one sample from split ``source`` to a ``short`` one, through a third if need be, at the least cost."""
    splits = counts.shape[1]
    # Bellman–Ford over the splits: from a to b leads the cheapest stratum that was rounded up in a and can be in b.
    cost = np.full(splits, np.inf)
    cost[source] = 0.0
    came: dict[int, tuple[int, int]] = {}
    for _ in range(splits - 1):
        for a in range(splits):
            for b in range(splits):
                possible = raised[:, a] & ~raised[:, b] & (remainder[:, b] > 0)
                if not np.isfinite(cost[a]) or not possible.any():
                    continue
                prices = np.where(possible, remainder[:, a] - remainder[:, b], np.inf)
                row = int(np.argmin(prices))
                if cost[a] + prices[row] < cost[b] - 1e-12:
                    cost[b], came[b] = cost[a] + prices[row], (a, row)
    target = int(short[np.argmin(cost[short])])
    while target != source:
        a, row = came[target]
        counts[row, a], counts[row, target] = counts[row, a] - 1, counts[row, target] + 1
        raised[row, a], raised[row, target] = False, True
        target = a


def strata(
    values: npt.NDArray[Any], bin_size: float | None, least: int, what: str, noun: str = "sample"
) -> tuple[Counts, list[str]]:
    """Give each sample the number of its stratum, and each stratum a name.

    Args:
        values: ``[samples]`` numbers or strings.
        bin_size: width of the bins for numbers; bin ``k`` is ``[k · bin_size, (k + 1) · bin_size)``. A bin with
            fewer than ``least`` samples joins its neighbour, so that the one person of 81 does not stop a split by
            decades.
        least: how many samples a stratum must have.
        what: the values' name, for messages.
        noun: what is divided: "sample", "row", "group".

    Raises:
        DataError: a value is missing, text is to be cut into bins, or a stratum is too small.
    """
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(f"cannot stratify by {what}: {_missing(values)}")
    if bin_size is not None:
        if values.dtype.kind not in "iufb":
            raise DataError(f"cannot cut {what} into bins of {bin_size:g}: it is text")
        return _bins(values, bin_size, least, what, noun)
    labels, codes = np.unique(values.astype(str) if values.dtype == object else values, return_inverse=True)
    sizes = np.bincount(codes, minlength=len(labels))
    small = int(np.argmin(sizes))
    if sizes[small] < least:
        hint = "; to cut the numbers into bins set bin_size" if values.dtype.kind in "iuf" else ""
        hint += '; unit = "time" divides each group in time' if noun == "group" else ""
        raise DataError(
            f"cannot stratify by {what}: '{labels[small]}' has only {count(int(sizes[small]), noun)}, "
            f"and each of {least} splits needs one{hint}"
        )
    return codes.reshape(-1).astype(np.int64), [str(label) for label in labels]


def _missing(values: Floats) -> str:
    rows = np.flatnonzero(~np.isfinite(values))
    return f"{count(len(rows), 'sample')} without a value there, the first is sample {rows[0]}"


def _bins(values: npt.NDArray[Any], bin_size: float, least: int, what: str, noun: str) -> tuple[Counts, list[str]]:
    numbers, codes = np.unique(np.floor(values.astype(np.float64) / bin_size), return_inverse=True)
    groups: list[list[int]] = []
    sizes = np.bincount(codes, minlength=len(numbers))
    for code in range(len(numbers)):
        if groups and sum(sizes[one] for one in groups[-1]) < least:
            groups[-1].append(code)
        else:
            groups.append([code])
    if len(groups) > 1 and sum(sizes[one] for one in groups[-1]) < least:
        groups[-2:] = [groups[-2] + groups[-1]]
    if len(values) < least:
        raise DataError(f"cannot stratify by {what}: {count(len(values), noun)} for {least} splits")
    joined = np.empty(len(numbers), dtype=np.int64)
    for group, members in enumerate(groups):
        joined[members] = group
    names = [f"{numbers[one[0]] * bin_size:g} to {(numbers[one[-1]] + 1) * bin_size:g}" for one in groups]
    return joined[codes.reshape(-1)], names


def distinct(values: npt.NDArray[Any]) -> list[str]:
    """Return the different values of a column as text, sorted as a person would sort them."""
    if values.dtype.kind in "iufb":
        return [label(value) for value in np.unique(values).tolist()]
    return sorted({str(value) for value in values}, key=natural_key)


def label(value: Any) -> str:
    """Return a value of a column as text; a whole number has no decimal point."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Return a key that sorts numbers inside text as numbers: ``class2`` before ``class10``."""
    if re.fullmatch(r"-\d{1,18}", text):
        return ((0, int(text), ""),)
    parts = re.findall(r"(\d{1,18})|(\D+|\d+)", text)
    return tuple((0, int(digits), "") if digits else (1, 0, other) for digits, other in parts)
