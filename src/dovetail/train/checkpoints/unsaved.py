"""What parts keep that no checkpoint has: a resumed run would go on without it, and not to the same numbers."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

if TYPE_CHECKING:
    from dovetail.train.context import Run

#: The type of alerts about it.
UNSAVED: Final = "unsaved_state"
#: What always moves while a run trains.
_MOVES: Final = (
    torch.optim.Optimizer,
    LRScheduler,
    torch.Generator,
    random.Random,
    np.random.Generator,
    np.random.RandomState,
)


class Unsaved:
    """Looks for optimizers, schedules, generators, networks and tensors in parts that have no ``state_dict``.

    A network or a tensor counts where its numbers have moved since the first look: a teacher that stays as it is was
    read from a file, and will be read again.
    """

    def __init__(self, run: Run) -> None:
        """Look for the first time."""
        self._run = run
        self._seen = {place: _numbers(value) for place, value in _kept(run) if not isinstance(value, _MOVES)}

    def tell(self) -> None:
        """Alert of what is not saved, once of each."""
        for (path, owner, name), value in _kept(self._run):
            if not isinstance(value, _MOVES):
                before, now = self._seen.get((path, owner, name)), _numbers(value)
                # What was not there at the first look may be what this part looked up meanwhile.
                if before is None or before == now:
                    continue
            self._run.alert(
                UNSAVED,
                f"{path} keeps {type(value).__name__} '{name}', which no checkpoint has: a resumed run would begin it "
                f"anew and go on to other numbers. Give {owner} state_dict() and load_state_dict(state)",
                about=f"{path}.{name}",
                cooldown=math.inf,
            )


def _kept(run: Run) -> Iterator[tuple[tuple[str, str, str], Any]]:
    """Yield ((config path of a part, its class, the attribute), value) of what parts without a state of theirs keep."""
    parts = run.parts
    saved = {id(module) for one in parts.modules().values() for module in one.modules()}
    saved |= {id(one) for module in parts.modules().values() for one in (*module.parameters(), *module.buffers())}
    saved |= {id(part) for _, part in parts.named()}
    for path, part in parts.named():
        if callable(getattr(part, "state_dict", None)) or path.startswith("trackers."):
            continue
        for name, value in getattr(part, "__dict__", {}).items():
            for inner, one in _inside(name, value):
                if isinstance(one, (*_MOVES, nn.Module, torch.Tensor)) and id(one) not in saved:
                    yield (path, type(part).__name__, inner), one


def _inside(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((f"{name}[{key!r}]", one) for key, one in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"{name}[{number}]", one) for number, one in enumerate(value))
    else:
        yield name, value


def _numbers(value: nn.Module | torch.Tensor) -> list[float]:
    """Return what tells other numbers from these, for less memory than a copy."""
    tensors = [value] if isinstance(value, torch.Tensor) else [*value.parameters(), *value.buffers()]
    return [float(one.detach().double().sum()) for one in tensors if not one.is_complex()]
