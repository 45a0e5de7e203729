"""Generators of random numbers that parts keep: Dovetail seeds the global ones, and no others."""

from __future__ import annotations

import functools
import logging
import math
import pickle
import random
import types
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from dovetail.data.fetcher import transforms_batches
from dovetail.data.seeding import preserve_rngs

if TYPE_CHECKING:
    from dovetail.data.loader import Loader
    from dovetail.train.context import Run

#: The type of the alerts about state that no checkpoint holds.
UNSAVED: Final = "unsaved_state"
GENERATORS: Final = (torch.Generator, random.Random, np.random.Generator, np.random.RandomState)
#: Where the search ends: so many attributes deep, objects seen, and elements of a container.
_DEPTH: Final = 8
_OBJECTS: Final = 5_000
_ELEMENTS: Final = 64
#: Objects that keep none of a part's own, and may lead anywhere.
_PASSED_OVER: Final = (types.ModuleType, type, logging.Logger, torch.Tensor, np.ndarray, str, bytes, int, float)


def find_generators(
    part: Any, name: str = "", skip: Callable[[Any], bool] = lambda _: False
) -> Iterator[tuple[str, Any]]:
    """Yield the generators that a part keeps, with the path to each, such as ``env.unwrapped._np_random``.

    They may lie in attributes at any depth, in containers, in the closure and defaults of functions, or in a variable
    of their module.

    Args:
        part: the part.
        name: the path to it.
        skip: says which objects not to search.
    """
    seen: set[int] = set()
    waiting: list[tuple[str, Any, int]] = [(name, part, 0)]
    while waiting and len(seen) < _OBJECTS:
        path, value, depth = waiting.pop(0)
        if id(value) in seen or isinstance(value, _PASSED_OVER) or skip(value):
            continue
        seen.add(id(value))
        if isinstance(value, GENERATORS):
            yield path, value
        elif depth < _DEPTH:
            waiting += [(inner, item, depth + 1) for inner, item in _inside(path, value)]


def _inside(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((f"{path}[{key!r}]", item) for key, item in list(value.items())[:_ELEMENTS])
    elif isinstance(value, list | tuple):
        yield from ((f"{path}[{index}]", item) for index, item in enumerate(value[:_ELEMENTS]))
    elif isinstance(value, types.MethodType):
        yield path, value.__self__
        yield path, value.__func__
    elif isinstance(value, types.FunctionType):
        yield from _of_function(value)
    elif isinstance(value, functools.partial):
        yield from ((path, item) for item in (value.func, value.args, value.keywords))
    else:
        dot = f"{path}." if path else ""
        yield from ((f"{dot}{name}", item) for name, item in _attributes(value))
        for kind in type(value).__mro__[:-1]:
            for item in list(kind.__dict__.values()):
                if isinstance(item, types.FunctionType):
                    yield from _of_function(item)


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    yield from list(getattr(value, "__dict__", {}).items())
    for kind in type(value).__mro__[:-1]:
        slots = kind.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, slot):
                yield slot, getattr(value, slot)
        yield from ((name, item) for name, item in list(kind.__dict__.items()) if isinstance(item, GENERATORS))


def _of_function(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name in function.__code__.co_names:
        if isinstance(item := function.__globals__.get(name), GENERATORS):
            yield name, item
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    yield f"{function.__name__}()", [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]


def generator_state(generator: Any) -> Any:
    """Return the state of a generator, which :func:`restore_generator` accepts."""
    if isinstance(generator, random.Random):
        return generator.getstate()
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.get_state()


def restore_generator(generator: Any, state: Any) -> None:
    """Restore a state of a generator."""
    if isinstance(generator, random.Random):
        generator.setstate(state)
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    else:
        generator.set_state(state)


def check_generators(run: Run) -> None:
    """Alert of generators of the data from which reading a batch draws.

    No checkpoint holds them, and each loader worker has a copy. The batches are read in this process, and the
    generators are restored afterwards.
    """
    loaders, workers = run.parts.loaders, run.config.loader.num_workers
    searched = [("data", loader.dataset, loader) for loader in (loaders.train, loaders.validation) if loader]
    searched += [
        (f"transforms.{name}", transform, loaders.train)
        for name, transform in run.parts.transforms.items()
        if not transforms_batches(transform)
    ]
    searched.append(("collator", loaders.train.collator, loaders.train))
    for path, part, loader in searched:
        saved = path.startswith("transforms.") and callable(getattr(part, "state_dict", None))
        if saved and not workers:
            continue
        for name in _drawn_from(dict(find_generators(part)), loader):
            run.alert(
                UNSAVED,
                f"{path} draws from a generator of its own, '{name}', which Dovetail does not seed: loader workers "
                "draw the same numbers, and a resumed run draws other ones. Draw from torch.rand, numpy.random or "
                "random instead, which are seeded for each sample",
                about=f"{path}.{name}",
                cooldown=math.inf,
            )


def _drawn_from(generators: Mapping[str, Any], loader: Loader) -> list[str]:
    """Return the paths of the generators that reading a batch advances."""
    if not generators:
        return []
    try:
        before = {name: generator_state(generator) for name, generator in generators.items()}
        with preserve_rngs():
            loader.reread(1, loader.indices(1, 0), whole=False)
        changed = [
            name
            for name, generator in generators.items()
            if pickle.dumps(generator_state(generator)) != pickle.dumps(before[name])
        ]
        for name in changed:
            restore_generator(generators[name], before[name])
    except Exception:  # noqa: BLE001 (a sample that cannot be read is reported where it is trained on)
        return []
    return changed
