"""Test a property inside a check: hypothesis draws examples and shrinks the failing ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test
from hypothesis.strategies import SearchStrategy


def _settings(fraction: float, **more: Any) -> settings:
    # Derandomised and without a database: a component gets the same examples everywhere, so a rerun changes nothing.
    # The number of examples follows the active profile: pytest --hypothesis-profile=NAME draws more of them.
    profile = settings.default
    assert profile is not None, "hypothesis always has an active profile"
    return settings(
        max_examples=max(1, round(profile.max_examples * fraction)),
        derandomize=True,
        database=None,
        deadline=None,
        print_blob=False,
        report_multiple_bugs=False,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),  # they depend on the speed of the machine
        **more,
    )


def for_all(body: Callable[..., None], *, fraction: float = 0.3, **strategies: SearchStrategy[Any]) -> None:
    """Call ``body`` with examples of its arguments drawn from ``strategies``.

    Args:
        body: raises if the property does not hold.
        fraction: the number of examples as a fraction of hypothesis' ``max_examples``, 100 in its default profile.
        strategies: a strategy for each parameter of ``body``.
    """
    __tracebackhide__ = True
    _settings(fraction)(given(**strategies)(body))()


def run_machine(machine: type[RuleBasedStateMachine], *, fraction: float = 0.3, steps: int = 20) -> None:
    """Run a stateful machine with sequences of at most ``steps`` rules."""
    __tracebackhide__ = True
    run_state_machine_as_test(machine, settings=_settings(fraction, stateful_step_count=steps))
