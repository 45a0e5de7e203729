"""The head of a safetensors file: which tensors are where. Read without torch, and without trusting it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

from attrs import frozen

#: Bytes of an element, by the format's name of the dtype, in the order in which a file has them: larger ones first,
#: so that every tensor is aligned.
ITEM_SIZES: Final = {
    "U64": 8, "I64": 8, "F64": 8, "F32": 4, "U32": 4, "I32": 4, "BF16": 2, "F16": 2, "U16": 2, "I16": 2,
    "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
_ORDER: Final = {name: number for number, name in enumerate(ITEM_SIZES)}
_LENGTH: Final = 8  # bytes of the number that says how long the JSON is
_ALIGNMENT: Final = 8
#: Bytes of the longest head: the format's own limit.
LARGEST_HEAD: Final = 100_000_000
_MOST_DIMENSIONS: Final = 64  # what torch can have
_METADATA: Final = "__metadata__"


@frozen
class Entry:
    """A tensor of a file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    #: Where its bytes begin and end, from the file's start.
    start: int
    end: int


def lay_out(tensors: Iterable[tuple[str, str, Sequence[int]]]) -> tuple[bytes, list[Entry]]:
    """Return the head of a file of tensors given by name, dtype and shape, and the tensors in the file's order.

    It is the head that the safetensors library writes.
    """
    ordered = sorted(tensors, key=lambda one: (_ORDER[one[1]], one[0].encode()))
    placed, place = [], 0
    for name, dtype, shape in ordered:
        length = math.prod(shape) * ITEM_SIZES[dtype]
        placed.append(Entry(name, dtype, tuple(shape), place, place + length))
        place += length
    # What transformers looks for before it opens a file.
    said: dict[str, Any] = {_METADATA: {"format": "pt"}}
    for one in placed:
        said[one.name] = {"dtype": one.dtype, "shape": list(one.shape), "data_offsets": [one.start, one.end]}
    text = json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    head = len(text).to_bytes(_LENGTH, "little") + text
    return head, [Entry(one.name, one.dtype, one.shape, one.start + len(head), one.end + len(head)) for one in placed]


def parse(head: bytes, length: int) -> list[Entry]:
    """Return the tensors of a file of ``length`` bytes that begins with ``head``, in the file's order.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: it is malformed, or does not describe just these bytes.
    """
    if len(head) < _LENGTH or int.from_bytes(head[:_LENGTH], "little") != len(head) - _LENGTH:
        raise ValueError("the length of the header does not fit the file")
    said = json.loads(head[_LENGTH:])
    said.pop(_METADATA, None)
    entries = []
    for name, one in said.items():
        shape = tuple(one["shape"])
        start, end = (place + len(head) for place in one["data_offsets"])
        if not all(type(number) is int for number in (*shape, start, end)) or len(shape) > _MOST_DIMENSIONS:
            raise TypeError(f"the shape or place of '{name}' is none")
        if min(shape, default=0) < 0 or math.prod(shape) * ITEM_SIZES[one["dtype"]] != end - start:
            raise ValueError(f"the shape of '{name}' does not fit its bytes")
        entries.append(Entry(name, one["dtype"], shape, start, end))
    entries.sort(key=lambda one: (one.start, one.end))
    place = len(head)
    for entry in entries:
        if entry.start != place:
            raise ValueError(f"the bytes of '{entry.name}' do not follow those before them")
        place = entry.end
    if place != length:
        raise ValueError("the tensors do not fill the file")
    return entries
