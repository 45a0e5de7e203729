"""Describe parts, with their parameters, and plugins, as text and as JSON."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any, Final

from dovetail.cli.output import columns
from dovetail.config.annotations import describe
from dovetail.config.notation import inline
from dovetail.kernel.plugins import Plugin, Registered
from dovetail.kernel.signature import MISSING, Parameter, read_signature
from dovetail.spec import AtLeast, Between, MoreThan
from dovetail.spec.kinds import KINDS
from dovetail.spec.plugins import Plugins

_ENTRY: Final = re.compile(r" {4}\*{0,2}(\w+)(?: ?\([^:]*\))?: *(.*)")
_COMMENT: Final = re.compile(r" {4}#: ?(.*)")
_FIELD: Final = re.compile(r" {4}(\w+)\s*[:=]")
_ROLE: Final = re.compile(r":\w+:`~?(?:[\w.]*\.)?(\w+)`")


def describe_part(registered: Registered) -> str:
    """Return a part's summary, origin and keys, as text. Imports the part.

    Raises:
        PluginError: the part cannot be imported.
    """
    component, kind = registered.component, KINDS[registered.kind]
    lines = [f"{registered.kind} '{registered.name}'", f"  {component.summary}" if component.summary else ""]
    lines.append(f"  from {registered.distribution} {registered.version}".rstrip() + f": {component.target}")
    if component.traits:
        lines.append(f"  claims: {', '.join(sorted(component.traits))}")
    if registered.kind not in {"command", "profile"}:
        parameters = read_signature(registered).parameters.values()
        documented = parameter_docs(component.load())
        rows = [_row(parameter, documented.get(parameter.name, "")) for parameter in parameters]
        rows += [
            [name, _reserved_type(key.annotation), _format(key.default), key.help]
            for name, key in kind.reserved.items()
        ]
        if rows:
            lines += ["", *columns(rows, head=["KEY", "TYPE", "DEFAULT", ""], indent="  ")]
    if component.example:
        lines += ["", f"  example: {inline({'type': registered.name, **component.example})}"]
    return "\n".join(line for number, line in enumerate(lines) if line or number > 1)


def describe_plugin(plugin: Plugin, installed: Plugins) -> str:
    """Return a plugin's version, state and parts, as text."""
    lines = [f"plugin {plugin.distribution} {plugin.version}".rstrip(), f"  {plugin.state}: {plugin.module}"]
    lines += [f"  {remark}" for remark in plugin.remarks]
    lines += [f"  {broken}" for broken in installed.broken if broken.entry_point == plugin.entry_point]
    for kind in KINDS:
        own = [part.name for part in installed.components(kind) if part.distribution == plugin.distribution]
        if own:
            lines.append(f"  {kind:<10} {', '.join(own)}")
    return "\n".join(lines)


def part_as_json(registered: Registered) -> dict[str, Any]:
    """Return what :func:`describe_part` returns, for ``--json``. Imports the part."""
    component = registered.component
    has_keys = registered.kind not in {"command", "profile"}
    parameters = read_signature(registered).parameters.values() if has_keys else []
    documented = parameter_docs(component.load()) if has_keys else {}
    return {
        "kind": registered.kind,
        "name": registered.name,
        "distribution": registered.distribution,
        "version": registered.version,
        "target": component.target,
        "summary": component.summary,
        "traits": sorted(component.traits),
        "example": component.example,
        "keys": [
            {
                "name": parameter.name,
                "meaning": documented.get(parameter.name, ""),
                "type": format_type(parameter.annotation) if parameter.checked else None,
                "required": parameter.required,
                "default": None if parameter.default is MISSING else parameter.default,
                "provided": parameter.provided,
                "checked": parameter.checked,
                "limits": [_limit(limit) for limit in parameter.limits],
            }
            for parameter in parameters
            if parameter.settable
        ],
    }


def _row(parameter: Parameter, documentation: str) -> list[str]:
    remarks = [_limit(limit) for limit in parameter.limits]
    if parameter.provided:
        remarks.append("provided by the run")
    if not parameter.settable:
        remarks.append("cannot be set in a run file")
    elif not parameter.checked:
        remarks.append("unchecked")
    if parameter.provided and parameter.default is MISSING:
        default = ""
    else:
        default = "required" if parameter.required else _format(parameter.default)
    text = "; ".join(filter(None, [", ".join(remarks), documentation]))
    return [parameter.name, format_type(parameter.annotation) if parameter.checked else "any", default, text]


def _format(default: Any) -> str:
    if default is None:
        return "none"
    try:
        return inline(default)
    except TypeError:
        return "…"


def _limit(limit: Any) -> str:
    match limit:
        case Between(low=low, high=high):
            return f"{low:g} to {high:g}"
        case AtLeast(low=low):
            return f"at least {low:g}"
        case MoreThan(low=low):
            return f"more than {low:g}"
    return str(limit)


def _reserved_type(annotation: Any) -> str:
    return "table" if isinstance(annotation, str) else format_type(annotation)


def format_type(annotation: Any) -> str:
    """Return a type in the terms of run files: ``integer``, ``'mean' or 'sum'``, ``loss``."""
    kind = KINDS.of(annotation)
    return kind or describe(annotation).removeprefix("an ").removeprefix("a ")


# --- documentation of parameters --------------------------------------------------------------------------------------


def parameter_docs(target: Any) -> dict[str, str]:
    """Return the documentation of each parameter of a class or function, on one line, without markup.

    It is read from the ``Args:`` section of the docstring, whose entries are indented by four spaces and their
    continuation lines by more, and from ``#:`` comments above the fields of a class. Other styles are not recognised.
    """
    found = dict(_fields(target)) if inspect.isclass(target) else {}
    found |= _arguments(inspect.getdoc(target) or "")
    if not found and inspect.isclass(target):
        found = _arguments(inspect.getdoc(target.__init__) or "")
    return {name: _plain(text) for name, text in found.items() if text}


def _arguments(docstring: str) -> dict[str, str]:
    lines = iter(docstring.splitlines())
    found: dict[str, str] = {}
    if not any(line == "Args:" for line in lines):
        return found
    name = ""
    for line in lines:
        if line and not line.startswith("    "):
            break
        entry = _ENTRY.fullmatch(line)
        if entry:
            name = entry[1]
            found[name] = entry[2]
        elif name and line:
            found[name] += f" {line.strip()}"
    return found


def _fields(target: type) -> Iterator[tuple[str, str]]:
    try:
        source = textwrap.dedent(inspect.getsource(target))
    except (OSError, TypeError):  # created at run time, or not written in Python
        return
    comments: list[str] = []
    for line in source.splitlines():
        comment, field = _COMMENT.fullmatch(line), _FIELD.match(line)
        if comment:
            comments.append(comment[1])
            continue
        if field and comments:
            yield field[1], " ".join(comments)
        comments = []


def _plain(text: str) -> str:
    """Return a text without reStructuredText markup and without the full stop at its end."""
    return _ROLE.sub(r"\1", text).replace("``", "").strip().removesuffix(".")
