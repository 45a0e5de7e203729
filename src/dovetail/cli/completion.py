"""``dovetail completion``: the script that makes a shell complete our commands.

Click answers the shells' questions. The scripts are our own, for two things: no space after what ends in ``=`` or
``/``, since a value or a file follows (fish knows that by itself), and help texts with commas.
"""

from __future__ import annotations

from typing import Final

import click

from dovetail.cli.text import examples

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

    It completes commands, options, run files, settings and their values (model.type=…), profiles, parts and runs.
    """
    click.echo({"bash": _BASH, "zsh": _ZSH, "fish": _FISH}[shell], nl=False)
