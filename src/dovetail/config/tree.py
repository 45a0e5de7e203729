"""A configuration as a tree in which every key and every value knows where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from attrs import frozen

from dovetail.config.diagnostics import PYTHON, Origin
from dovetail.config.notation import KeyPath, dotted


@frozen(eq=False)
class Node:
    """A table, an array or a plain value, with its origin.

    Origins are functions, because a place in a file is looked up only when somebody asks for it.
    """

    #: A table, an array, or a leaf: a plain TOML value, None, an ``Env``, or whatever object Python passed.
    value: dict[str, Node] | list[Node] | Any
    #: Where the value is written; for ``[a.b]`` the header.
    origin: Callable[[], Origin]
    #: Where the key is written that names this value.
    key_origin: Callable[[], Origin]

    @property
    def table(self) -> dict[str, Node]:
        """The entries, if this is a table, else none."""
        return self.value if isinstance(self.value, dict) else {}

    def says(self, word: str) -> bool:
        """Tell whether this is the string ``word``; safe whatever object Python passed."""
        return isinstance(self.value, str) and self.value == word

    @classmethod
    def from_python(cls, value: object, origin: Origin = PYTHON) -> Node:
        """Return the tree of a plain nested value, all of it from one origin; tuples become arrays."""

        def where() -> Origin:
            return origin

        def grow(value: object) -> Node:
            match value:
                case Mapping():
                    return cls({str(name): grow(inner) for name, inner in value.items()}, where, where)
                case list() | tuple():
                    return cls([grow(inner) for inner in value], where, where)
                case _:
                    return cls(value, where, where)

        return grow(value)

    def to_python(self) -> Any:
        """Return the plain nested value, without origins."""
        match self.value:
            case dict():
                return {name: inner.to_python() for name, inner in self.value.items()}
            case list():
                return [inner.to_python() for inner in self.value]
            case _:
                return self.value


def flatten(node: Node) -> list[tuple[str, Any, Origin]]:
    """Return every value as (dotted path, plain value, origin), in the order of the tree.

    An array is one value, as only the whole of it can be replaced; so is an empty table.
    """
    return [(dotted(path), leaf.to_python(), leaf.origin()) for path, leaf in _leaves(node, ())]


def _leaves(node: Node, path: KeyPath) -> Iterator[tuple[KeyPath, Node]]:
    if isinstance(node.value, dict) and (node.value or not path):
        for name, inner in node.value.items():
            yield from _leaves(inner, (*path, name))
    else:
        yield path, node
