"""State as JSON: a value that JSON cannot express becomes an object with one key that starts with ``$``.

======================  ===================================================================================
``{"$tuple": […]}``     likewise ``$set``, ``$frozenset``, ``$size`` (``torch.Size``)
``{"$dict": [[k, v]]}``  a dict with a key that is not a string, or that starts with ``$``
``{"$ordered": …}``     an ``OrderedDict``, with the ``_metadata`` that torch adds to a model's state
``{"$counter": …}``     a ``Counter``; ``$deque`` has its items and its ``maxlen``
``{"$float": "nan"}``   also ``inf`` and ``-inf``; JSON holds every other float bit for bit
``{"$int": "0x…"}``     an integer beyond 64 bits; ``$complex``, ``$bytes`` (base64), ``$dtype``, ``$device``
``{"$tensor": {…}}``    the reference to a tensor: see :mod:`dovetail.checkpoint.references`
``{"$array": {…}}``     a NumPy array: the reference to its bytes, its dtype and shape; ``$scalar`` is a NumPy number
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

from dovetail.checkpoint.references import Reference, TensorCollector, tensor_problem
from dovetail.checkpoint.sharded import is_sharded
from dovetail.checkpoint.tensor_file import DTYPES

Path = tuple[Any, ...]

_MAX_DEPTH: Final = 100  # of nested containers: no state is deeper, and JSON parsers have their limits
_MAX_INT: Final = 1 << 63
_NUMPY_KINDS: Final = "biufcmMSU"  # numbers, times and text of fixed length, but no Python objects


def format_path(path: Path) -> str:
    """Return a path into the state as text, such as ``optimizer.state[0].exp_avg``."""
    text = ""
    for part in path:
        if isinstance(part, str):
            text += f".{part}" if text else part
        else:
            text += f"[{part!r}]"
    return text or "the state"


@frozen
class StateEncoder:
    """Turns state into JSON values; a collector takes the tensors and returns references to them."""

    collector: TensorCollector = field(factory=TensorCollector)
    #: The ids of the containers around the current value.
    _parents: list[int] = field(factory=list, init=False)

    def encode(self, value: Any, path: Path = ()) -> Any:
        """Return ``value`` as JSON values.

        Raises:
            TypeError: it holds something that a checkpoint cannot hold; the message names its path.
        """
        kind = type(value)
        if value is None or kind is bool or kind is str:
            return value
        if kind is int:
            return value if -_MAX_INT <= value < _MAX_INT else {"$int": hex(value)}
        if kind is float:
            return value if math.isfinite(value) else {"$float": repr(value)}
        if isinstance(value, torch.Tensor):
            return {"$tensor": self._tensor(value, path)}
        if kind is np.ndarray and value.dtype.kind in _NUMPY_KINDS:
            content = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
            reference = self.collector.add(torch.from_numpy(content.copy()), path)
            return {"$array": {"dtype": value.dtype.str, "shape": list(value.shape), "bytes": reference}}
        if isinstance(value, np.generic) and value.dtype.kind in _NUMPY_KINDS:
            return {"$scalar": {"dtype": value.dtype.str, "bytes": value.tobytes().hex()}}
        if kind in _LEAVES:
            tag, write = _LEAVES[kind]
            return {tag: write(value)}
        if kind in _CONTAINERS:
            return self._container(value, path)
        raise TypeError(
            f"{format_path(path)}: a checkpoint cannot hold {_describe(value)}; a state_dict may hold numbers, text, "
            "tensors, arrays, lists, tuples, sets and dicts"
        )

    def _tensor(self, value: torch.Tensor, path: Path) -> Reference:
        problem = tensor_problem(value)
        if problem:
            raise TypeError(f"{format_path(path)}: a checkpoint cannot hold {problem}")
        plain = value.detach() if is_sharded(value) else value.detach().resolve_conj().resolve_neg()
        return self.collector.add(plain, path)

    def _container(self, value: Any, path: Path) -> Any:
        if id(value) in self._parents:
            raise TypeError(f"{format_path(path)}: this refers to something that contains it")
        if len(self._parents) >= _MAX_DEPTH:
            raise TypeError(f"{format_path(path)}: nested more than {_MAX_DEPTH} deep")
        self._parents.append(id(value))
        try:
            return self._contents(value, path)
        finally:
            self._parents.pop()

    def _contents(self, value: Any, path: Path) -> Any:
        kind = type(value)
        if kind is dict and all(type(key) is str and not key.startswith("$") for key in value):
            return {key: self.encode(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, dict):
            pairs = [[self._key(key, path), self.encode(item, (*path, key))] for key, item in value.items()]
            metadata = getattr(value, "_metadata", None)  # torch's state_dict() stores module versions there
            if kind is OrderedDict and metadata is not None:
                return {"$ordered": {"items": pairs, "metadata": self.encode(metadata, (*path, "_metadata"))}}
            return {_CONTAINERS[kind]: pairs}
        ordered: Iterable[Any] = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
        items = [self.encode(item, (*path, index)) for index, item in enumerate(ordered)]
        if kind is list:
            return items
        return {"$deque": {"items": items, "maxlen": value.maxlen}} if kind is deque else {_CONTAINERS[kind]: items}

    def _key(self, key: Any, path: Path) -> Any:
        if isinstance(key, torch.Tensor | np.ndarray):
            raise TypeError(f"{format_path(path)}: a checkpoint cannot hold {_describe(key)} as the key of a dict")
        return self.encode(key, (*path, key))


#: Types without parts: their tag, and the function that returns the tag's value.
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


def _describe(value: Any) -> str:
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
    """Return the state that :class:`StateEncoder` turned into ``node``.

    Args:
        node: JSON values.
        tensor: returns the tensor for a reference.

    Raises:
        ValueError, TypeError, KeyError: :class:`StateEncoder` cannot have returned ``node``.
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
    return _decode_tagged(tag, node[tag], tensor)


def _decode_tagged(tag: str, content: Any, tensor: Callable[[Any], torch.Tensor]) -> Any:
    if tag in _READERS:
        return _READERS[tag](content)
    if tag == "$tensor":
        return tensor(content)
    if tag == "$array":
        flat = tensor(content["bytes"]).numpy().view(_numpy_dtype(content["dtype"]))
        return flat.reshape([int(size) for size in content["shape"]]).copy()
    if tag == "$deque":
        return deque(decode(content["items"], tensor), content["maxlen"])
    if tag == "$ordered" and isinstance(content, dict):
        ordered: Any = OrderedDict(_pairs(content["items"], tensor))
        ordered._metadata = decode(content["metadata"], tensor)  # noqa: SLF001 (torch reads it there)
        return ordered
    if tag in {"$dict", "$ordered", "$counter"}:
        return {"$dict": dict, "$ordered": OrderedDict, "$counter": Counter}[tag](_pairs(content, tensor))
    if tag in {"$tuple", "$set", "$frozenset"}:
        return {"$tuple": tuple, "$set": set, "$frozenset": frozenset}[tag](decode(item, tensor) for item in content)
    raise ValueError(f"unknown tag '{tag}'")


def _pairs(content: Any, tensor: Callable[[Any], torch.Tensor]) -> dict[Any, Any]:
    return {decode(key, tensor): decode(item, tensor) for key, item in content}


def _numpy_dtype(text: str) -> np.dtype[Any]:
    dtype = np.dtype(text)
    if dtype.kind not in _NUMPY_KINDS:
        raise ValueError(f"an array cannot have the dtype '{text}'")
    return dtype


_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "$float": lambda content: {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[content],
    "$int": lambda content: int(content, 16),
    "$complex": lambda content: complex(*map(float.fromhex, content)),
    "$bytes": lambda content: base64.b64decode(content, validate=True),
    "$size": lambda content: torch.Size(map(int, content)),
    "$dtype": lambda content: DTYPES[content],
    "$device": torch.device,
    "$scalar": lambda content: np.frombuffer(bytes.fromhex(content["bytes"]), _numpy_dtype(content["dtype"]))[0],
}
