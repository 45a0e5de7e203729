"""From typed values back to the plain ones that a run file, JSON or a record can hold."""

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

#: Begins the ``type`` that a record gives to an object passed from Python: its class follows.
LIVE: Final = "python:"


def plain(value: Any, name: Callable[[Registered], str] = attrgetter("name")) -> Any:
    """Return ``value`` as plain tables, arrays and scalars; None stays None, a secret becomes ``{"env": …}``.

    Args:
        value: anything that a configuration holds. An object that came from Python becomes the name of its class.
        name: how a part says of which component it is.
    """
    match value:
        case Part():
            return _part(value, name)
        case set() | frozenset():
            return sorted((plain(one, name) for one in value), key=repr)
        case list() | tuple():
            return [plain(one, name) for one in value]
        case _ if attrs.has(type(value)) and not isinstance(value, Env):
            return _table(value, name)
        case Mapping():  # last, as in parts_of
            return {str(key): plain(one, name) for key, one in value.items()}
    return _scalar(value)


def _part(part: Part, name: Callable[[Registered], str]) -> dict[str, Any]:
    kind = described(part.live) if part.registered is None else name(part.registered)
    return {"type": kind, **plain(part.reserved, name), **plain(part.options, name)}


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
    return described(value)


def _table(value: Any, name: Callable[[Registered], str]) -> dict[str, Any]:
    entries = {}
    for one in attrs.fields(type(value)):
        inner = getattr(value, one.name)
        # In a section every setting is shown; a small table such as { steps = 100 } says only what is set.
        if one.init and not (inner is None and one.default is None and not _is_section(value)):
            entries[one.alias or one.name] = plain(inner, name)
    return entries


def _is_section(value: Any) -> bool:
    return type(value).__name__.endswith("Section")


def described(live: Any) -> str:
    """Return what a record says of an object that came from Python."""
    cls = live if isinstance(live, type) or hasattr(live, "__qualname__") else type(live)
    return f"{LIVE}{cls.__module__}.{cls.__qualname__}"


def is_plain(value: Any) -> bool:
    """Tell whether a value has a notation in TOML, taking ``"@none"`` for None."""
    match value:
        case Mapping():
            return all(isinstance(key, str) and is_plain(one) for key, one in value.items())
        case list() | tuple():
            return all(map(is_plain, value))
    return value is None or isinstance(value, bool | int | float | str | dt.date | dt.time)
