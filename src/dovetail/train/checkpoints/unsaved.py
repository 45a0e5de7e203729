"""State that parts keep and no checkpoint holds: a resumed run would reset it and diverge."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from dovetail.data.fetcher import transforms_batches
from dovetail.train.checks.own_generators import GENERATORS, UNSAVED, find_generators

if TYPE_CHECKING:
    from dovetail.train.context import Run

#: Objects whose state changes during training.
_CHANGING: Final = (torch.optim.Optimizer, LRScheduler, *GENERATORS)


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
            module = path in self._run.parts.modules() and isinstance(value, GENERATORS)
            methods = "get_extra_state() and set_extra_state" if module else "state_dict() and load_state_dict"
            self._run.alert(
                UNSAVED,
                f"{path} keeps {type(value).__name__} '{name}', which no checkpoint holds: a resumed run would reset "
                f"it and diverge. Give {owner} {methods}(state)",
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
        if path.startswith("trackers.") or _of_samples(path, part):
            continue
        keeps_state = callable(getattr(part, "state_dict", None))
        owners = [("", part)] if not keeps_state else []
        if isinstance(part, nn.Module):  # whose state_dict holds no generator
            owners = [(name, layer) for name, layer in part.named_modules() if not _has_extra_state(layer)]
        for prefix, owner in owners:
            for name, generator in find_generators(owner, prefix, skip=_of_the_run_or_a_layer(owner)):
                yield (path, type(owner).__name__, name), generator
        if keeps_state:
            continue
        for name, value in getattr(part, "__dict__", {}).items():
            for inner, item in _items(name, value):
                kept = isinstance(item, (*_CHANGING, nn.Module, torch.Tensor)) and not isinstance(item, GENERATORS)
                if kept and id(item) not in saved:
                    yield (path, type(part).__name__, inner), item


def _of_samples(path: str, part: Any) -> bool:
    """Return whether a part works in loader workers, where saved state would not help; the first batch checks it."""
    return path.startswith("transforms.") and not transforms_batches(part)


def _has_extra_state(layer: nn.Module) -> bool:
    return type(layer).get_extra_state is not nn.Module.get_extra_state


def _of_the_run_or_a_layer(owner: Any) -> Callable[[Any], bool]:
    """Return whether an object inside ``owner`` is the framework's, such as a run that it holds, or another layer."""

    def skip(value: Any) -> bool:
        foreign = type(value).__module__.partition(".")[0] == "dovetail" or isinstance(value, DataLoader | nn.Module)
        return foreign and value is not owner

    return skip


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
