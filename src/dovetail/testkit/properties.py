"""Running a property inside a check: hypothesis draws the examples and shrinks what fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test
from hypothesis.strategies import SearchStrategy


def _profile() -> settings:
    active = settings.default
    assert active is not None, "hypothesis always has an active profile"
    return active


def _settings(share: float, **more: Any) -> settings:
    # Derandomised, without a database: the same component gets the same examples everywhere, so nobody learns to rerun.
    # The number of examples follows the active profile: pytest --hypothesis-profile=NAME tries harder.
    return settings(
        max_examples=max(1, round(_profile().max_examples * share)),
        derandomize=True,
        database=None,
        deadline=None,
        print_blob=False,
        report_multiple_bugs=False,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),  # they time the component's code on this machine
        **more,
    )


def for_all(body: Callable[..., None], *, share: float = 0.3, **strategies: SearchStrategy[Any]) -> None:
    """Try ``body`` with examples of its arguments drawn from ``strategies``.

    Args:
        body: raises where the property does not hold.
        share: how many examples, as a share of hypothesis' ``max_examples`` (100 unless a profile says otherwise).
        strategies: one per parameter of ``body``.
    """
    __tracebackhide__ = True
    _settings(share)(given(**strategies)(body))()


def run_machine(machine: type[RuleBasedStateMachine], *, share: float = 0.3, steps: int = 20) -> None:
    """Try sequences of at most ``steps`` rules of a stateful machine."""
    __tracebackhide__ = True
    run_state_machine_as_test(machine, settings=_settings(share, stateful_step_count=steps))
