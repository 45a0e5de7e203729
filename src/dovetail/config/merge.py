"""One layer of configuration over another: tables merge, everything else replaces."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from dovetail.config.diagnostics import Origin, Problem, suggest
from dovetail.config.notation import NONE, UNSET, KeyPath, dotted
from dovetail.config.tree import Node
from dovetail.kernel.secret import Env

_SECTION: Final = 1  # the depth of a section: a secret stands below it
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def merge(lower: Node, upper: Node, problems: list[Problem], path: KeyPath = ()) -> Node:
    """Return the table ``lower`` with the table ``upper`` over it; if ``lower`` is no table, it is replaced.

    A table that changes its ``type`` loses what it inherits, as that was meant for the old type. ``@unset`` removes an
    inherited key; where there is none, that is a problem, added to ``problems``.
    """
    changes = _changes_type(lower, upper)
    inherited = {} if changes else lower.table
    values = dict(inherited)
    for name, node in upper.table.items():
        here = (*path, name)
        if node.says(UNSET):
            values.pop(name, None)
            if name not in lower.table:
                message = f"nothing is set here that {UNSET} could remove{suggest(name, lower.table)}"
                problems.append(Problem(node.key_origin(), dotted(here), message))
        elif isinstance(node.value, dict):
            values[name] = merge(inherited.get(name) or _emptied(node), node, problems, here)
        else:
            values[name] = node
    if changes or not isinstance(lower.value, dict):
        return Node(values, upper.origin, upper.key_origin)
    return Node(values, _strongest(lower.origin, upper.origin), _strongest(lower.key_origin, upper.key_origin))


def settle(node: Node, problems: list[Problem], path: KeyPath = ()) -> Node:
    """Return a composed tree with None for ``@none`` and an ``Env`` for every table ``{ env = "NAME" }``."""
    value = node.value
    if isinstance(value, dict):
        if len(path) > _SECTION and (secret := _secret(value)):
            value = secret
        else:
            value = {name: settle(inner, problems, (*path, name)) for name, inner in value.items()}
    elif isinstance(value, list):
        value = [settle(inner, problems, (*path, index)) for index, inner in enumerate(value)]
    elif node.says(NONE):
        value = None
    elif node.says(UNSET):  # merging has taken every other one away
        problems.append(Problem(node.origin(), dotted(path), f"{UNSET} removes a key, not an element of an array"))
    return Node(value, node.origin, node.key_origin)


def _changes_type(lower: Node, upper: Node) -> bool:
    old, new = lower.table.get("type"), upper.table.get("type")
    if old is None or new is None or new.says(UNSET):
        return False
    # An object passed from Python, on either side, is a type of its own: options belong to what they were written for.
    return not (isinstance(old.value, str) and isinstance(new.value, str) and old.value == new.value)


def _emptied(node: Node) -> Node:
    return Node({}, node.origin, node.key_origin)


def _strongest(lower: Callable[[], Origin], upper: Callable[[], Origin]) -> Callable[[], Origin]:
    """Choose the place of a table that several layers write: the strongest in a file, where it can be looked at."""

    def origin() -> Origin:
        above, below = upper(), lower()
        return below if above.line is None and below.line is not None else above

    return origin


def _secret(table: dict[str, Node]) -> Env | None:
    name = table["env"].value if table.keys() == {"env"} else None
    return Env(name) if isinstance(name, str) and _VARIABLE.fullmatch(name) else None
