"""How long a run will be."""

from __future__ import annotations

import math
from collections.abc import Sequence

from attrs import frozen


@frozen
class Plan:
    """The planned length of a run or of one of its phases."""

    max_epochs: int
    #: Optimizer updates per epoch, and in total.
    steps_per_epoch: int
    total_steps: int

    @classmethod
    def make(cls, batches: int, *, accumulate: int, max_epochs: int | None, max_steps: int | None) -> Plan:
        """Work out the length of a run from the batches per epoch and its limits; the nearer limit holds.

        Raises:
            ValueError: neither limit is given.
        """
        per_epoch = math.ceil(batches / accumulate)
        limits = [max_epochs * per_epoch] if max_epochs is not None else []
        limits += [max_steps] if max_steps is not None else []
        if not limits:
            raise ValueError("training never ends: give max_epochs or max_steps")
        total = min(limits)
        return cls(math.ceil(total / per_epoch), per_epoch, total)

    @classmethod
    def of_phases(cls, whole: Plan, lengths: Sequence[tuple[int | None, int | None]]) -> list[Plan]:
        """Return the plans of consecutive phases within ``whole``, which also ends the last of them.

        Args:
            whole: the plan of the run.
            lengths: ``max_epochs`` and ``max_steps`` of each phase.
        """
        plans, left = [], whole.total_steps
        for epochs, steps in lengths:
            own = [left, *([epochs * whole.steps_per_epoch] if epochs else []), *([steps] if steps else [])]
            # A scheduler always gets at least one step, even where the run ends before its phase begins.
            total = max(1, min(own))
            plans.append(cls(math.ceil(total / whole.steps_per_epoch), whole.steps_per_epoch, total))
            left -= min(own)
        return plans
