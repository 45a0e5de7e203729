"""Optimizers: they reduce a loss, and continue unchanged after a resume."""

from __future__ import annotations

import copy
from typing import Any, Final

import torch
from attrs import define
from hypothesis import strategies as st

from dovetail.testkit.properties import for_all
from dovetail.testkit.provide import parameters
from dovetail.testkit.registry import check, expect
from dovetail.testkit.subject import Subject

_STEPS: Final = 60


@define
class _Descent:
    """An optimizer that minimises a quadratic function."""

    parameters: list[Any]
    optimizer: Any

    @classmethod
    def fresh(cls, subject: Subject) -> _Descent:
        params = parameters()
        return cls(params, subject.build(params=params))

    def loss(self) -> torch.Tensor:
        return torch.stack([(parameter - 2).square().sum() for parameter in self.parameters]).sum()

    def step(self) -> None:
        """Update once, with a closure: every torch optimizer accepts one, and some require it."""

        def closure() -> float:
            self.optimizer.zero_grad()
            loss = self.loss()
            loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
            return float(loss.detach())

        self.optimizer.step(closure)

    def state(self) -> Any:
        return copy.deepcopy((self.optimizer.state_dict(), [parameter.detach() for parameter in self.parameters]))

    def load(self, state: Any) -> None:
        optimizer, values = copy.deepcopy(state)
        self.optimizer.load_state_dict(optimizer)
        with torch.no_grad():
            for parameter, value in zip(self.parameters, values, strict=True):
                parameter.copy_(value)


@check("optimizer")
def goes_downhill(subject: Subject) -> None:
    """It reduces a quadratic loss, which stays finite."""
    descent = _Descent.fresh(subject)
    before = float(descent.loss().detach())
    for _ in range(_STEPS):
        descent.step()
    after = float(descent.loss().detach())
    expect(
        after < before,
        f"a quadratic loss went from {before:g} to {after:g} in {_STEPS} steps; it must decrease",
    )


@check("optimizer", unless="one_group")
def updates_every_group(subject: Subject) -> None:
    """It updates every parameter group at the group's own learning rate."""
    first, second = parameters()
    optimizer = subject.build(params=[{"params": [first]}, {"params": [second], "lr": 0.0}])
    descent = _Descent([first, second], optimizer)
    before = [parameter.detach().clone() for parameter in descent.parameters]
    descent.step()
    expect(not torch.equal(before[0], first.detach()), "a step did not change the parameters of the first group")
    expect(torch.equal(before[1], second.detach()), "a step changed the parameters of a group with learning rate 0")


@check("optimizer")
def state_round_trips(subject: Subject) -> None:
    """A new instance that loads its ``state_dict`` at any step continues bit for bit."""

    def resumes(before: int, after: int) -> None:
        straight = _Descent.fresh(subject)
        for _ in range(before):
            straight.step()
        resumed = _Descent.fresh(subject)
        resumed.load(straight.state())
        for _ in range(after):
            straight.step()
            resumed.step()
        for expected, parameter in zip(straight.parameters, resumed.parameters, strict=True):
            expect(
                torch.equal(expected, parameter),
                f"saved after {before} steps and loaded into a new optimizer, the parameters differ {after} steps "
                "later: some of its state is not in its state_dict",
            )

    for_all(resumes, before=st.integers(0, 6), after=st.integers(1, 4), fraction=0.2)
