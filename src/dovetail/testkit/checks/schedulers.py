"""Schedulers: learning rates are valid, and a resumed schedule continues unchanged."""

from __future__ import annotations

import copy
import inspect
import math
from typing import Any

from attrs import define
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from dovetail.testkit.properties import run_machine
from dovetail.testkit.provide import STEPS_PER_EPOCH, TOTAL_STEPS, two_group_sgd
from dovetail.testkit.registry import check, expect
from dovetail.testkit.subject import Subject


@define
class _Schedule:
    """A scheduler and its optimizer, stepped as the trainer does."""

    optimizer: Any
    scheduler: Any
    plateau: bool
    steps: int = 0

    @classmethod
    def fresh(cls, subject: Subject) -> _Schedule:
        optimizer = two_group_sgd()
        scheduler = subject.build(optimizer=optimizer)
        return cls(optimizer, scheduler, "metrics" in inspect.signature(scheduler.step).parameters)

    @property
    def rates(self) -> list[float]:
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def step(self) -> None:
        """Advance once; give a plateau scheduler a metric that first improves and then gets worse."""
        self.optimizer.step()
        if self.plateau:
            self.scheduler.step(abs(1 - self.steps / 4))
        else:
            self.scheduler.step()
        self.steps += 1

    def state(self) -> Any:
        return copy.deepcopy((self.optimizer.state_dict(), self.scheduler.state_dict(), self.steps))

    def load(self, state: Any) -> None:
        optimizer, scheduler, self.steps = copy.deepcopy(state)
        self.optimizer.load_state_dict(optimizer)
        self.scheduler.load_state_dict(scheduler)


def _length(subject: Subject) -> int:
    """Return the number of scheduler steps in the kit's run."""
    return TOTAL_STEPS // STEPS_PER_EPOCH if "per_epoch" in subject.traits else TOTAL_STEPS


@check("scheduler")
def rates_are_finite(subject: Subject) -> None:
    """Learning rates are finite and not negative at every step."""
    schedule = _Schedule.fresh(subject)
    for step in range(_length(subject) + 1):
        rates = schedule.rates
        expect(
            all(math.isfinite(rate) and rate >= 0 for rate in rates),
            f"after {step} steps the learning rates are {rates}; they must be finite and not negative",
        )
        if step < _length(subject):
            schedule.step()


@check("scheduler")
def only_rates_change(subject: Subject) -> None:
    """It changes only learning rates and, with the trait 'cycles_momentum', momentum."""
    schedule = _Schedule.fresh(subject)
    allowed = {"lr", "initial_lr", "params", "max_lr", "min_lr"}
    if "cycles_momentum" in subject.traits:
        allowed |= {"momentum", "betas", "base_momentum", "max_momentum"}
    before = [dict(group) for group in two_group_sgd().param_groups]
    for step in range(1, _length(subject) + 1):
        schedule.step()
        for old, new in zip(before, schedule.optimizer.param_groups, strict=True):
            changed = sorted(
                name for name in new if name not in allowed and (name not in old or old[name] != new[name])
            )
            expect(
                not changed,
                f"step {step} changed {', '.join(changed)} of a parameter group; a scheduler may change only the "
                "learning rate. If it cycles momentum by design, add the trait 'cycles_momentum'.",
            )


@check("scheduler")
def repeats_itself(subject: Subject) -> None:
    """Two schedulers with the same options give the same learning rates."""
    first, second = _Schedule.fresh(subject), _Schedule.fresh(subject)
    for step in range(_length(subject)):
        expect(
            first.rates == second.rates,
            f"after {step} steps two schedulers with the same options give {first.rates} and {second.rates}",
        )
        first.step()
        second.step()


@check("scheduler")
def state_round_trips_at_any_step(subject: Subject) -> None:
    """A new instance that loads its ``state_dict`` at any step continues the schedule unchanged."""
    reference = _Schedule.fresh(subject)
    expected = [reference.rates]
    for _ in range(_length(subject)):
        reference.step()
        expected.append(reference.rates)

    # First an interruption at each step, then random sequences of interruptions.
    for stop in range(_length(subject) + 1):
        schedule = _Schedule.fresh(subject)
        for _ in range(stop):
            schedule.step()
        schedule = _resumed(schedule, subject)
        _compare(schedule, expected, "loading")
        if stop < _length(subject):
            schedule.step()
            _compare(schedule, expected, "one more step")

    class Interrupted(RuleBasedStateMachine):
        """A schedule that is interrupted and resumed at random steps."""

        def __init__(self) -> None:
            super().__init__()
            self.schedule = _Schedule.fresh(subject)

        @precondition(lambda self: self.schedule.steps < len(expected) - 1)
        @rule()
        def step(self) -> None:
            self.schedule.step()
            _compare(self.schedule, expected, "one more step")

        @rule()
        def save_and_resume(self) -> None:
            self.schedule = _resumed(self.schedule, subject)
            _compare(self.schedule, expected, "loading")

    run_machine(Interrupted)


def _resumed(schedule: _Schedule, subject: Subject) -> _Schedule:
    """Return a new schedule with the state of ``schedule``."""
    fresh = _Schedule.fresh(subject)
    fresh.load(schedule.state())
    return fresh


def _compare(schedule: _Schedule, expected: list[list[float]], what: str) -> None:
    expect(
        schedule.rates == expected[schedule.steps],
        f"saved and loaded into a new scheduler, after {what} the learning rates are {schedule.rates} at step "
        f"{schedule.steps}, but {expected[schedule.steps]} without interruption. All state must be in state_dict, and "
        "load_state_dict must restore it.",
    )
