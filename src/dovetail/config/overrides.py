"""Command-line overrides, ``a.b=VALUE``: together they are one layer, in any order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any, Final

from attrs import frozen

from dovetail.config.compose import COMPOSITION
from dovetail.config.diagnostics import Origin, Problem, found
from dovetail.config.document import bare_newlines, parse
from dovetail.config.locate import LimitError, ScanError, Scanner, TomlError
from dovetail.config.notation import KeyPath, dotted, quoted, visible
from dovetail.config.tree import Node

_EXAMPLE: Final = "write KEY=VALUE, for example training.max_epochs=3"
#: How a value begins that must be TOML, and an example; any other value may be a string without quotes.
_VALUE_EXAMPLES: Final = {"[": '["a", "b"]', "{": '{ type = "cnn" }', '"': '"text"', "'": '"text"'}


@frozen
class Override:
    """One override."""

    origin: Origin
    path: tuple[str, ...]
    value: Any

    def tree(self) -> Node:
        """Return the override as a layer."""
        return Node.from_python(reduce(lambda value, name: {name: value}, reversed(self.path), self.value), self.origin)


def read_overrides(arguments: Sequence[str], problems: list[Problem]) -> list[Override]:
    """Read arguments such as ``optimizer.lr=1e-3``.

    The text after the ``=`` is a TOML value, or else a string without quotes. An argument that cannot be read is left
    out, and why is added to ``problems``.
    """
    overrides = []
    for number, argument in enumerate(arguments, start=1):
        origin = Origin.argument(number)
        try:
            overrides.append(_read(argument, origin))
        except _RefusedError as refused:
            problems.append(Problem(origin, refused.path, str(refused)))
    return overrides


def override_layer(overrides: Iterable[Override], below: Node, problems: list[Problem]) -> Node:
    """Return the overrides as one tree, to merge over the tree ``below``; contradictions are added to ``problems``."""
    tree = below.with_value({})
    for override in overrides:
        if (array := _array_on_path(override, below)) is None:
            tree = _combine(tree, override.tree(), problems)
        else:
            problems.append(Problem(override.origin, dotted(override.path), array))
    return tree


class _RefusedError(Exception):
    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


def _read(argument: str, origin: Origin) -> Override:
    if not _is_unicode(argument):
        raise _RefusedError(f"{quoted(argument)} is not UTF-8")
    key, equals, _ = argument.partition("=")
    if not equals:
        hint = "; a run has one file, which may name others in extends" if argument.endswith(".toml") else ""
        raise _RefusedError(f"{quoted(argument)} has no '='; {_EXAMPLE}{hint}")
    if not key.strip():
        raise _RefusedError(f"{quoted(argument)} has no key before the '='; {_EXAMPLE}")
    path, text = _split(argument)
    if path[0] in COMPOSITION:
        other = "; choose a profile with --profile NAME" if path[0] == "profile" else ""
        raise _RefusedError(f"only a file can say {path[0]}{other}", dotted(path))
    return Override(origin, path, _value(text, path))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _split(argument: str) -> tuple[tuple[str, ...], str]:
    start = len(argument) - len(argument.lstrip())
    try:
        parts, end = Scanner(argument).key(start)
    except LimitError as excess:
        raise _RefusedError(f"{excess.message}: {quoted(argument)}") from None
    except ScanError:
        end = len(argument)
    if not argument.startswith("=", end):
        key = argument.partition("=")[0]
        raise _RefusedError(f"{quoted(key)} is not a dotted key; {_EXAMPLE}, and put other characters in quotes")
    return tuple(name for name, _ in parts), argument[end + 1 :].strip()


def _value(text: str, path: KeyPath) -> Any:
    document = bare_newlines(f"x = {text}")
    try:
        value = parse(f"x = {text}")["x"]
        _, end = Scanner(document).scan().find(("x",)).value
        mistake = None if end == len(document) else TomlError(end, "expected one value and nothing after it")
    except TomlError as error:
        mistake = error
    if mistake is None:
        return value
    if isinstance(mistake, LimitError):
        raise _RefusedError(f"{mistake.message}: {quoted(text)}", dotted(path))
    if example := _VALUE_EXAMPLES.get(text[:1]):
        reason = f"{quoted(text)} is not a TOML value: {mistake.message}{mistake.hint}"
        raise _RefusedError(f"{reason}; for example {visible(dotted(path))}='{example}'", dotted(path))
    return text


def _array_on_path(override: Override, below: Node) -> str | None:
    """Return the message about an override that reaches into an array, or None if it does not."""
    node: Node | None = below
    for depth, name in enumerate(override.path):
        if node is None or not isinstance(node.value, (dict, list)):
            return None
        if isinstance(node.value, list):
            array = dotted(override.path[:depth])
            whole = f"give the whole array instead, for example {visible(array)}='[…]'"
            return f"{visible(array)} is an array ({node.origin()}), and one element cannot be overridden; {whole}"
        node = node.value.get(name)
    return None


def _combine(first: Node, second: Node, problems: list[Problem], path: KeyPath = ()) -> Node:
    if isinstance(first.value, dict) and isinstance(second.value, dict):
        values = dict(first.table)
        for name, node in second.table.items():
            before = values.get(name)
            values[name] = node if before is None else _combine(before, node, problems, (*path, name))
        return first.with_value(values)
    if _differ(first.to_python(), second.to_python()):
        message = f"set to {found(second.value)} here, but to {found(first.value)} by {first.origin()}"
        problems.append(Problem(second.origin(), dotted(path), message))
    return first


def _differ(first: Any, second: Any) -> bool:
    return type(first) is not type(second) or repr(first) != repr(second)  # by text, because nan != nan
