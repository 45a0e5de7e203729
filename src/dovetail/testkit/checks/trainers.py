"""Trainers: they train."""

from __future__ import annotations

from dovetail.testkit.registry import check, expect
from dovetail.testkit.subject import Subject


@check("trainer")
def can_fit(subject: Subject) -> None:
    """It has a method ``fit(run)``."""
    trainer = subject.build()
    expect(callable(getattr(trainer, "fit", None)), f"{type(trainer).__name__} has no method fit(run)")
