"""Trainers: they train, and they repeat a run bit for bit."""

from __future__ import annotations

import math
from typing import Any

from dovetail.testkit.registry import check, expect
from dovetail.testkit.run_files import tiny_run
from dovetail.testkit.samples import same
from dovetail.testkit.subject import Subject


@check("trainer")
def can_fit(subject: Subject) -> None:
    """It has a method ``fit(run)``."""
    trainer: Any = subject.build()
    expect(
        callable(getattr(trainer, "fit", None)),
        f"{type(trainer).__name__} has no method fit(run); derive it from StandardTrainer",
    )


@check("trainer")
def completes_a_run(subject: Subject) -> None:
    """A tiny run completes with a finite training loss."""
    outcome = tiny_run(subject)
    expect(outcome.status == "completed", f"a tiny run ended with status '{outcome.status}': {outcome.reason}")
    loss = outcome.metrics.get("train_loss", math.nan)
    expect(math.isfinite(loss), f"a tiny run ended with training loss {loss}; its metrics are {dict(outcome.metrics)}")


@check("trainer")
def repeats_itself(subject: Subject) -> None:
    """The same run gives the same metrics, bit for bit."""
    first, second = (
        {name: value for name, value in tiny_run(subject).metrics.items() if _is_repeatable(name)} for _ in range(2)
    )
    expect(same(first, second), f"the same tiny run gave {first} the first time and {second} the second time")


def _is_repeatable(name: str) -> bool:
    """Return whether a metric is the same in every run, unlike times and throughput."""
    return name.startswith(("train_", "val_", "test_", "lr"))
