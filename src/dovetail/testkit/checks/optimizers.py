"""Optimizers: they go downhill, and a resumed one goes on where it was."""

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
    """An optimizer on its way down a bowl."""

    parameters: list[Any]
    optimizer: Any

    @classmethod
    def fresh(cls, subject: Subject) -> _Descent:
        found = parameters()
        return cls(found, subject.build(params=found))

    def loss(self) -> torch.Tensor:
        return torch.stack([(one - 2).square().sum() for one in self.parameters]).sum()

    def step(self) -> None:
        """Update once; with a closure, as every torch optimizer takes one and some need it."""

        def closure() -> float:
            self.optimizer.zero_grad()
            loss = self.loss()
            loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
            return float(loss.detach())

        self.optimizer.step(closure)

    def state(self) -> Any:
        return copy.deepcopy((self.optimizer.state_dict(), [one.detach() for one in self.parameters]))

    def load(self, state: Any) -> None:
        optimizer, values = copy.deepcopy(state)
        self.optimizer.load_state_dict(optimizer)
        with torch.no_grad():
            for one, value in zip(self.parameters, values, strict=True):
                one.copy_(value)


@check("optimizer")
def goes_downhill(subject: Subject) -> None:
    """On a quadratic bowl the loss falls, and stays finite."""
    descent = _Descent.fresh(subject)
    before = float(descent.loss().detach())
    for _ in range(_STEPS):
        descent.step()
    after = float(descent.loss().detach())
    expect(
        after < before,
        f"on a quadratic bowl the loss went from {before:g} to {after:g} in {_STEPS} steps; it must fall",
    )


@check("optimizer", unless="one_group")
def updates_every_group(subject: Subject) -> None:
    """Every parameter of every group is updated, each group at its own learning rate."""
    first, second = parameters()
    optimizer = subject.build(params=[{"params": [first]}, {"params": [second], "lr": 0.0}])
    descent = _Descent([first, second], optimizer)
    before = [one.detach().clone() for one in descent.parameters]
    descent.step()
    expect(not torch.equal(before[0], first.detach()), "a step left the parameters of the first group as they were")
    expect(torch.equal(before[1], second.detach()), "a step moved the parameters of a group whose learning rate is 0")


@check("optimizer")
def state_round_trips(subject: Subject) -> None:
    """Saved at any step and loaded into a fresh one, it goes on to the same bits."""

    def resumes(before: int, after: int) -> None:
        straight = _Descent.fresh(subject)
        for _ in range(before):
            straight.step()
        resumed = _Descent.fresh(subject)
        resumed.load(straight.state())
        for _ in range(after):
            straight.step()
            resumed.step()
        for one, other in zip(straight.parameters, resumed.parameters, strict=True):
            expect(
                torch.equal(one, other),
                f"saved after {before} steps and loaded into a fresh optimizer, {after} steps later the parameters "
                "differ: "
                "something that changes is not in its state_dict",
            )

    for_all(resumes, before=st.integers(0, 6), after=st.integers(1, 4), share=0.2)
