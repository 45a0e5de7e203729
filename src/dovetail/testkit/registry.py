"""What a check is, and which checks a component gets.

A check is a function of one :class:`~dovetail.testkit.subject.Subject` that raises :class:`CheckFailed`. The first line
of its docstring says what holds where it passes. Checks live in ``dovetail.testkit.checks``, in modules by kind, and
are imported when a component of that kind is checked.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final, NoReturn

from attrs import frozen

if TYPE_CHECKING:
    from dovetail.testkit.subject import Subject

#: Which modules hold the checks of a kind; every component gets those of ``plugin`` and ``config`` first.
_MODULES: Final = {
    "callback": ("callbacks",),
    "collator": ("collators",),
    "command": ("commands",),
    "dataset": ("datasets",),
    "loss": ("losses", "loss_gradients", "loss_sums", "loss_shapes"),
    "metric": ("metrics",),
    "model": ("models",),
    "optimizer": ("optimizers",),
    "profile": ("profiles",),
    "scheduler": ("schedulers",),
    "storage": ("storage", "storage_laws", "storage_atomic"),
    "tracker": ("callbacks",),
    "trainer": ("trainers",),
    "transform": ("transforms", "batch_transforms"),
}
_EVERY_KIND: Final = ("plugin", "config")


class CheckFailed(AssertionError):  # noqa: N818 (a finding about the component, not an error of the kit)
    """A component does not do what its kind demands, or what its traits claim; the message says what and what to do."""


class NotApplicable(Exception):  # noqa: N818 (nothing is wrong)
    """A check has nothing to look at in this component; the message says why."""


def expect(condition: object, message: str) -> None:
    """Raise :class:`CheckFailed` with ``message`` unless ``condition`` holds."""
    __tracebackhide__ = True
    if not condition:
        raise CheckFailed(message)


def fail(message: str) -> NoReturn:
    """Raise :class:`CheckFailed`."""
    __tracebackhide__ = True
    raise CheckFailed(message)


@frozen
class Check:
    """One property that a component is tried for."""

    #: What it looks at and what holds: ``"loss.gradient_reaches_the_logits"``.
    name: str
    function: Callable[[Subject], None]
    #: It is tried only on components that claim this trait.
    needs: str | None = None
    #: It is not tried on components with this trait.
    unless: str | None = None

    @property
    def summary(self) -> str:
        """One sentence: what holds where the check passes."""
        return (self.function.__doc__ or "").strip().partition("\n")[0]

    def run(self, subject: Subject) -> None:
        """Try it, in a new, empty folder.

        Raises:
            CheckFailed: the property does not hold.
            NotApplicable: there is nothing to look at.
            Exception: whatever else the component raises.
        """
        __tracebackhide__ = True
        with subject.folder():
            self.function(subject)

    def applies_to(self, traits: Collection[str]) -> bool:
        """Say whether a component with these traits gets the check."""
        return (self.needs is None or self.needs in traits) and self.unless not in traits


_REGISTERED: Final[dict[str, list[Check]]] = {}


def check(
    group: str, *, needs: str | None = None, unless: str | None = None
) -> Callable[[Callable[[Subject], None]], Callable[[Subject], None]]:
    """Enter the decorated function as the check ``"group.function_name"``.

    Args:
        group: a kind, or ``"plugin"`` or ``"config"`` for every kind.
        needs: a trait without which the check is not tried.
        unless: a trait with which the check is not tried.
    """

    def enter(function: Callable[[Subject], None]) -> Callable[[Subject], None]:
        one = Check(f"{group}.{function.__name__}", function, needs, unless)
        _REGISTERED.setdefault(function.__module__, []).append(one)
        return function

    return enter


def checks_for(kind: str, traits: Collection[str]) -> list[Check]:
    """Return the checks that a component of ``kind`` with these traits gets, in the order in which they are tried."""
    found: list[Check] = []
    for stem in (*_EVERY_KIND, *_MODULES[kind]):
        module = importlib.import_module(f"dovetail.testkit.checks.{stem}")
        found += [one for one in _REGISTERED.get(module.__name__, []) if one.applies_to(traits)]
    return found
