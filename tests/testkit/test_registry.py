"""Tests of the registry of checks and of the traits."""

from __future__ import annotations

from dovetail.spec.kinds import KINDS
from dovetail.testkit import registry
from dovetail.testkit.registry import TRAITS, checks_for


def test_every_check_states_a_property():
    """Every check of every kind has a unique name and a sentence."""
    for kind in KINDS:
        checks = checks_for(kind, {"additive", "signal_gradient", "variable_length"})
        names = [check.name for check in checks]

        assert len(set(names)) == len(names)
        assert all(check.summary.endswith((".", ")")) for check in checks), kind


def test_checks_need_known_traits():
    """Every trait that selects or excludes a check is documented."""
    for kind in KINDS:
        checks_for(kind, ())
    checks = [check for group in registry._REGISTERED.values() for check in group]

    assert {trait for check in checks for trait in (check.needs, check.unless) if trait} <= set(TRAITS)


def test_traits_select_checks():
    """A check that needs a trait applies only with it; one that excludes a trait applies only without it."""
    plain = {check.name for check in checks_for("loss", ())}
    claimed = {check.name for check in checks_for("loss", {"additive", "ordered"})}

    assert claimed - plain == {"loss.parts_of_a_batch_add_up", "loss.nothing_to_count_counts_nothing"}
    assert plain - claimed == {"loss.order_does_not_matter"}
