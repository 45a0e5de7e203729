"""Tables that know their place, what each of their keys takes, and one kept to the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen
from cattrs import BaseConverter
from cattrs.errors import StructureHandlerNotFoundError

from dovetail.config.diagnostics import found, toml_type
from dovetail.config.errors import Gathering, MisfitError
from dovetail.config.hints import unknown_key
from dovetail.config.notation import KeyPath
from dovetail.config.settings import limit_problem
from dovetail.config.tree import Node
from dovetail.config.words import PLAIN, describe
from dovetail.kernel.kind import Limit


class Table(dict[str, Any]):
    """A table of plain values that knows its place in the configuration."""

    def __init__(self, entries: Mapping[str, Any], path: KeyPath) -> None:
        """Keep the entries and the way to the table."""
        super().__init__(entries)
        self.path = path


@frozen(eq=False)
class Live:
    """An object passed from Python where a run file has a part, or a value that no run file could give."""

    value: Any
    path: KeyPath = ()


def seen(value: Any) -> str:
    """Return what a value is, for "expected …, got …"."""
    return found(value.value if isinstance(value, Live) else value)


@frozen
class Slot:
    """What one key of a table takes."""

    annotation: Any
    required: bool = False
    limits: tuple[Limit, ...] = ()
    #: Why no run file can set it, if none can.
    refusal: str = ""


def tables(node: Node, path: KeyPath = ()) -> Any:
    """Return the plain value of a tree, its tables as :class:`Table`."""
    match node.value:
        case dict():
            return Table({name: tables(inner, (*path, name)) for name, inner in node.value.items()}, path)
        case list():
            return [tables(inner, (*path, index)) for index, inner in enumerate(node.value)]
        case Live():
            return Live(node.value.value, path)
        case _:
            return node.value if toml_type(node.value) in PLAIN else Live(node.value, path)


def fit(converter: BaseConverter, value: Any, slot: Slot) -> Any:
    """Return ``value`` as what ``slot`` takes.

    Raises:
        MisfitError: it is something else, or beyond the limits.
        IterableValidationError: several things inside it are.
    """
    if slot.refusal:
        raise MisfitError(slot.refusal)
    try:
        fitted = converter.structure(value, slot.annotation)
    except StructureHandlerNotFoundError:
        raise MisfitError(f"takes {describe(slot.annotation)}, which a run file cannot give") from None
    if problem := limit_problem(slot.limits, fitted):
        raise MisfitError(problem)
    return fitted


def fit_table(
    converter: BaseConverter, table: Table, slots: Mapping[str, Slot], whose: str, gathering: Gathering
) -> dict[str, Any]:
    """Return the entries of ``table`` as what ``slots`` take; what is wrong goes to ``gathering``."""
    settable = [name for name, slot in slots.items() if not slot.refusal]
    for name in table:
        if name not in slots:
            gathering.wrong_key(name, unknown_key(table.path, name, settable, whose))
    fitted: dict[str, Any] = {}
    for name, slot in slots.items():
        if name in table:
            with gathering.at(name):
                fitted[name] = fit(converter, table[name], slot)
        elif slot.required:
            how = slot.refusal or describe(slot.annotation)
            gathering.wrong(f"{whose} needs '{name}' ({how})")
    return fitted
