"""Callbacks and trackers: they are called, and keep what they know."""

from __future__ import annotations

import copy

from dovetail.spec.hooks import LifecycleHooks
from dovetail.testkit.registry import NotApplicable, check, expect
from dovetail.testkit.samples import same
from dovetail.testkit.subject import Subject
from dovetail.testkit.tiny import tiny_run


@check("callback")
def has_a_hook(subject: Subject) -> None:
    """It has at least one lifecycle hook, or nothing would ever call it."""
    built = subject.build()
    known = sorted(name for name in vars(LifecycleHooks) if name.startswith("dovetail_"))
    expect(
        any(callable(getattr(built, name, None)) for name in known),
        f"{type(built).__name__} has none of the lifecycle hooks, so nothing ever calls it; there is "
        f"{', '.join(known)}",
    )


@check("callback")
def takes_part_in_a_run(subject: Subject) -> None:
    """A tiny run in which it is called at every turn does not fail."""
    tiny_run(subject)


@check("callback")
def state_round_trips(subject: Subject) -> None:
    """What ``state_dict`` gives can be loaded into a fresh one, which then gives the same."""
    first, second = subject.build(), subject.build()
    has = [hasattr(first, name) for name in ("state_dict", "load_state_dict")]
    expect(len(set(has)) == 1, "it has one of state_dict and load_state_dict; a resumed run needs both")
    if not all(has):
        raise NotApplicable("it keeps no state")
    state = copy.deepcopy(first.state_dict())
    second.load_state_dict(copy.deepcopy(state))
    expect(same(state, second.state_dict()), f"it saved {state}, and after loading that it saves {second.state_dict()}")
