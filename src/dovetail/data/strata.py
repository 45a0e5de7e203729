"""Strata of samples, and their exact apportionment to splits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from dovetail.data.errors import DataError, count

if TYPE_CHECKING:
    import numpy.typing as npt

#: A fraction such as 0.1 is not exact: 0.1 × 30 must count as 3, not as 2 and almost one more.
_TOLERANCE: Final = 1e-9

Floats: TypeAlias = "npt.NDArray[np.float64]"
Counts: TypeAlias = "npt.NDArray[np.int64]"


def largest_remainder(total: int, fractions: Sequence[float]) -> Counts:
    """Divide ``total`` into integers by ``fractions`` that add up to 1, by the largest-remainder method."""
    exact = total * np.asarray(fractions, dtype=np.float64)
    parts = np.floor(exact + _TOLERANCE).astype(np.int64)
    order = np.argsort(-np.round(exact - parts, 9), kind="stable")
    parts[order[: total - int(parts.sum())]] += 1
    return parts


def apportion(sizes: Counts, fractions: Sequence[float]) -> Counts:
    """Divide each stratum by ``fractions``, with exact totals per stratum and per split.

    Every count is its exact value rounded down or up, every stratum is used up, and the totals of the splits are those
    of :func:`largest_remainder` for all samples together. (Rounding each stratum separately would give the odd sample
    of each of twenty strata of five to the same split.) Such a rounding always exists: Cox and Ernst, INFOR 20 (1982),
    423–432.

    Args:
        sizes: ``[strata]`` numbers of samples.
        fractions: one per split, adding up to 1.

    Returns:
        ``[strata, splits]`` numbers of samples.
    """
    exact = np.outer(sizes, np.asarray(fractions, dtype=np.float64))
    counts: Counts = np.floor(exact + _TOLERANCE).astype(np.int64)
    remainder = np.where(exact - counts > _TOLERANCE, exact - counts, 0.0)
    for row, size in enumerate(sizes):
        order = np.argsort(-np.round(remainder[row], 9), kind="stable")
        counts[row, order[: int(size - counts[row].sum())]] += 1
    raised: npt.NDArray[np.bool_] = counts > exact + _TOLERANCE
    wanted = largest_remainder(int(sizes.sum()), fractions)
    while (excess := counts.sum(axis=0) - wanted).any():
        _move(counts, raised, remainder, int(np.argmax(excess)), np.flatnonzero(excess < 0))
    return counts


def _move(
    counts: Counts, raised: npt.NDArray[np.bool_], remainder: Floats, source: int, short: npt.NDArray[Any]
) -> None:
    """Move one sample from split ``source`` to a ``short`` one, if necessary through others, at the least cost."""
    splits = counts.shape[1]
    # Bellman–Ford over the splits: the edge from a to b is the cheapest stratum rounded up in a and possible in b.
    cost = np.full(splits, np.inf)
    cost[source] = 0.0
    previous: dict[int, tuple[int, int]] = {}
    for _ in range(splits - 1):
        for a in range(splits):
            for b in range(splits):
                possible = raised[:, a] & ~raised[:, b] & (remainder[:, b] > 0)
                if not np.isfinite(cost[a]) or not possible.any():
                    continue
                prices = np.where(possible, remainder[:, a] - remainder[:, b], np.inf)
                row = int(np.argmin(prices))
                if cost[a] + prices[row] < cost[b] - 1e-12:
                    cost[b], previous[b] = cost[a] + prices[row], (a, row)
    target = int(short[np.argmin(cost[short])])
    while target != source:
        a, row = previous[target]
        counts[row, a], counts[row, target] = counts[row, a] - 1, counts[row, target] + 1
        raised[row, a], raised[row, target] = False, True
        target = a


def strata(
    values: npt.NDArray[Any], bin_size: float | None, least: int, what: str, noun: str = "sample"
) -> tuple[Counts, list[str]]:
    """Return the number of each sample's stratum, and the name of each stratum.

    Args:
        values: ``[samples]`` numbers or strings.
        bin_size: width of the bins for numbers; bin ``k`` is ``[k · bin_size, (k + 1) · bin_size)``. A bin with
            fewer than ``least`` samples joins its neighbour, so that a single person of 81 does not prevent a split by
            decades.
        least: the number of samples that a stratum must have.
        what: the values' name, for messages.
        noun: what is divided, for messages: "sample" or "group".

    Raises:
        DataError: a value is missing, ``bin_size`` is set for text, or a stratum is too small.
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
        hint = "; set bin_size to cut the numbers into bins" if values.dtype.kind in "iuf" else ""
        hint += '; unit = "time" divides the time of each group' if noun == "group" else ""
        raise DataError(
            f"cannot stratify by {what}: '{labels[small]}' has only {count(int(sizes[small]), noun)}, "
            f"and each of {least} splits needs one{hint}"
        )
    return codes.reshape(-1).astype(np.int64), [str(label) for label in labels]


def _missing(values: Floats) -> str:
    rows = np.flatnonzero(~np.isfinite(values))
    return f"{count(len(rows), 'sample')} without a value, the first is sample {rows[0]}"


def _bins(values: npt.NDArray[Any], bin_size: float, least: int, what: str, noun: str) -> tuple[Counts, list[str]]:
    numbers, codes = np.unique(np.floor(values.astype(np.float64) / bin_size), return_inverse=True)
    groups: list[list[int]] = []
    sizes = np.bincount(codes, minlength=len(numbers))
    for code in range(len(numbers)):
        if groups and sum(sizes[member] for member in groups[-1]) < least:
            groups[-1].append(code)
        else:
            groups.append([code])
    if len(groups) > 1 and sum(sizes[member] for member in groups[-1]) < least:
        groups[-2:] = [groups[-2] + groups[-1]]
    if len(values) < least:
        raise DataError(f"cannot stratify by {what}: {count(len(values), noun)} for {least} splits")
    joined = np.empty(len(numbers), dtype=np.int64)
    for group, members in enumerate(groups):
        joined[members] = group
    names = [f"{numbers[members[0]] * bin_size:g} to {(numbers[members[-1]] + 1) * bin_size:g}" for members in groups]
    return joined[codes.reshape(-1)], names
