"""State that parts keep and no checkpoint holds: a resumed run would reset it and diverge."""

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

#: The type of the alerts.
UNSAVED: Final = "unsaved_state"
#: Objects whose state changes during training.
_CHANGING: Final = (
    torch.optim.Optimizer,
    LRScheduler,
    torch.Generator,
    random.Random,
    np.random.Generator,
    np.random.RandomState,
)


class UnsavedState:
    """Finds optimizers, schedulers, generators, modules and tensors in parts that have no ``state_dict``.

    A module or tensor counts if its values changed since the first look: a frozen teacher was read from a file, and a
    resumed run reads it again.
    """

    def __init__(self, run: Run) -> None:
        """Take the first look."""
        self._run = run
        self._sums = {place: _sums(value) for place, value in _found(run) if not isinstance(value, _CHANGING)}

    def alert(self) -> None:
        """Raise an alert for each object that is not saved, once."""
        for (path, owner, name), value in _found(self._run):
            if not isinstance(value, _CHANGING):
                before, now = self._sums.get((path, owner, name)), _sums(value)
                # An object that was absent at the first look may be a cache that the part filled meanwhile.
                if before is None or before == now:
                    continue
            self._run.alert(
                UNSAVED,
                f"{path} keeps {type(value).__name__} '{name}', which no checkpoint holds: a resumed run would reset "
                f"it and diverge. Give {owner} state_dict() and load_state_dict(state)",
                about=f"{path}.{name}",
                cooldown=math.inf,
            )


def _found(run: Run) -> Iterator[tuple[tuple[str, str, str], Any]]:
    """Yield ((config path of a part, its class, the attribute), value) of what parts without ``state_dict`` keep."""
    parts = run.parts
    saved = {id(layer) for module in parts.modules().values() for layer in module.modules()}
    saved |= {id(tensor) for module in parts.modules().values() for tensor in (*module.parameters(), *module.buffers())}
    saved |= {id(part) for _, part in parts.named()}
    for path, part in parts.named():
        if callable(getattr(part, "state_dict", None)) or path.startswith("trackers."):
            continue
        for name, value in getattr(part, "__dict__", {}).items():
            for inner, item in _items(name, value):
                if isinstance(item, (*_CHANGING, nn.Module, torch.Tensor)) and id(item) not in saved:
                    yield (path, type(part).__name__, inner), item


def _items(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((f"{name}[{key!r}]", item) for key, item in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"{name}[{index}]", item) for index, item in enumerate(value))
    else:
        yield name, value


def _sums(value: nn.Module | torch.Tensor) -> list[float]:
    """Return sums that tell other values from these, for less memory than a copy."""
    tensors = [value] if isinstance(value, torch.Tensor) else [*value.parameters(), *value.buffers()]
    return [float(tensor.detach().double().sum()) for tensor in tensors if not tensor.is_complex()]
