"""What was meant by a key that nobody knows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from functools import cache
from typing import Any, Final

import attrs

from dovetail.config.aliases import ALIASES, ELSEWHERE
from dovetail.config.diagnostics import nearest
from dovetail.config.notation import KeyPath, dotted, visible

_MOST_LISTED: Final = 24  # names in one message


def unknown_key(table: KeyPath, name: str, known: Collection[str], whose: str) -> str:
    """Return the message for the key ``name`` of the table at ``table``, which knows the keys ``known``.

    Suggested is, in this order: what the documents' name for it stands for, the place where a setting of exactly this
    name is, the nearest key of the table; else the keys that there are.
    """
    what = "unknown key" if table else "unknown section"
    if name in ELSEWHERE:
        return f"{what}; {ELSEWHERE[name]}"
    meant = _elsewhere(dotted(table), name, known) or nearest(name, known)
    if meant:
        return f"{what}; did you mean '{meant}'?"
    return f"{what}; {whose} {listing(known)}"


def listing(known: Collection[str]) -> str:
    """Return "takes a, b, c" or "takes nothing", cut at two dozen."""
    if not known:
        return "takes nothing"
    names = sorted(map(visible, known))
    return f"takes {', '.join(names[:_MOST_LISTED])}{', …' if len(names) > _MOST_LISTED else ''}"


def _elsewhere(table: str, name: str, known: Collection[str]) -> str | None:
    folded = name.casefold().replace("-", "_")
    home, _, key = ALIASES.get(folded, "").rpartition(".")
    if key in known:
        return key
    if key and home == table:
        return None
    if folded in known:  # only written differently
        return None
    places = _places().get(folded, ())
    if len(places) == 1 and places[0] != f"{table}.{name}".lstrip("."):
        return places[0]
    return f"{home}.{key}" if key else None


@cache
def _places() -> dict[str, list[str]]:
    """Return where each of our own settings is, by its name; a section is at its own name."""
    from dovetail.config.schema import sections

    places: dict[str, list[str]] = defaultdict(list)
    for section in sections():
        places[section.name].append(section.name)
        inner: Any = section.type
        if isinstance(inner, type) and attrs.has(inner):
            for one in attrs.fields(inner):
                places[one.name].append(f"{section.name}.{one.name}")
    return places
