"""Shell completion: the scripts that ``dovetail completion`` prints, and the values of options and arguments.

Click answers the shells' requests. The scripts are our own for two reasons: they add no space after ``=`` or ``/``,
where a value or a file follows (fish does this by itself), and they support help texts with commas.

Completing never imports torch. An error while completing is ignored: there are then no suggestions.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from dovetail.cli.output import examples

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_BASH: Final = r"""_dovetail_completion() {
    local IFS=$'\n' response completion type value
    response=$(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD="$COMP_CWORD" _DOVETAIL_COMPLETE=bash_complete "$1")
    COMPREPLY=()
    for completion in $response; do
        IFS=',' read -r type value <<< "$completion"
        COMPREPLY+=("$value")
    done
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=/] ]]; then
        compopt -o nospace
    fi
    return 0
}
complete -o nosort -F _dovetail_completion dovetail
"""

_ZSH: Final = r"""#compdef dovetail
_dovetail_completion() {
    local -a plain open described open_described response
    local type key about
    (( ! $+commands[dovetail] )) && return 1
    local -x COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) _DOVETAIL_COMPLETE=zsh_complete
    response=("${(@f)$(dovetail)}")
    for type key about in ${response}; do
        if [[ "$about" == "_" && "$key" == *[=/] ]]; then open+=("$key")
        elif [[ "$about" == "_" ]]; then plain+=("$key")
        elif [[ "$key" == *[=/] ]]; then open_described+=("$key:$about")
        else described+=("$key:$about")
        fi
    done
    [[ -n "$described" ]] && _describe -V unsorted described -U
    [[ -n "$open_described" ]] && _describe -V unsorted open_described -U -S ''
    [[ -n "$plain" ]] && compadd -U -V unsorted -a plain
    [[ -n "$open" ]] && compadd -U -V unsorted -S '' -a open
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _dovetail_completion "$@"
else
    compdef _dovetail_completion dovetail
fi
"""

_FISH: Final = r"""function _dovetail_completion
    set -lx _DOVETAIL_COMPLETE fish_complete
    set -lx COMP_WORDS (commandline -cp)
    set -lx COMP_CWORD (commandline -t)
    set -l response (dovetail)
    for completion in $response
        echo (string split --max 1 "," $completion)[2]
    end
end
complete --no-files --command dovetail --arguments "(_dovetail_completion)"
"""


@click.command(
    short_help="Print the completion script for a shell.",
    epilog=examples(
        "dovetail completion bash >> ~/.bashrc",
        "dovetail completion zsh >> ~/.zshrc",
        "dovetail completion fish > ~/.config/fish/completions/dovetail.fish",
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for SHELL.

    The script completes commands, options, run files, settings and their values (model.type=…), profiles, parts and
    runs.
    """
    click.echo({"bash": _BASH, "zsh": _ZSH, "fish": _FISH}[shell], nl=False)


# --- values -----------------------------------------------------------------------------------------------------------

_Completer = Callable[[click.Context, click.Parameter, str], "list[CompletionItem]"]


def _no_errors(completer: _Completer) -> _Completer:
    @wraps(completer)
    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        with contextlib.suppress(Exception):
            return completer(ctx, parameter, incomplete)
        return []

    return complete


def _items(values: Iterable[tuple[str, str]], incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(value, help=about or None) for value, about in values if value.startswith(incomplete)]


@_no_errors
def run_files(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete TOML files and folders."""
    folder, slash, start = incomplete.rpartition("/")
    names = sorted(
        f"{path.name}/" if path.is_dir() else path.name
        for path in Path(f"{folder}{slash}" or ".").iterdir()
        if (path.suffix == ".toml" or path.is_dir()) and (start or not path.name.startswith("."))
    )
    return _items(((f"{folder}{slash}{name}", "") for name in names), incomplete)


@_no_errors
def profiles(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the profiles of the run file on the command line, and the installed ones."""
    from dovetail.spec.plugins import Plugins

    found: dict[str, str] = {}
    # Click has not parsed the arguments while an option has no value yet, so look at the shell's words.
    file = next((word for word in os.environ.get("COMP_WORDS", "").split() if word.endswith(".toml")), None)
    with contextlib.suppress(Exception):
        from dovetail.config.document import load_document

        found = dict.fromkeys(load_document(file or "").data.get("profile", {}), "in the run file")
    found |= {part.name: part.component.summary for part in Plugins.discover().components("profile")}
    return _items(found.items(), incomplete)


@_no_errors
def components(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the names of parts and of plugins' distributions."""
    from dovetail.spec.kinds import KINDS
    from dovetail.spec.plugins import Plugins

    plugins = Plugins.discover()
    found = {part.name: part.component.summary for kind in KINDS for part in plugins.components(kind)}
    return _items({**found, **{plugin.distribution: "a plugin" for plugin in plugins.plugins}}.items(), incomplete)


@_no_errors
def kinds(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the kinds of parts."""
    from dovetail.spec.kinds import KINDS

    return _items(((name, "") for name in KINDS), incomplete)


@_no_errors
def statuses(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the statuses of the runs in the output folder."""
    from dovetail.record.runs import find_runs

    found = {run.status for run in find_runs(Path(ctx.params.get("output") or "runs"))}
    return _items(((status, "") for status in sorted(found)), incomplete)


@_no_errors
def runs(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the ids and names of runs."""
    from dovetail.record.runs import find_runs

    found = find_runs(Path(ctx.params.get("output") or "runs"))
    values = {run.id: f"{run.name}, {run.status}" for run in reversed(found)}
    return _items({"latest": "the newest run", **{run.name: "" for run in found}, **values}.items(), incomplete)


@_no_errors
def overrides(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete ``section.key=value``: the keys of sections, names of parts, and values that can be listed."""
    before = list(ctx.params.get("overrides") or ())
    # Bash splits words at "=", so the key and the sign may already be arguments: complete only the value then.
    if before and before[-1] == "=":
        before.pop()
        incomplete, cut = f"{before[-1]}={incomplete}", True
    elif before and "=" not in before[-1] and incomplete == "":
        incomplete, cut = f"{before[-1]}=", True
    else:
        cut = False
    key, sign, value_start = incomplete.partition("=")
    if not sign:
        return _items(((f"{path}=", about) for path, about in _keys()), incomplete)
    return _items(
        ((value if cut else f"{key}={value}", about) for value, about in _values(key)),
        value_start if cut else incomplete,
    )


def _keys() -> Iterable[tuple[str, str]]:
    """Yield every key of the sections, and the ``type`` of every part, with its help."""
    import attrs

    from dovetail.config.schema import sections

    for section in sections():
        if section.type and attrs.has(section.type):
            for field in attrs.fields(section.type):
                yield f"{section.name}.{field.name}", str(field.metadata.get("help", ""))
        elif _kind_of(section.type):
            yield f"{section.name}.type", str(section.metadata.get("help", ""))


def _values(key: str) -> Iterable[tuple[str, str]]:
    """Yield the possible values of a key, if they can be listed."""
    import typing

    import attrs

    from dovetail.config.schema import sections
    from dovetail.spec.plugins import Plugins

    name, _, rest = key.partition(".")
    section = next(section for section in sections() if section.name == name)
    kind = _kind_of(section.type)
    if kind and (rest == "type" or rest.endswith(".type")):
        for part in Plugins.discover().components(kind):
            yield part.name, part.component.summary
    elif section.type and attrs.has(section.type):
        annotation = typing.get_type_hints(section.type)[rest]
        for option in typing.get_args(annotation) if typing.get_origin(annotation) is typing.Literal else ():
            yield str(option), ""
        if annotation is bool:
            yield "true", ""
            yield "false", ""


def _kind_of(annotation: Any) -> str | None:
    """Return the kind of the part, or parts, in a section; None if it holds none."""
    from typing import get_args

    from dovetail.config.fields import OfKind

    if isinstance(annotation, OfKind):
        return annotation.name
    inner = (*get_args(annotation), *getattr(annotation, "__metadata__", ()))
    return next((kind for annotation in inner if (kind := _kind_of(annotation))), None)
