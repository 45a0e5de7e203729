"""State as JSON: what JSON has no word for becomes an object with one key that starts with ``$``.

======================  ===================================================================================
``{"$tuple": […]}``     likewise ``$set``, ``$frozenset``, ``$size`` (``torch.Size``)
``{"$dict": [[k, v]]}``  a dict with a key that is no string, or that starts with ``$``
``{"$ordered": …}``     an ``OrderedDict``, with the ``_metadata`` that torch hangs on a model's state
``{"$counter": …}``     a ``Counter``; ``$deque`` has its items and its ``maxlen``
``{"$float": "nan"}``   ``inf``, ``-inf``; every other float is written so that it comes back bit for bit
``{"$int": "0x…"}``     an integer beyond 64 bits; ``$complex``, ``$bytes`` (base64), ``$dtype``, ``$device``
``{"$tensor": {…}}``    where a tensor is kept: see :mod:`dovetail.checkpoint.tensors`
``{"$array": {…}}``     where a NumPy array's bytes are kept, its dtype and shape; ``$scalar`` is a NumPy number
======================  ===================================================================================
"""

from __future__ import annotations

import base64
import math
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import numpy as np
import torch
from attrs import field, frozen

from dovetail.checkpoint.dtypes import DTYPES
from dovetail.checkpoint.shares import is_sharded
from dovetail.checkpoint.tensors import Keeper, Kept, tensor_problem

Path = tuple[Any, ...]

_DEEPEST: Final = 100  # nested containers: a tree of state is not deeper, and JSON parsers have their limits
_LARGEST: Final = 1 << 63
_NUMPY_KINDS: Final = "biufcmMSU"  # numbers, times and text of a fixed length: nothing that holds objects


def shown_path(path: Path) -> str:
    """Return a path into the state as it would be written: ``optimizer.state[0].exp_avg``."""
    text = ""
    for part in path:
        if isinstance(part, str):
            text += f".{part}" if text else part
        else:
            text += f"[{part!r}]"
    return text or "the state"


@frozen
class Encoder:
    """Turns state into JSON values; tensors go to ``keeper``, which says how to refer to them."""

    keeper: Keeper = field(factory=Keeper)
    _above: list[int] = field(factory=list, init=False)

    def encode(self, value: Any, path: Path = ()) -> Any:
        """Return ``value`` as JSON values.

        Raises:
            TypeError: it holds something that cannot be kept; the message names its path.
        """
        kind = type(value)
        if value is None or kind is bool or kind is str:
            return value
        if kind is int:
            return value if -_LARGEST <= value < _LARGEST else {"$int": hex(value)}
        if kind is float:
            return value if math.isfinite(value) else {"$float": repr(value)}
        if isinstance(value, torch.Tensor):
            return {"$tensor": self._tensor(value, path)}
        if kind is np.ndarray and value.dtype.kind in _NUMPY_KINDS:
            plain = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
            place = self.keeper.keep(torch.from_numpy(plain.copy()), path)
            return {"$array": {"dtype": value.dtype.str, "shape": list(value.shape), "bytes": place}}
        if isinstance(value, np.generic) and value.dtype.kind in _NUMPY_KINDS:
            return {"$scalar": {"dtype": value.dtype.str, "bytes": value.tobytes().hex()}}
        if kind in _LEAVES:
            tag, write = _LEAVES[kind]
            return {tag: write(value)}
        if kind in _CONTAINERS:
            return self._container(value, path)
        raise TypeError(
            f"{shown_path(path)}: a checkpoint cannot hold {_described(value)}; a state_dict is made of numbers, text, "
            "tensors, arrays, lists, tuples, sets and dicts"
        )

    def _tensor(self, value: torch.Tensor, path: Path) -> Kept:
        problem = tensor_problem(value)
        if problem:
            raise TypeError(f"{shown_path(path)}: a checkpoint cannot hold {problem}")
        plain = value.detach() if is_sharded(value) else value.detach().resolve_conj().resolve_neg()
        return self.keeper.keep(plain, path)

    def _container(self, value: Any, path: Path) -> Any:
        if id(value) in self._above:
            raise TypeError(f"{shown_path(path)}: this refers to something that contains it")
        if len(self._above) >= _DEEPEST:
            raise TypeError(f"{shown_path(path)}: nested more than {_DEEPEST} deep")
        self._above.append(id(value))
        try:
            return self._contents(value, path)
        finally:
            self._above.pop()

    def _contents(self, value: Any, path: Path) -> Any:
        kind = type(value)
        if kind is dict and all(type(key) is str and not key.startswith("$") for key in value):
            return {key: self.encode(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, dict):
            pairs = [[self._key(key, path), self.encode(item, (*path, key))] for key, item in value.items()]
            metadata = getattr(value, "_metadata", None)  # torch's state_dict() keeps its modules' versions there
            if kind is OrderedDict and metadata is not None:
                return {"$ordered": {"items": pairs, "metadata": self.encode(metadata, (*path, "_metadata"))}}
            return {_CONTAINERS[kind]: pairs}
        ordered: Iterable[Any] = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
        items = [self.encode(item, (*path, number)) for number, item in enumerate(ordered)]
        if kind is list:
            return items
        return {"$deque": {"items": items, "maxlen": value.maxlen}} if kind is deque else {_CONTAINERS[kind]: items}

    def _key(self, key: Any, path: Path) -> Any:
        if isinstance(key, torch.Tensor | np.ndarray):
            raise TypeError(f"{shown_path(path)}: a checkpoint cannot hold {_described(key)} as the key of a dict")
        return self.encode(key, (*path, key))


#: Types that are written in one go: the tag, and what it holds.
_LEAVES: Final[Mapping[type, tuple[str, Callable[[Any], Any]]]] = {
    complex: ("$complex", lambda value: [float(part).hex() for part in (value.real, value.imag)]),
    bytes: ("$bytes", lambda value: base64.b64encode(value).decode("ascii")),
    torch.dtype: ("$dtype", lambda value: str(value).removeprefix("torch.")),
    torch.device: ("$device", str),
    torch.Size: ("$size", list),
}
_CONTAINERS: Final[Mapping[type, str]] = {
    dict: "$dict",
    OrderedDict: "$ordered",
    Counter: "$counter",
    list: "",
    tuple: "$tuple",
    set: "$set",
    frozenset: "$frozenset",
    deque: "$deque",
}


def _described(value: Any) -> str:
    kind = type(value)
    if callable(value) and hasattr(value, "__qualname__"):
        return f"the function or class {value.__module__}.{value.__qualname__}"
    if isinstance(value, tuple | dict | str | int | float):
        return (
            f"a {kind.__module__}.{kind.__qualname__} (a subclass of {kind.__mro__[1].__name__}, which would be lost)"
        )
    if isinstance(value, np.ndarray | np.generic):
        return f"a {kind.__name__} of dtype {value.dtype}"
    return f"a {kind.__module__}.{kind.__qualname__} object"


def decode(node: Any, tensor: Callable[[Any], torch.Tensor]) -> Any:
    """Return the state that :class:`Encoder` made ``node`` of; ``tensor`` resolves references.

    Raises:
        ValueError, TypeError, KeyError: the node was not made by :class:`Encoder`.
    """
    if isinstance(node, list):
        return [decode(item, tensor) for item in node]
    if not isinstance(node, dict):
        return node
    tag = next(iter(node), "")
    if not tag.startswith("$"):
        return {key: decode(item, tensor) for key, item in node.items()}
    if len(node) != 1:
        raise ValueError(f"an object with '{tag}' has other keys too")
    return _untagged(tag, node[tag], tensor)


def _untagged(tag: str, held: Any, tensor: Callable[[Any], torch.Tensor]) -> Any:
    if tag in _READERS:
        return _READERS[tag](held)
    if tag == "$tensor":
        return tensor(held)
    if tag == "$array":
        flat = tensor(held["bytes"]).numpy().view(_numpy_dtype(held["dtype"]))
        return flat.reshape([int(size) for size in held["shape"]]).copy()
    if tag == "$deque":
        return deque(decode(held["items"], tensor), held["maxlen"])
    if tag == "$ordered" and isinstance(held, dict):
        ordered: Any = OrderedDict(_pairs(held["items"], tensor))
        ordered._metadata = decode(held["metadata"], tensor)  # noqa: SLF001 (where torch looks for it)
        return ordered
    if tag in {"$dict", "$ordered", "$counter"}:
        return {"$dict": dict, "$ordered": OrderedDict, "$counter": Counter}[tag](_pairs(held, tensor))
    if tag in {"$tuple", "$set", "$frozenset"}:
        return {"$tuple": tuple, "$set": set, "$frozenset": frozenset}[tag](decode(item, tensor) for item in held)
    raise ValueError(f"unknown tag '{tag}'")


def _pairs(held: Any, tensor: Callable[[Any], torch.Tensor]) -> dict[Any, Any]:
    return {decode(key, tensor): decode(item, tensor) for key, item in held}


def _numpy_dtype(text: str) -> np.dtype[Any]:
    dtype = np.dtype(text)
    if dtype.kind not in _NUMPY_KINDS:
        raise ValueError(f"an array of dtype '{text}'")
    return dtype


_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "$float": lambda held: {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[held],
    "$int": lambda held: int(held, 16),
    "$complex": lambda held: complex(*map(float.fromhex, held)),
    "$bytes": lambda held: base64.b64decode(held, validate=True),
    "$size": lambda held: torch.Size(map(int, held)),
    "$dtype": lambda held: DTYPES[held],
    "$device": torch.device,
    "$scalar": lambda held: np.frombuffer(bytes.fromhex(held["bytes"]), _numpy_dtype(held["dtype"]))[0],
}
