"""Limits, markers and the table of kinds."""

from __future__ import annotations

import pytest

from dovetail.spec.kinds import KINDS
from dovetail.spec.limits import AtLeast, Between, MoreThan
from dovetail.spec.protocols import Loss, Storage


@pytest.mark.parametrize(
    "limit, good, bad, message",
    [
        (Between(0, 1), [0, 0.5, 1], [-0.1, 1.1, float("nan")], "must be between 0 and 1"),
        (AtLeast(1), [1, 2.5], [0.99, float("nan")], "must be at least 1"),
        (MoreThan(0), [1e-9], [0, -1, float("nan")], "must be more than 0"),
    ],
)
def test_limits(limit, good, bad, message):
    """A limit accepts its range, ends included where it says so, and refuses everything else, NaN too."""
    assert [None] * len(good) == [limit.problem(value) for value in good]
    assert [message] * len(bad) == [limit.problem(value) for value in bad]


def test_protocols_mark_components():
    """A parameter annotated with a protocol is a component of that kind; other types are not."""
    assert (KINDS.of(Loss), KINDS.of(Storage)) == ("loss", "storage")
    assert [KINDS.of(other) for other in (int, list[Loss], None, "Loss")] == [None] * 4


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_every_kind_says_what_it_must_satisfy(kind):
    """The table is documentation too: no row is empty, and what is an object is also provided."""
    assert kind.must
    assert kind.hook.startswith("dovetail_")
    assert kind.objects <= set(kind.provides)
    assert all(reserved.help for reserved in kind.reserved.values())
