"""From plain TOML values to typed ones, strictly: only an integer for a float is converted, nothing else.

``"30"`` is no integer, ``3.9`` is no integer and ``"false"`` is no boolean. All problems are reported
together, each with its origin, its path, what was expected and what was found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, get_args, get_origin

import attrs
from attrs import frozen

from dovetail.config.aliases import unknown_key
from dovetail.config.annotations import (
    ARRAYS,
    MAPPINGS,
    accepts,
    choices,
    describe,
    field_types,
    is_choice,
    is_enum,
    is_scalar,
    is_union,
    part_kind,
)
from dovetail.config.diagnostics import ConfigError, Problems, suggest, toml_type
from dovetail.config.fields import OfKind, limit_problem
from dovetail.config.notation import visible
from dovetail.config.tree import Entry, Node
from dovetail.kernel.build import Part
from dovetail.kernel.kind import Limit
from dovetail.kernel.secret import Env
from dovetail.kernel.signature import MISSING

T = TypeVar("T")

_MAKERS: Final[Mapping[Any, Callable[[list[Any]], Any]]] = {tuple: tuple, set: set, frozenset: frozenset}
_MOST_LISTED: Final = 4  # keys of a table in one message
# The class of `attrs.Factory(…)`, which attrs annotates with the type that the factory makes.
_FACTORY: Final[Any] = attrs.Factory
_CONVERTER: Final[Any] = attrs.Converter  # which attrs does not annotate as callable


@frozen
class Slot:
    """What one key of a table takes."""

    annotation: Any
    required: bool = False
    limits: tuple[Limit, ...] = ()
    #: Why a run file cannot set it; empty if it can.
    refusal: str = ""


class Converter:
    """Converts entries of a tree to the types of settings and options.

    Every method raises a ``ConfigError`` with all problems that it finds.
    """

    def __init__(self, *, secrets: bool = False) -> None:
        """Set whether a string or a path may be a secret, ``{ env = "NAME" }``, which is read when the run is built."""
        self.secrets = secrets

    def part(self, entry: Entry, wanted: OfKind) -> Part:
        """Return the part that a table stands for."""
        raise NotImplementedError

    def fit(self, entry: Entry, slot: Slot) -> Any:
        """Return the value of ``entry`` as ``slot`` takes it, within its limits."""
        if slot.refusal:
            raise entry.error(slot.refusal)
        fitted = self.convert(entry, slot.annotation)
        if problem := limit_problem(slot.limits, fitted):
            raise entry.error(problem)
        return fitted

    def fit_table(self, entry: Entry, slots: Mapping[str, Slot], owner: str, problems: Problems) -> dict[str, Any]:
        """Return the values of a table as ``slots`` take them, without the wrong ones, which go to ``problems``.

        Args:
            entry: the table.
            slots: what each key takes.
            owner: whose keys they are, for messages: "loss 'focal'".
            problems: every problem is added here.
        """
        table = entry.node.table
        settable = [name for name, slot in slots.items() if not slot.refusal]
        for name in table:
            if name not in slots:
                problems.append(entry[name].problem(unknown_key(entry.path, name, settable, owner), key=True))
        fitted: dict[str, Any] = {}
        for name, slot in slots.items():
            if name in table:
                with problems.collect():
                    fitted[name] = self.fit(entry[name], slot)
            elif slot.required:
                problems.append(entry.problem(f"{owner} needs '{name}' ({slot.refusal or describe(slot.annotation)})"))
        return fitted

    def convert(self, entry: Entry, annotation: Any) -> Any:  # noqa: PLR0911 (one return per sort of type)
        """Return the value of ``entry`` as the type ``annotation``."""
        origin = get_origin(annotation) or annotation
        if wanted := part_kind(annotation):
            return self.part(entry, wanted)
        if origin is Annotated:
            inner, *marks = get_args(annotation)
            return self.fit(entry, Slot(inner, limits=tuple(mark for mark in marks if isinstance(mark, Limit))))
        if origin is Any or origin is object:
            return entry.node.to_python()
        if is_union(annotation):
            return self._union(entry, annotation)
        if is_choice(annotation):
            return _choice(entry, annotation)
        if origin in ARRAYS:
            return self._array(entry, annotation)
        if origin in MAPPINGS:
            return self.mapping(entry, annotation)
        if attrs.has(annotation):
            return self._instance(entry, annotation)
        if is_scalar(annotation):
            return self._scalar(entry, annotation)
        raise entry.error(f"takes {describe(annotation)}, which a run file cannot give")

    def _array(self, entry: Entry, annotation: Any) -> Any:
        origin, elements = get_origin(annotation) or annotation, get_args(annotation)
        exact = origin is tuple and bool(elements) and ... not in elements
        if not isinstance(entry.value, list) or (exact and len(entry.value) != len(elements)):
            raise entry.error(f"expected {describe(annotation)}, got {entry.found}")
        types = elements if exact else (elements[:1] or (Any,)) * len(entry.value)
        problems, made = Problems(), []
        for index, element in enumerate(types):
            with problems.collect():
                made.append(self.convert(entry[index], element))
        problems.finish()
        return _MAKERS.get(origin, list)(made)

    def mapping(self, entry: Entry, annotation: Any) -> dict[Any, Any]:
        """Return a table whose values are all of one type."""
        key_type, value_type = get_args(annotation) or (str, Any)
        if not isinstance(entry.value, dict):
            raise entry.error(f"expected {describe(annotation)}, got {entry.found}")
        problems, made = Problems(), {}
        for name in entry.value:
            with problems.collect():
                made[self._key(entry[name], name, key_type)] = self.convert(entry[name], value_type)
        problems.finish()
        return made

    def _key(self, entry: Entry, name: str, annotation: Any) -> Any:
        """Return a key as its type; TOML's keys are strings, so a whole number may be written as one."""
        if annotation is int and name.removeprefix("-").isdecimal():
            return int(name)
        where = entry.node.key_origin
        return self.convert(Entry(Node(name, where, where), entry.path), annotation)

    def _instance(self, entry: Entry, cls: Any) -> Any:
        types = field_types(cls)
        slots = {
            field.alias or field.name: Slot(types[field.name], field.default is attrs.NOTHING)
            for field in attrs.fields(cls)
            if field.name in types
        }
        if not isinstance(entry.value, dict):
            shown = f"a table with the keys {', '.join(slots)}" if len(slots) <= _MOST_LISTED else "a table"
            raise entry.error(f"expected {shown}, got {entry.found}")
        problems = Problems()
        values = self.fit_table(entry, slots, "this table" if entry.path else "a run file", problems)
        made = construct(cls, values, entry, problems)
        problems.finish()
        return made

    def _union(self, entry: Entry, annotation: Any) -> Any:
        members = [member for member in get_args(annotation) if accepts(member)]
        if entry.value is None and type(None) in members:
            return None
        members = [member for member in members if member is not type(None)]
        if len(members) == 1:
            return self.convert(entry, members[0])
        word = "string" if isinstance(entry.value, Env) else toml_type(entry.value)
        # An integer for `float | int` stays one: members that take the value unchanged are tried first.
        fitting = sorted((member for member in members if word in accepts(member)), key=lambda member: member is float)
        errors = []
        for member in fitting:
            try:
                return self.convert(entry, member)
            except ConfigError as error:
                errors.append(error)
        if errors and not all(map(is_choice, fitting)):
            raise errors[0]
        hint = suggest(entry.value, _strings(*fitting)) if isinstance(entry.value, str) else ""
        raise entry.error(f"expected {describe(annotation)}, got {entry.found}{hint}")

    def _scalar(self, entry: Entry, annotation: Any) -> Any:
        value = entry.value
        if self.secrets and isinstance(value, Env) and annotation in {str, Path}:
            return value
        if entry.is_live or toml_type(value) not in accepts(annotation):
            raise entry.error(f"expected {describe(annotation)}, got {entry.found}{_spelling(value, annotation)}")
        if annotation is float:
            try:
                return float(value)
            except OverflowError:
                raise entry.error("expected a number, got an integer beyond the range of a float") from None
        if annotation is Path:
            if "\0" in value:
                raise entry.error(f"expected a path, got {entry.found}, which contains a NUL character")
            return Path(value)
        return value


def _choice(entry: Entry, annotation: Any) -> Any:
    value, allowed = entry.value, choices(annotation)
    if any(type(choice) is type(value) and choice == value for choice in allowed):
        return annotation(value) if is_enum(annotation) else value
    shown = visible(repr(value)) if isinstance(value, str) else entry.found
    hint = suggest(value, _strings(annotation)) if isinstance(value, str) else ""
    raise entry.error(f"{shown} is not one of {', '.join(map(repr, allowed))}{hint}")


def _strings(*annotations: Any) -> list[str]:
    return [choice for annotation in annotations for choice in choices(annotation) if isinstance(choice, str)]


def _spelling(value: Any, annotation: Any) -> str:
    """Return how to write a value that is only quoted, or that is a whole number written as a float."""
    if isinstance(value, float) and annotation is int and value.is_integer() and math.isfinite(value):
        return f"; write {int(value)}"
    if not isinstance(value, str) or annotation not in {bool, int, float}:
        return ""
    text = value.strip().lower()
    try:
        fits = text in {"true", "false"} if annotation is bool else annotation(text) is not None
    except ValueError:
        return ""
    return f"; write {visible(text)} without quotes" if fits and text.isascii() else ""


# --- attrs classes ----------------------------------------------------------------------------------------------


def construct(cls: type[T], values: Mapping[str, Any], entry: Entry, problems: Problems) -> T:
    """Return ``cls(**values)``, or an incomplete instance if its validators raise, which ``problems`` then says.

    attrs stops at the first validator that raises. This then runs the converter and the validators of each field by
    itself, so that every problem is reported, each at its field. Fields that hold a part or a secret, which exist only
    when the run is built, are not validated until then.

    Args:
        cls: an attrs class.
        values: values of the right types, by the names of its arguments.
        entry: the table that they come from; it also has the keys whose values were of a wrong type.
        problems: takes what the validators say.
    """
    refusal: Exception | None = None
    if not problems:
        try:
            return cls(**values)
        except Exception as error:  # noqa: BLE001 (a plugin's class may raise anything; it is reported)
            refusal = error
    instance: T = object.__new__(cls)
    before, later = len(problems), False
    for field in attrs.fields(cls):  # type: ignore[arg-type, var-annotated, unused-ignore]  # an attrs class, as the callers know
        name = field.alias or field.name
        known = name in values or (name not in entry.node.table and field.default is not attrs.NOTHING)
        later |= not known or _is_pending(values.get(name))
        if known:
            try:
                _set(instance, field, values)
            except AttributeError:
                pass  # the rule reads another field, which is itself missing or wrong
            except Exception as error:  # noqa: BLE001 (as above)
                problems.append(entry[name].problem(message_of(error)))
    if refusal and not later and before == len(problems):
        problems.append(entry.problem(message_of(refusal)))
    return instance


def _set(instance: Any, field: attrs.Attribute[Any], values: Mapping[str, Any]) -> None:
    """Set one field as attrs' own ``__init__`` would, and validate it unless it is pending."""
    value = values.get(field.alias or field.name, field.default)
    if isinstance(value, _FACTORY):
        value = value.factory(instance) if value.takes_self else value.factory()
    pending = _is_pending(value)
    convert: Any = field.converter
    if convert is not None and not pending:
        value = convert(value, instance, field) if isinstance(convert, _CONVERTER) else convert(value)
    object.__setattr__(instance, field.name, value)
    if field.validator is not None and not pending:
        field.validator(instance, field, value)


def default_value(default: Any) -> Any:
    """Return the default that a factory makes, or ``MISSING`` if there is none or it depends on the instance."""
    if default is attrs.NOTHING:
        return MISSING
    if not isinstance(default, _FACTORY):
        return default
    return MISSING if default.takes_self else default.factory()


def _is_pending(value: Any) -> bool:
    """Tell whether a value holds a part or a secret, which exist only when the run is built."""
    if isinstance(value, Part | Env):
        return True
    if isinstance(value, Mapping):
        return any(map(_is_pending, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(_is_pending, value))
    fields = attrs.fields(type(value)) if attrs.has(type(value)) else ()
    return any(_is_pending(getattr(value, field.name)) for field in fields)


def message_of(error: Exception) -> str:
    """Return the message of an exception in one line; attrs' validators add more arguments after it."""
    text = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
    return " ".join(text.split()) or type(error).__name__
