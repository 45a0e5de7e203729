"""From typed values back to the plain values that a run file, JSON or a record can hold."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Callable, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import attrs

from dovetail.kernel.build import Part
from dovetail.kernel.plugins import Registered
from dovetail.kernel.secret import Env

#: Begins the ``type`` of a Python object in a record; its class follows.
LIVE: Final = "python:"


def plain(value: Any, name: Callable[[Registered], str] = attrgetter("name")) -> Any:
    """Return ``value`` as plain tables, arrays and scalars; None stays None, a secret becomes ``{"env": …}``.

    Args:
        value: anything that a configuration holds. A Python object becomes the name of its class.
        name: returns the name of a part's component.
    """
    match value:
        case Part():
            kind = live_type(value.live) if value.registered is None else name(value.registered)
            return {"type": kind, **plain(value.reserved, name), **plain(value.options, name)}
        case set() | frozenset():
            return sorted((plain(element, name) for element in value), key=repr)
        case list() | tuple():
            return [plain(element, name) for element in value]
        case _ if attrs.has(type(value)) and not isinstance(value, Env):
            return _table(value, name)
        case Mapping():  # last, as in parts_of
            return {str(key): plain(element, name) for key, element in value.items()}
    return _scalar(value)


def _scalar(value: Any) -> Any:
    match value:
        case Env():
            return {"env": value.name}
        case enum.Enum():
            return plain(value.value)
        case Path():
            return str(value)
        case None | bool() | int() | float() | str() | dt.date() | dt.time():
            return value
    return live_type(value)


def _table(value: Any, name: Callable[[Registered], str]) -> dict[str, Any]:
    entries = {}
    # A section shows every setting; a small table such as { steps = 100 } shows only what is set.
    is_section = type(value).__name__.endswith("Section")
    for field in attrs.fields(type(value)):
        inner = getattr(value, field.name)
        if field.init and (is_section or not (inner is None and field.default is None)):
            entries[field.alias or field.name] = plain(inner, name)
    return entries


def live_type(live: Any) -> str:
    """Return the ``type`` that a record gives to a Python object."""
    cls = live if isinstance(live, type) or hasattr(live, "__qualname__") else type(live)
    return f"{LIVE}{cls.__module__}.{cls.__qualname__}"


def is_plain(value: Any) -> bool:
    """Tell whether TOML has a notation for a value at any depth, with ``"@none"`` for None."""
    match value:
        case Mapping():
            return all(isinstance(key, str) and is_plain(element) for key, element in value.items())
        case list() | tuple():
            return all(map(is_plain, value))
    return value is None or isinstance(value, bool | int | float | str | dt.date | dt.time)
