"""Write the reference pages that are made from the code. Run ``python docs/generate.py`` after changing what they show.

A test holds the pages to the code: it fails when what this writes differs from what lies in ``docs/reference``.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import textwrap
import types
import typing
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import attrs

REFERENCE = Path(__file__).parent / "reference"
# Whether they are installed or not.
sys.path[:0] = [str(one) for one in sorted(Path(__file__).parent.parent.glob("plugins/*/src"))]
MADE = "<!-- Made by docs/generate.py from the code: edit that, not this. -->\n\n"


def type_in_words(annotation: Any) -> str:
    """Return how a run file's author would name a type."""
    from dovetail.config.fields import OfKind
    from dovetail.spec.kinds import KINDS

    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        kind = next((one.name for one in arguments[1:] if isinstance(one, OfKind)), None)
        return f"a {kind} table" if kind else type_in_words(arguments[0])
    if origin in {Union, types.UnionType}:
        return " or ".join(type_in_words(one) for one in arguments if one is not type(None))
    if origin is Literal:
        return ", ".join(f"`{_toml(one)}`" for one in arguments)
    if origin is tuple and arguments and arguments[-1] is not ...:
        return f"array of {len(arguments)}: {', '.join(type_in_words(one) for one in arguments)}"
    if origin in {list, tuple} or (origin and _is_sequence(origin)):
        return f"array of {type_in_words(arguments[0])}" if arguments else "array"
    if origin and _is_mapping(origin):
        return f"table of {type_in_words(arguments[1])}"
    if kind := KINDS.of(annotation):
        return f"a {kind} table"
    return {
        str: "string", int: "integer", float: "number", bool: "`true` or `false`", Path: "path", list: "array",
        tuple: "array", dict: "table", Any: "any value",
    }.get(annotation, f"table ({annotation.__name__})" if attrs.has(annotation) else str(annotation))  # fmt: skip


def _is_sequence(origin: type) -> bool:
    return issubclass(origin, typing.Iterable) and not _is_mapping(origin)


def _is_mapping(origin: type) -> bool:
    return issubclass(origin, typing.Mapping)


def _toml(value: Any) -> str:
    from dovetail.config.notation import basic_string

    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | Path):
        return basic_string(str(value))
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if attrs.has(type(value)):
        inner = ", ".join(f"{key} = {_toml(one)}" for key, one in attrs.asdict(value).items() if one is not None)
        return f"{{ {inner} }}"
    return str(value)


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def _limits(limits: tuple[Any, ...]) -> str:
    from dovetail.spec.limits import AtLeast, Between

    return "; ".join(
        f"{one.low:g} to {one.high:g}"
        if isinstance(one, Between)
        else f"{'≥' if isinstance(one, AtLeast) else '>'} {one.low:g}"
        for one in limits
    )


def config_page() -> str:
    """Return the page of every section and setting."""
    from dovetail.config.freeze import NON_NUMERIC_KEYS
    from dovetail.config.schema import sections

    text = MADE + "# The run file\n\n"
    text += (
        "Every section and setting, with type, default and meaning. `[data]`, `[model]` and `[loss]` must be there.\n"
    )
    text += (
        "What a part takes besides `type` is in the lists of parts ([Dovetail's](parts.md), "
        "[signals](parts-signals.md), [trackers](parts-trackers.md)), or in `dovetail plugins info NAME`.\n\n"
    )
    for section in sections():
        several = get_origin(section.type) is list
        cls = get_args(section.type)[0] if several else section.type
        text += f"## `[[{section.name}]]`\n\n" if several else f"## `[{section.name}]`\n\n"
        text += f"{section.metadata['help']}\n\n"
        if attrs.has(cls):
            defaults = cls()
            rows = [
                [
                    f"`{one.name}`",
                    type_in_words(one.type)
                    + (f" ({limit})" if (limit := _limits(one.metadata.get("limits", ()))) else ""),
                    "not set" if (value := getattr(defaults, one.name)) is None else f"`{_toml(value)}`",
                    one.metadata["help"],
                ]
                for one in attrs.fields(attrs.resolve_types(cls))
            ]
            text += _table(["key", "type", "default", "meaning"], rows) + "\n"
        else:
            text += f"{_part_words(section.type)}\n\n"
    text += "## What may change without changing the numbers\n\n"
    text += "These keys are left out of the numeric hash:\n\n" + ", ".join(
        f"`{key}`" for key in sorted(NON_NUMERIC_KEYS)
    )
    return text + "\n"


def _part_words(annotation: Any) -> str:
    from dovetail.config.fields import OfKind

    found = str(annotation)
    marks: list[OfKind] = []

    def walk(one: Any) -> None:
        marks.extend(mark for mark in getattr(one, "__metadata__", ()) if isinstance(mark, OfKind))
        for inner in get_args(one):
            walk(inner)

    walk(annotation)
    kind, default = marks[0].name, marks[0].default_type
    article = "An" if kind[0] in "aeiou" else "A"
    if "dict" in found:
        return f"A table of named {kind}s: `[{kind}s.NAME]` with a `type` and the part's own keys."
    said = f"{article} {kind}: a `type` and the part's own keys."
    return said + (f' Unless set, `type = "{default}"`.' if default else "")


def hooks_page() -> str:
    """Return the page of every hook."""
    from dovetail.spec.hooks import LifecycleHooks, RegistrationHooks

    text = MADE + "# Hooks\n\n" + inspect.cleandoc(sys.modules[RegistrationHooks.__module__].__doc__ or "") + "\n\n"
    for title, owner in (("Registration: what exists", RegistrationHooks), ("Lifecycle: what happens", LifecycleHooks)):
        text += f"## {title}\n\n{(owner.__doc__ or '').strip()}\n\n"
        for name, function in vars(owner).items():
            if name.startswith("dovetail_"):
                arguments = [one for one in inspect.signature(function).parameters if one != "self"]
                doc, _, example = (inspect.getdoc(function) or "").partition("Example::")
                text += f"### `{name}({', '.join(arguments)})`\n\n{doc.strip()}\n\n"
                text += f"```py\n{textwrap.dedent(example).strip()}\n```\n\n"
    return text.replace(":class:`~dovetail.kernel.component.Component`", "`Component`")


def kinds_page() -> str:
    """Return the page of every kind."""
    from dovetail.spec.kinds import KINDS

    text = MADE + "# Kinds of part\n\n"
    text += "What each kind must satisfy, what the run provides to its factory, and which keys it keeps for itself.\n"
    text += "A parameter annotated with the kind's protocol is itself a part of that kind.\n\n"
    for kind in KINDS.values():
        text += f"## {kind.name}\n\n{(kind.protocol.__doc__ or '').strip()}\n\n"
        text += f"- protocol: `{kind.protocol.__name__}`, hook: `{kind.hook}`\n- must be: {kind.must}\n"
        for signature, meaning in _methods(kind.protocol):
            text += f"- method: `{signature}`: {meaning}\n"
        for name, meaning in kind.provides.items():
            text += f"- provided: `{name}`: {meaning}\n"
        for name, reserved in kind.reserved.items():
            text += f"- kept key: `{name}`: {reserved.help}\n"
        text += "\n"
    return text


def _methods(protocol: type) -> Iterator[tuple[str, str]]:
    """Yield (signature, summary) of what a protocol asks for."""
    for name, function in vars(protocol).items():
        if inspect.isfunction(function) and function.__doc__:
            own = re.sub(r"\(self(, )?", "(", str(inspect.signature(function)))
            said = re.sub(r"(: |-> )'([^']+)'", r"\1\2", own)
            yield name + said, (inspect.getdoc(function) or "").partition("\n")[0]


def parts_page(title: str = "Parts that come with Dovetail", *modules: str) -> str:
    """Return the page of the parts that the modules of a distribution offer, and their options."""
    from dovetail.cli.describe import parameter_docs
    from dovetail.kernel.signature import MISSING, read_signature
    from dovetail.spec.kinds import KINDS
    from dovetail.spec.plugins import Plugins

    plugins = Plugins()
    for module in modules or ("dovetail.builtin",):
        plugins.register(importlib.import_module(module), distribution="dovetail", entry_point=module)
    text = MADE + f"# {title}\n\n"
    for kind in KINDS:
        offered = plugins.components(kind)
        if not offered:
            continue
        text += f"## {kind}\n\n"
        for one in offered:
            text += f"### {kind}: `{one.name}`\n\n{one.component.summary}\n\n"
            if kind in {"command", "profile"}:
                continue
            said = parameter_docs(one.component.load())
            rows = [
                [
                    f"`{parameter.name}`",
                    (type_in_words(parameter.annotation) if parameter.checked else "unchecked")
                    + (f" ({limit})" if (limit := _limits(parameter.limits)) else ""),
                    "provided by the run"
                    if parameter.provided
                    else "required"
                    if parameter.default is MISSING
                    else "not set"
                    if parameter.default is None
                    else f"`{_toml(parameter.default)}`",
                    said.get(parameter.name, ""),
                ]
                for parameter in read_signature(one).parameters.values()
                if parameter.settable
            ]
            if rows:
                text += _table(["key", "type", "default", "meaning"], rows) + "\n"
    return text


def commands_page() -> str:
    """Return the page of every console command, as its own help shows it."""
    import click

    from dovetail.cli.app import app

    def walk(command: click.Command, name: str, parent: click.Context | None) -> Iterator[tuple[str, str]]:
        context = click.Context(command, info_name=name, parent=parent, terminal_width=100)
        yield context.command_path, command.get_help(context)
        if isinstance(command, click.Group):
            for inner in command.list_commands(context):
                found = command.get_command(context, inner)
                if found:
                    yield from walk(found, inner, context)

    text = MADE + "# Commands\n\n"
    for path, help_text in walk(app, "dovetail", None):
        text += f"## `{path}`\n\n```text\n{help_text}\n```\n\n"
    return text


def testkit_page() -> str:
    """Return the page of the conformance kit's checks."""
    from dovetail.spec.kinds import KINDS
    from dovetail.testkit import registry

    text = MADE + "# The conformance kit\n\n"
    text += (
        "`pip install 'dovetail[testkit]'`, then a test module of five lines "
        "([how to](../howto/own-part.md)) or `dovetail plugins check NAME`.\n"
        "A trait is what a component claims in its descriptor; a check that needs a trait is tried only where it is "
        "claimed.\n\n"
    )
    shown: set[str] = set()
    for kind in KINDS:
        registry.checks_for(kind, ())
    for checks in registry._REGISTERED.values():  # noqa: SLF001 (the page lists every check, also those behind traits)
        group = checks[0].name.partition(".")[0]
        if group not in shown:
            text += f"## {'Every kind: ' if group in {'plugin', 'config'} else ''}{group}\n\n"
            shown.add(group)
        for one in checks:
            where = (
                f" (trait `{one.needs}`)" if one.needs else f" (not with trait `{one.unless}`)" if one.unless else ""
            )
            text += f"- `{one.name}`{where}: {one.summary}\n"
        text += "\n"
    return text


def parity_page() -> str:
    """Return the page that maps the names of the source documents to ours."""
    import tomli

    text = MADE + "# Where documented names went\n\n"
    text += "What the documents behind Dovetail call a setting or method, and where it is here. A test holds it.\n\n"
    for path in sorted((Path(__file__).parent.parent / "tests" / "parity").glob("*.toml")):
        rows = []
        for table in tomli.loads(path.read_text(encoding="utf-8")).values():
            for one in table:
                ours = one.get("ours") or one.get("later") or one.get("method", "")
                ours = ours.replace("`", "")
                rows.append(
                    [
                        one.get("id", ""),
                        f"`{one['name']}`",
                        f"`{ours}`" if "ours" in one else ours,
                        one.get("difference", ""),
                    ]
                )
        text += f"## {path.stem.capitalize()}\n\n" + _table(["id", "documented", "here", "difference"], rows) + "\n"
    return text


PAGES = {
    "config.md": config_page,
    "hooks.md": hooks_page,
    "kinds.md": kinds_page,
    "parts.md": parts_page,
    "parts-signals.md": partial(
        parts_page, "Parts of dovetail-signals", "dovetail_signals.plugin", "dovetail_signals.pinn.plugin"
    ),
    "parts-trackers.md": partial(parts_page, "Parts of dovetail-trackers", "dovetail_trackers.plugin"),
    "commands.md": commands_page,
    "testkit.md": testkit_page,
    "parity.md": parity_page,
}


def main() -> None:
    """Write every page."""
    REFERENCE.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page().rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
