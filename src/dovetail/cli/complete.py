"""Completion of what commands take: run files, overrides, profiles, names of parts and of runs. Never imports torch.

Completion must not disturb: whatever goes wrong in here, there are simply no suggestions.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_Completer = Callable[[click.Context, click.Parameter, str], "list[CompletionItem]"]


def _quietly(completer: _Completer) -> _Completer:
    @wraps(completer)
    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        with contextlib.suppress(Exception):
            return completer(ctx, parameter, incomplete)
        return []

    return complete


def _items(values: Iterable[tuple[str, str]], incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(value, help=about or None) for value, about in values if value.startswith(incomplete)]


@_quietly
def run_files(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete TOML files, and folders on the way to them."""
    folder, slash, begun = incomplete.rpartition("/")
    names = sorted(
        f"{path.name}/" if path.is_dir() else path.name
        for path in Path(f"{folder}{slash}" or ".").iterdir()
        if (path.suffix == ".toml" or path.is_dir()) and (begun or not path.name.startswith("."))
    )
    return _items(((f"{folder}{slash}{name}", "") for name in names), incomplete)


@_quietly
def profiles(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the profiles of the run file that is already there, and the installed ones."""
    from dovetail.spec.plugins import Plugins

    found: dict[str, str] = {}
    # Click has not parsed the arguments while an option still lacks its value: the shell's own words are there.
    file = next((word for word in os.environ.get("COMP_WORDS", "").split() if word.endswith(".toml")), None)
    with contextlib.suppress(Exception):
        from dovetail.config.document import load_document

        found = dict.fromkeys(load_document(file or "").data.get("profile", {}), "in the run file")
    found |= {one.name: one.component.summary for one in Plugins.discover().components("profile")}
    return _items(found.items(), incomplete)


@_quietly
def components(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a part or of a plugin's distribution."""
    from dovetail.spec.kinds import KINDS
    from dovetail.spec.plugins import Plugins

    plugins = Plugins.discover()
    named = {one.name: one.component.summary for kind in KINDS for one in plugins.components(kind)}
    return _items({**named, **{one.distribution: "a plugin" for one in plugins.plugins}}.items(), incomplete)


@_quietly
def kinds(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the kinds of part."""
    from dovetail.spec.kinds import KINDS

    return _items(((name, "") for name in KINDS), incomplete)


@_quietly
def statuses(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete how the runs that are there have ended."""
    from dovetail.record.runs import find_runs

    found = {run.status for run in find_runs(Path(ctx.params.get("output") or "runs"))}
    return _items(((status, "") for status in sorted(found)), incomplete)


@_quietly
def runs(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the ids and names of runs."""
    from dovetail.record.runs import find_runs

    found = find_runs(Path(ctx.params.get("output") or "runs"))
    values = {run.id: f"{run.name}, {run.status}" for run in reversed(found)}
    return _items({"latest": "the newest run", **{run.name: "" for run in found}, **values}.items(), incomplete)


@_quietly
def overrides(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete ``section.key=value``: keys of the sections, names of parts, and values that can be listed."""
    before = list(ctx.params.get("overrides") or ())
    # Bash breaks words at "=", so the key and the sign may be arguments already: then only the value is completed.
    if before and before[-1] == "=":
        before.pop()
        incomplete, cut = f"{before[-1]}={incomplete}", True
    elif before and "=" not in before[-1] and incomplete == "":
        incomplete, cut = f"{before[-1]}=", True
    else:
        cut = False
    key, sign, begun = incomplete.partition("=")
    if not sign:
        return _items(((f"{path}=", about) for path, about in _keys()), incomplete)
    return _items(
        ((value if cut else f"{key}={value}", about) for value, about in _values(key)), begun if cut else incomplete
    )


def _keys() -> Iterable[tuple[str, str]]:
    """Yield every setting of the sections, and ``type`` of every part, with its help."""
    import attrs

    from dovetail.config.schema import sections

    for section in sections():
        if section.type and attrs.has(section.type):
            for one in attrs.fields(section.type):
                yield f"{section.name}.{one.name}", str(one.metadata.get("help", ""))
        elif _kind_of(section.type):
            yield f"{section.name}.type", str(section.metadata.get("help", ""))


def _values(key: str) -> Iterable[tuple[str, str]]:
    """Yield the values that a setting can take, as far as they can be listed."""
    import typing

    import attrs

    from dovetail.config.schema import sections
    from dovetail.spec.plugins import Plugins

    name, _, rest = key.partition(".")
    section = next(one for one in sections() if one.name == name)
    kind = _kind_of(section.type)
    if kind and (rest == "type" or rest.endswith(".type")):
        for one in Plugins.discover().components(kind):
            yield one.name, one.component.summary
    elif section.type and attrs.has(section.type):
        annotation = typing.get_type_hints(section.type)[rest]
        for option in typing.get_args(annotation) if typing.get_origin(annotation) is typing.Literal else ():
            yield str(option), ""
        if annotation is bool:
            yield "true", ""
            yield "false", ""


def _kind_of(annotation: Any) -> str | None:
    """Return the kind of part that a section holds, one or a table of them."""
    from typing import get_args

    from dovetail.config.fields import OfKind

    if isinstance(annotation, OfKind):
        return annotation.name
    inner = (*get_args(annotation), *getattr(annotation, "__metadata__", ()))
    return next((kind for one in inner if (kind := _kind_of(one))), None)
