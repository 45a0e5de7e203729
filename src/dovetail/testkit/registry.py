"""Checks, and the traits that select them.

A check is a function that takes a :class:`~dovetail.testkit.subject.Subject` and raises :class:`CheckFailed`. The first
line of its docstring states the property that it checks. The modules of ``dovetail.testkit.checks`` hold the checks by
kind; the kit imports a module when it checks a component of that kind.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Final, NoReturn

from attrs import frozen

if TYPE_CHECKING:
    from dovetail.testkit.subject import Subject

#: The modules with the checks of each kind. Every component also gets those of ``plugin`` and ``config``, first.
_MODULES: Final = {
    "callback": ("callbacks",),
    "collator": ("collators",),
    "command": ("commands",),
    "dataset": ("datasets",),
    "loss": ("losses", "loss_gradients", "loss_batches"),
    "metric": ("metrics",),
    "model": ("models",),
    "optimizer": ("optimizers",),
    "profile": ("profiles",),
    "scheduler": ("schedulers",),
    "storage": ("storage", "storage_atomic"),
    "tracker": ("callbacks",),
    "trainer": ("trainers",),
    "transform": ("transforms", "batch_transforms"),
}
_EVERY_KIND: Final = ("plugin", "config")


#: The traits that affect a check or a run, with their meaning. A component may claim others; they have no effect.
TRAITS: Final[Mapping[str, str]] = {
    "additive": "loss: the loss of a batch is the weighted mean of the losses of its parts",
    "atomic": "storage: an object is stored completely or not at all; required of every storage backend",
    "batched": "transform: it transforms whole batches on the device, with draws addressed by sample",
    "classification": "accepts class scores and integer labels",
    "couples_samples": "model: in evaluation a sample's output depends on the other samples of its batch",
    "cycles_momentum": "scheduler: it changes momentum along with the learning rate",
    "deterministic": "the same input gives the same output, whatever the state of the random generators",
    "differentiable": "loss: its gradient is the derivative of its value, unless it has a surrogate gradient",
    "every_split": "transform: it applies to evaluation as well as to training",
    "fitted": "transform: fit(samples) is called with the training split before the first sample",
    "hidden_gradient": "loss: a gradient reaches the model's hidden representation",
    "keeps_samples": "collator: the batch contains every sample; required of every collator",
    "language_modeling": "accepts token scores and tokens",
    "mixes_samples": "collator, transform: a row of the batch combines several samples",
    "one_group": "optimizer: it updates a single parameter group and rejects several",
    "ordered": "loss: it depends on the order of the samples",
    "per_epoch": "scheduler: it steps once per epoch",
    "random": "transform: it draws from the global random generators",
    "regression": "accepts predictions and targets of the same shape",
    "signal_gradient": "loss: a gradient reaches the batch's inputs",
    "soft_labels": "accepts class scores and class probabilities",
    "stateful": "loss: it depends on earlier batches by design",
    "surrogate_gradient": "loss: its gradient is that of another function by design",
    "variable_length": "collator: it accepts samples of different lengths",
}


class CheckFailed(AssertionError):  # noqa: N818 (a finding about the component, not an error of the kit)
    """A component violates the contract of its kind or a claim of its traits; the message says how to fix it."""


class NotApplicable(Exception):  # noqa: N818 (nothing is wrong)
    """A check does not apply to this component; the message says why."""


def expect(condition: object, message: str) -> None:
    """Raise :class:`CheckFailed` with ``message`` unless ``condition`` holds."""
    __tracebackhide__ = True
    if not condition:
        raise CheckFailed(message)


def fail(message: str) -> NoReturn:
    """Raise :class:`CheckFailed` with ``message``."""
    __tracebackhide__ = True
    raise CheckFailed(message)


@frozen
class Check:
    """One property that a component must have."""

    #: Group and property: ``"loss.gradient_reaches_the_logits"``.
    name: str
    function: Callable[[Subject], None]
    #: The check applies only to components with this trait.
    needs: str | None = None
    #: The check does not apply to components with this trait.
    unless: str | None = None

    @property
    def summary(self) -> str:
        """The property, in one sentence."""
        return (self.function.__doc__ or "").strip().partition("\n")[0]

    def run(self, subject: Subject) -> None:
        """Run the check in a new folder that contains only the subject's files.

        Raises:
            CheckFailed: the property does not hold.
            NotApplicable: the check does not apply.
            Exception: any other exception that the component raises.
        """
        __tracebackhide__ = True
        with subject.folder():
            self.function(subject)

    def applies_to(self, traits: Collection[str]) -> bool:
        """Return whether the check applies to a component with these traits."""
        return (self.needs is None or self.needs in traits) and self.unless not in traits


_REGISTERED: Final[dict[str, list[Check]]] = {}


def check(
    group: str, *, needs: str | None = None, unless: str | None = None
) -> Callable[[Callable[[Subject], None]], Callable[[Subject], None]]:
    """Register the decorated function as the check ``"group.function_name"``.

    Args:
        group: a kind, or ``"plugin"`` or ``"config"`` for every kind.
        needs: a trait that the check requires.
        unless: a trait that excludes the check.
    """

    def register(function: Callable[[Subject], None]) -> Callable[[Subject], None]:
        registered = Check(f"{group}.{function.__name__}", function, needs, unless)
        _REGISTERED.setdefault(function.__module__, []).append(registered)
        return function

    return register


def checks_for(kind: str, traits: Collection[str]) -> list[Check]:
    """Return the checks that apply to a component of ``kind`` with these traits, in the order in which they run."""
    checks: list[Check] = []
    for stem in (*_EVERY_KIND, *_MODULES[kind]):
        module = importlib.import_module(f"dovetail.testkit.checks.{stem}")
        checks += [entry for entry in _REGISTERED.get(module.__name__, []) if entry.applies_to(traits)]
    return checks
