"""What a part takes and a plugin brings, in words."""

from __future__ import annotations

from typing import Any

from dovetail.cli.meanings import meanings
from dovetail.cli.text import columns
from dovetail.config.annotations import describe
from dovetail.config.notation import inline
from dovetail.kernel.plugins import Plugin, Registered
from dovetail.kernel.signature import MISSING, Parameter, read_signature
from dovetail.spec.kinds import KINDS
from dovetail.spec.limits import AtLeast, Between, MoreThan
from dovetail.spec.plugins import Plugins


def describe_part(registered: Registered) -> str:
    """Return what a part is, whose it is, and its keys in a run file; imports its target.

    Raises:
        PluginError: it cannot be imported.
    """
    component, kind = registered.component, KINDS[registered.kind]
    lines = [f"{registered.kind} '{registered.name}'", f"  {component.summary}" if component.summary else ""]
    lines.append(f"  from {registered.distribution} {registered.version}".rstrip() + f": {component.target}")
    if component.traits:
        lines.append(f"  claims: {', '.join(sorted(component.traits))}")
    if registered.kind not in {"command", "profile"}:
        parameters = read_signature(registered).parameters.values()
        said = meanings(component.load())
        rows = [_row(one, said.get(one.name, "")) for one in parameters]
        rows += [
            [name, _reserved_type(one.annotation), _value(one.default), one.help] for name, one in kind.reserved.items()
        ]
        if rows:
            lines += ["", *columns(rows, head=["KEY", "TYPE", "DEFAULT", ""], indent="  ")]
    if component.example:
        lines += ["", f"  example: {inline({'type': registered.name, **component.example})}"]
    return "\n".join(line for place, line in enumerate(lines) if line or place > 1)


def describe_plugin(plugin: Plugin, installed: Plugins) -> str:
    """Return what a plugin is and which parts it brings."""
    lines = [f"plugin {plugin.distribution} {plugin.version}".rstrip(), f"  {plugin.state}: {plugin.module}"]
    lines += [f"  {remark}" for remark in plugin.remarks]
    lines += [f"  {one}" for one in installed.broken if one.entry_point == plugin.entry_point]
    for kind in KINDS:
        own = [one.name for one in installed.components(kind) if one.distribution == plugin.distribution]
        if own:
            lines.append(f"  {kind:<10} {', '.join(own)}")
    return "\n".join(lines)


def part_as_json(registered: Registered) -> dict[str, Any]:
    """Return the same as :func:`describe_part`, for programs."""
    component = registered.component
    has_keys = registered.kind not in {"command", "profile"}
    parameters = read_signature(registered).parameters.values() if has_keys else []
    said = meanings(component.load()) if has_keys else {}
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
                "name": one.name,
                "meaning": said.get(one.name, ""),
                "type": type_in_words(one.annotation) if one.checked else None,
                "required": one.required,
                "default": None if one.default is MISSING else one.default,
                "provided": one.provided,
                "checked": one.checked,
                "limits": [_limit(limit) for limit in one.limits],
            }
            for one in parameters
            if one.settable
        ],
    }


def _row(one: Parameter, meaning: str) -> list[str]:
    remarks = [_limit(limit) for limit in one.limits]
    if one.provided:
        remarks.append("provided by the run")
    if not one.settable:
        remarks.append("cannot be set in a run file")
    elif not one.checked:
        remarks.append("unchecked")
    default = "" if one.provided and one.default is MISSING else "required" if one.required else _value(one.default)
    words = "; ".join(filter(None, [", ".join(remarks), meaning]))
    return [one.name, type_in_words(one.annotation) if one.checked else "any", default, words]


def _value(default: Any) -> str:
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
    return "table" if isinstance(annotation, str) else type_in_words(annotation)


def type_in_words(annotation: Any) -> str:
    """Return a type as a reader of run files thinks of it: ``integer``, ``'mean' or 'sum'``, ``loss``."""
    kind = KINDS.of(annotation)
    return kind or describe(annotation).removeprefix("an ").removeprefix("a ")
