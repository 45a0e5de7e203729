"""Making an attrs instance of checked values, naming the field that its own validators refuse."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, TypeVar

import attrs

from dovetail.config.errors import Gathering
from dovetail.kernel.build import Part
from dovetail.kernel.secret import Env
from dovetail.kernel.signature import MISSING

T = TypeVar("T")

# The class of `attrs.Factory(…)`, which attrs gives the type of what it makes.
_FACTORY: Final[Any] = attrs.Factory
_CONVERTER: Final[Any] = attrs.Converter  # whose type says nothing of what it keeps


def construct(cls: type[T], values: Mapping[str, Any], written: Collection[str], gathering: Gathering) -> T:
    """Return ``cls(**values)``; what its validators refuse goes to ``gathering``, and the instance is then incomplete.

    attrs stops at the first validator that refuses. Where something is refused, each field's converter and validators
    are therefore asked on their own, so that all of it is reported, each at its field. What is known only when the run
    is built (a part, a secret, a value that the run provides) is not asked about until then.

    Args:
        cls: an attrs class.
        values: values of the right types, by the names of its arguments.
        written: the names that the configuration gives, also where the value was of the wrong type.
        gathering: takes what is refused.
    """
    refusal: Exception | None = None
    if not gathering.errors:
        try:
            return cls(**values)
        except Exception as error:  # noqa: BLE001 (a plugin's class may raise anything; it is reported)
            refusal = error
    instance: T = object.__new__(cls)
    before, later = len(gathering.errors), False
    for one in attrs.fields(cls):  # type: ignore[arg-type, var-annotated, unused-ignore]  # an attrs class, as the callers know
        name = one.alias or one.name
        known = name in values or (name not in written and one.default is not attrs.NOTHING)
        later |= not known or is_pending(values.get(name))
        if known:
            try:
                _set(instance, one, values)
            except Exception as error:  # noqa: BLE001 (as above)
                # A rule that reads a field which is itself missing or wrong says nothing of its own.
                if not isinstance(error, AttributeError):
                    gathering.wrong_at(name, message_of(error))
    if refusal and not later and before == len(gathering.errors):
        gathering.wrong(message_of(refusal))
    return instance


def _set(instance: Any, one: attrs.Attribute[Any], values: Mapping[str, Any]) -> None:
    """Set one field as attrs' own ``__init__`` would, and check it unless that must wait."""
    value = values.get(one.alias or one.name, one.default)
    if isinstance(value, _FACTORY):
        value = value.factory(instance) if value.takes_self else value.factory()
    if is_pending(value):
        object.__setattr__(instance, one.name, value)
        return
    object.__setattr__(instance, one.name, value := _converted(value, one, instance))
    if one.validator is not None:
        one.validator(instance, one, value)


def _converted(value: Any, one: attrs.Attribute[Any], instance: Any) -> Any:
    convert: Any = one.converter
    if isinstance(convert, _CONVERTER):
        more = [*([instance] if convert.takes_self else []), *([one] if convert.takes_field else [])]
        return convert.converter(value, *more)
    return value if convert is None else convert(value)


def default_value(default: Any) -> Any:
    """Return the default that a factory makes, or ``MISSING`` where there is none or it depends on the instance."""
    if default is attrs.NOTHING:
        return MISSING
    if not isinstance(default, _FACTORY):
        return default
    return MISSING if default.takes_self else default.factory()


def is_pending(value: Any) -> bool:
    """Tell whether a value holds something that is known only when the run is built."""
    if isinstance(value, Part | Env):
        return True
    if isinstance(value, Mapping):
        return any(map(is_pending, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(is_pending, value))
    if attrs.has(type(value)):
        return any(is_pending(getattr(value, one.name)) for one in attrs.fields(type(value)))
    return False


def message_of(error: Exception) -> str:
    """Return the message of an exception in one line; attrs' own validators keep more than it in their arguments."""
    text = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
    return " ".join(text.split()) or type(error).__name__
