"""A configuration as a tree whose keys and values know where they come from, and how one tree is laid over another."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from attrs import frozen

from dovetail.config.diagnostics import PYTHON, ConfigError, Origin, Problem, found, is_toml, suggest
from dovetail.config.notation import NONE, UNSET, KeyPath, dotted
from dovetail.kernel.secret import Env

_SECTION: Final = 1  # the depth of a section: secrets are allowed below it
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@frozen(eq=False)
class Live:
    """A Python object in place of a part. The wrapper keeps a list or a mapping from being read as TOML."""

    value: Any


@frozen(eq=False)
class Node:
    """A table, an array or a plain value, with its origin.

    Origins are functions: a position in a file is computed only when a message needs it.
    """

    #: A table, an array, or a leaf: a plain TOML value, None, an ``Env``, a ``Live``, or any other Python object.
    value: dict[str, Node] | list[Node] | Any
    #: Where the value is written; for ``[a.b]`` the header.
    origin: Callable[[], Origin]
    #: Where the key of this value is written.
    key_origin: Callable[[], Origin]

    @property
    def table(self) -> dict[str, Node]:
        """The entries of a table; empty for any other value."""
        return self.value if isinstance(self.value, dict) else {}

    def equals(self, word: str) -> bool:
        """Tell whether the value is the string ``word``; safe for any Python object."""
        return isinstance(self.value, str) and self.value == word

    def with_value(self, value: Any) -> Node:
        """Return a node with another value and the same origins."""
        return Node(value, self.origin, self.key_origin)

    @classmethod
    def from_python(cls, value: object, origin: Origin = PYTHON) -> Node:
        """Return the tree of a plain nested value, with one origin for all of it; tuples become arrays."""

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

    def to_python(self, *, secrets_as_tables: bool = False) -> Any:
        """Return the plain nested value, without origins; a Python object is itself.

        Args:
            secrets_as_tables: return a secret as ``{"env": "NAME"}`` rather than as an ``Env``.
        """
        match self.value:
            case dict():
                return {name: node.to_python(secrets_as_tables=secrets_as_tables) for name, node in self.value.items()}
            case list():
                return [node.to_python(secrets_as_tables=secrets_as_tables) for node in self.value]
            case Live():
                return self.value.value
            case Env() if secrets_as_tables:
                return {"env": self.value.name}
            case _:
                return self.value


@frozen(eq=False)
class Entry:
    """A node and the path to it, which together make a message about it."""

    node: Node
    path: KeyPath = ()

    def __getitem__(self, key: str | int) -> Entry:
        """Return the entry at a key or an index; where the tree has none, an empty table with this entry's origin."""
        value = self.node.value
        inner = value[key] if isinstance(value, list) and isinstance(key, int) else self.node.table.get(str(key))
        return Entry(Node({}, self.node.origin, self.node.origin) if inner is None else inner, (*self.path, key))

    @property
    def value(self) -> Any:
        """The value of the node."""
        return self.node.value

    @property
    def is_live(self) -> bool:
        """Whether the value is a Python object that TOML has no notation for."""
        return isinstance(self.value, Live) or not is_toml(self.value)

    @property
    def found(self) -> str:
        """The value in words, for the end of "expected …, got …"."""
        return found(self.value.value if isinstance(self.value, Live) else self.value)

    def problem(self, message: str, *, key: bool = False) -> Problem:
        """Return a problem with the value, or with the key."""
        return Problem(self.node.key_origin() if key else self.node.origin(), dotted(self.path), message)

    def error(self, message: str) -> ConfigError:
        """Return the error that the value is wrong."""
        return ConfigError([self.problem(message)])


def entry_at(tree: Node, path: KeyPath) -> Entry:
    """Return the entry at a path; where the tree has none, its origin is that of the innermost table on the way."""
    entry = Entry(tree)
    for key in path:
        entry = entry[key]
    return entry


def origin_of(tree: Node, path: KeyPath) -> Origin:
    """Return the origin of the value at a path, as :func:`entry_at` finds it."""
    return entry_at(tree, path).node.origin()


def flatten(node: Node) -> list[tuple[str, Any, Origin]]:
    """Return every value as (dotted path, plain value, origin), in the order of the tree.

    An array is one value, because only the whole array can be replaced; so is an empty table.
    """
    return [(dotted(path), leaf.to_python(), leaf.origin()) for path, leaf in _leaves(node, ())]


def _leaves(node: Node, path: KeyPath) -> Iterator[tuple[KeyPath, Node]]:
    if isinstance(node.value, dict) and (node.value or not path):
        for name, inner in node.value.items():
            yield from _leaves(inner, (*path, name))
    else:
        yield path, node


# --- layers -----------------------------------------------------------------------------------------------------


def merge(lower: Node, upper: Node, problems: list[Problem], path: KeyPath = ()) -> Node:
    """Return the table ``lower`` with the table ``upper`` laid over it; any other ``lower`` is replaced.

    Tables merge, everything else replaces. A table that changes its ``type`` loses the keys it inherits, because they
    belong to the old type. ``@unset`` removes an inherited key; if there is none, that is added to ``problems``.
    """
    changes = _changes_type(lower, upper)
    inherited = {} if changes else lower.table
    values = dict(inherited)
    for name, node in upper.table.items():
        here = (*path, name)
        if node.equals(UNSET):
            values.pop(name, None)
            if name not in lower.table:
                message = f"nothing is set here that {UNSET} could remove{suggest(name, lower.table)}"
                problems.append(Problem(node.key_origin(), dotted(here), message))
        elif isinstance(node.value, dict):
            values[name] = merge(inherited.get(name) or node.with_value({}), node, problems, here)
        else:
            values[name] = node
    if changes or not isinstance(lower.value, dict):
        return upper.with_value(values)
    return Node(values, _strongest(lower.origin, upper.origin), _strongest(lower.key_origin, upper.key_origin))


def resolve(node: Node, problems: list[Problem], path: KeyPath = ()) -> Node:
    """Return a composed tree with None for ``@none`` and an ``Env`` for every table ``{ env = "NAME" }``."""
    value = node.value
    if isinstance(value, dict):
        if len(path) > _SECTION and (secret := _secret(value)):
            value = secret
        else:
            value = {name: resolve(inner, problems, (*path, name)) for name, inner in value.items()}
    elif isinstance(value, list):
        value = [resolve(inner, problems, (*path, index)) for index, inner in enumerate(value)]
    elif node.equals(NONE):
        value = None
    elif node.equals(UNSET):  # merge() has removed all others
        problems.append(Problem(node.origin(), dotted(path), f"{UNSET} removes a key, not an element of an array"))
    return node.with_value(value)


def _changes_type(lower: Node, upper: Node) -> bool:
    old, new = lower.table.get("type"), upper.table.get("type")
    if old is None or new is None or new.equals(UNSET):
        return False
    # A Python object, on either side, is a type of its own: the options belong to the part they were written for.
    return not (isinstance(old.value, str) and isinstance(new.value, str) and old.value == new.value)


def _strongest(lower: Callable[[], Origin], upper: Callable[[], Origin]) -> Callable[[], Origin]:
    """Choose the origin of a table that several layers write: the strongest layer that is a file, if there is one."""

    def origin() -> Origin:
        above, below = upper(), lower()
        return below if above.line is None and below.line is not None else above

    return origin


def _secret(table: dict[str, Node]) -> Env | None:
    name = table["env"].value if table.keys() == {"env"} else None
    return Env(name) if isinstance(name, str) and _VARIABLE.fullmatch(name) else None
