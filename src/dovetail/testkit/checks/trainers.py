"""Trainers: they train, and to the same bits every time."""

from __future__ import annotations

import math
from typing import Any

from dovetail.testkit.registry import check, expect
from dovetail.testkit.samples import same
from dovetail.testkit.subject import Subject
from dovetail.testkit.tiny import tiny_run


@check("trainer")
def can_fit(subject: Subject) -> None:
    """It has a method ``fit(run)``."""
    trainer: Any = subject.build()
    expect(callable(getattr(trainer, "fit", None)), f"{type(trainer).__name__} has no method fit(run)")


@check("trainer")
def completes_a_run(subject: Subject) -> None:
    """A tiny run ends as completed, with a training loss that is a number."""
    outcome = tiny_run(subject)
    expect(outcome.status == "completed", f"a tiny run ended as '{outcome.status}': {outcome.reason}")
    loss = outcome.metrics.get("train_loss", math.nan)
    expect(
        math.isfinite(loss), f"after a tiny run the training loss is {loss}; the figures are {dict(outcome.metrics)}"
    )


@check("trainer")
def repeats_itself(subject: Subject) -> None:
    """The same run gives the same figures, to the last bit."""
    first, second = ({name: one for name, one in tiny_run(subject).metrics.items() if _repeats(name)} for _ in range(2))
    expect(same(first, second), f"the same tiny run gave {first}, and then {second}")


def _repeats(name: str) -> bool:
    """Say whether a figure is the same in every run, as those that come from the clock are not."""
    return name.startswith(("train_", "val_", "test_", "lr"))
