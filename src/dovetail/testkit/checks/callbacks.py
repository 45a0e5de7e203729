"""Callbacks and trackers: they have hooks, work in a run and restore their state."""

from __future__ import annotations

import copy

from dovetail.spec.hooks import LifecycleHooks
from dovetail.testkit.registry import NotApplicable, check, expect
from dovetail.testkit.run_files import tiny_run
from dovetail.testkit.samples import same
from dovetail.testkit.subject import Subject


@check("callback")
def has_a_hook(subject: Subject) -> None:
    """It has at least one lifecycle hook."""
    built = subject.build()
    known = sorted(name for name in vars(LifecycleHooks) if name.startswith("dovetail_"))
    expect(
        any(callable(getattr(built, name, None)) for name in known),
        f"{type(built).__name__} has no lifecycle hook, so nothing ever calls it; the hooks are {', '.join(known)}",
    )


@check("callback")
def takes_part_in_a_run(subject: Subject) -> None:
    """A tiny run that calls all of its hooks does not fail."""
    tiny_run(subject)


@check("callback")
def state_round_trips(subject: Subject) -> None:
    """A new instance that loads its ``state_dict`` has the same ``state_dict``."""
    first, second = subject.build(), subject.build()
    has = [hasattr(first, name) for name in ("state_dict", "load_state_dict")]
    expect(len(set(has)) == 1, "it has only one of state_dict and load_state_dict; a resumed run needs both")
    if not all(has):
        raise NotApplicable("it has no state_dict")
    state = copy.deepcopy(first.state_dict())
    second.load_state_dict(copy.deepcopy(state))
    expect(same(state, second.state_dict()), f"its state_dict is {state}, but {second.state_dict()} after loading that")
