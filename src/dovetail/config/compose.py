"""extends, profiles and overrides: from files and arguments to one tree, in which every value knows its origin."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from dovetail.config.diagnostics import DEFAULT, ConfigError, Origin, Problem, suggest
from dovetail.config.layers import Files, profile_problems
from dovetail.config.merge import merge, settle
from dovetail.config.notation import visible
from dovetail.config.overrides import layer, read_overrides
from dovetail.config.tree import Node

__all__ = ["Node", "compose"]

_MOST_NAMED: Final = 20  # profiles in a message


def compose(
    path: str | os.PathLike[str] | None,
    *,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    installed_profiles: Mapping[str, Callable[[], Mapping[str, Any]]] | None = None,
    base: Mapping[str, Any] | None = None,
) -> Node:
    """Return the configuration that a file, a profile and overrides make together.

    Args:
        path: the run file, or None for a configuration without one.
        profile: the name of a ``[profile.NAME]`` in the file or in one that it extends, else of an installed one.
        overrides: arguments such as ``training.max_epochs=3``.
        installed_profiles: by name, or by ``distribution:name``, which origins then tell; called when chosen.
        base: the weakest layer, which everything else is laid over.

    Raises:
        ConfigError: with every problem that was found, those of the overrides among them.
    """
    problems: list[Problem] = []
    files = Files(problems)
    if path is not None:
        files.add(os.fspath(path))
    complete = not problems
    tree = Node.from_python(base or {}, DEFAULT)
    for file in files.read:
        tree = merge(tree, file.body, problems)
    if profile is not None and complete:
        own = [file.profiles for file in files.read]
        for chosen in _chosen(profile, own, installed_profiles or {}, problems):
            tree = merge(tree, chosen, problems)
    tree = merge(tree, layer(read_overrides(overrides, problems), tree, problems), problems)
    tree = settle(tree, problems)
    if problems:
        raise ConfigError(problems)
    return tree


def _chosen(
    name: str,
    own: Sequence[Mapping[str, Node]],
    installed: Mapping[str, Callable[[], Mapping[str, Any]]],
    problems: list[Problem],
) -> list[Node]:
    """Return the layers of a profile, weakest first; none if there is a problem."""
    if layers := [profiles[name] for profiles in own if name in profiles]:
        return layers
    matches = [known for known in installed if known == name or known.partition(":")[2] == name]
    if len(matches) == 1:
        return _installed(matches[0], installed[matches[0]], problems)
    if matches:
        message = f"several packages provide it; choose {_or(matches)}"
    else:
        in_files = sorted({known for profiles in own for known in profiles})
        message = f"unknown profile{suggest(name, [*in_files, *map(_short, installed)])}{_known(in_files, installed)}"
    problems.append(Problem(Origin(f"profile {name}"), "", message))
    return []


def _installed(known: str, load: Callable[[], Mapping[str, Any]], problems: list[Problem]) -> list[Node]:
    distribution = known.rpartition(":")[0]
    name = _short(known)
    origin = Origin(f"profile {name} ({distribution})" if distribution else f"profile {name}")
    try:
        value = load()
    except Exception as error:  # noqa: BLE001 - a plugin's code may raise anything, and must not end in a traceback
        message = f"cannot be loaded: {type(error).__name__}: {visible(str(error), limit=300)}"
        problems.append(Problem(origin, "", message))
        return []
    tree = Node.from_python(value, origin)
    if wrong := profile_problems(tree, name):
        problems += wrong
        return []
    return [tree]


def _short(known: str) -> str:
    return known.rpartition(":")[2]


def _or(names: Iterable[str]) -> str:
    return " or ".join(f"'{visible(name)}'" for name in sorted(names))


def _known(in_files: Sequence[str], installed: Iterable[str]) -> str:
    kinds = {"in the file": in_files, "installed": sorted(map(_short, installed))}
    named = [f"{kind}: {_list(names)}" for kind, names in kinds.items() if names]
    return f" ({'; '.join(named)})" if named else "; there is none"


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(visible(name) for name in names[:_MOST_NAMED])
    return f"{shown}, …" if len(names) > _MOST_NAMED else shown
