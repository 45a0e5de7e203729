"""Callbacks with methods such as ``on_epoch_end``, as in other libraries."""

from __future__ import annotations

import difflib
import inspect
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from dovetail.kernel.component import PluginError

if TYPE_CHECKING:
    from dovetail.train.context import Run

Method = Callable[..., object]

_logger: Final = logging.getLogger("dovetail.train")

_HOOKS: Final[Mapping[str, str]] = {
    "on_training_start": "dovetail_run_start",
    "on_train_begin": "dovetail_run_start",
    "on_epoch_start": "dovetail_epoch_start",
    "on_epoch_begin": "dovetail_epoch_start",
    "on_batch_start": "dovetail_batch_start",
    "on_batch_begin": "dovetail_batch_start",
    "on_batch_end": "dovetail_batch_end",
    "on_validation_end": "dovetail_validation_end",
    "on_epoch_end": "dovetail_epoch_end",
    "on_training_end": "dovetail_run_end",
    "on_train_end": "dovetail_run_end",
}


def plain_hooks(part: object) -> object:
    """Return an object with the lifecycle hooks that ``part`` implements under plain names.

    ================================= ==============================================================
    method                            is called
    ================================= ==============================================================
    ``on_training_start()``           before the first epoch
    ``on_epoch_start(epoch)``         before an epoch, counted from 1
    ``on_batch_start(batch_idx)``     before an update; the batch of the epoch, counted from 0
    ``on_batch_end(batch_idx, loss)`` after an update; reading the loss waits for the device
    ``on_validation_end(metrics)``    after each validation
    ``on_epoch_end(epoch, metrics)``  after an epoch and its validation
    ``on_training_end()``             at the end, however the run ended
    ================================= ==============================================================

    ``on_train_begin``, ``on_epoch_begin``, ``on_batch_begin`` and ``on_train_end`` are aliases. A method that takes
    fewer arguments is called with the first ones.

    Args:
        part: any object. If it has ``dovetail_…`` hooks or none of these methods, it is returned unchanged.

    Raises:
        PluginError: all its methods that start with ``on_`` are unknown, or it is a class, not an object.
    """
    if isinstance(part, type) and any(name.startswith(("dovetail_", "on_")) for name in dir(part)):
        raise PluginError(f"{part.__name__} is a class; pass an object: {part.__name__}()")
    if any(name.startswith("dovetail_") for name in dir(part)):
        return part
    adapted, found = _Adapted(), False
    for name, hook in _HOOKS.items():
        method = getattr(part, name, None)
        if callable(method):
            # Only the implemented hooks, so that the others cost nothing in a step.
            setattr(adapted, hook, _CALLERS[hook](_taking(method)))
            found = True
    _refuse_misspelt(part, found=found)
    return adapted if found else part


def _refuse_misspelt(part: object, *, found: bool) -> None:
    """Refuse an object whose methods would never be called, and warn about a misspelt one."""
    for name in dir(part):
        if not name.startswith("on_") or name in _HOOKS or not callable(getattr(part, name, None)):
            continue
        near = difflib.get_close_matches(name, _HOOKS, 1, cutoff=0.85)
        meant = f"did you mean '{near[0]}'?" if near else f"there is {', '.join(_HOOKS)}"
        message = f"{type(part).__name__} has the method '{name}', which is never called; {meant}"
        if not found:
            raise PluginError(message)
        if near:
            _logger.warning("%s", message)


class _Adapted:
    """Holds hooks as attributes."""


def _start(method: Method) -> Callable[..., None]:
    def hook() -> None:
        method()

    return hook


def _epoch_start(method: Method) -> Callable[..., None]:
    def hook(epoch: int) -> None:
        method(epoch)

    return hook


def _batch_start(method: Method) -> Callable[..., None]:
    def hook(run: Run) -> None:
        method(run.state.batch)

    return hook


def _batch_end(method: Method) -> Callable[..., None]:
    def hook(run: Run, loss: object) -> None:
        method(run.state.batch - 1, float(loss))  # type: ignore[arg-type]  # a 0-d tensor

    return hook


def _validation_end(method: Method) -> Callable[..., None]:
    def hook(metrics: Mapping[str, float]) -> None:
        method(dict(metrics))

    return hook


def _epoch_end(method: Method) -> Callable[..., None]:
    def hook(epoch: int, metrics: Mapping[str, float]) -> None:
        method(epoch, dict(metrics))

    return hook


_CALLERS: Final[Mapping[str, Callable[[Method], Callable[..., None]]]] = {
    "dovetail_run_start": _start,
    "dovetail_epoch_start": _epoch_start,
    "dovetail_batch_start": _batch_start,
    "dovetail_batch_end": _batch_end,
    "dovetail_validation_end": _validation_end,
    "dovetail_epoch_end": _epoch_end,
    "dovetail_run_end": _start,
}


def _taking(method: Callable[..., object]) -> Callable[..., object]:
    """Return ``method`` wrapped so that it is called with only as many positional arguments as it takes."""
    kinds = [parameter.kind for parameter in inspect.signature(method).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return method
    taken = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    positional = sum(kind in taken for kind in kinds)
    return lambda *arguments: method(*arguments[:positional])
