"""Composition: files, profiles and overrides become one tree, in which every value knows its origin."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from attrs import define, field, frozen

from dovetail.config.diagnostics import DEFAULT, ConfigError, Origin, Problem, Problems, found, suggest
from dovetail.config.document import load_document
from dovetail.config.notation import visible
from dovetail.config.tree import Entry, Node, merge, resolve

if TYPE_CHECKING:
    from dovetail.kernel.plugins import Registered
    from dovetail.spec.plugins import Plugins

#: Keys that control the composition; only a file may have them, at its top.
COMPOSITION: Final = ("extends", "profile")
#: How many files may extend one another in a row.
MAX_CHAIN: Final = 16
#: How many files one configuration may have.
MAX_FILES: Final = 64
#: How many characters these files may have together, not counting the last one.
MAX_SIZE: Final = 2_000_000
_MOST_NAMED: Final = 20  # profiles in a message
_EXAMPLE: Final = 'for example extends = ["base.toml"]'


def compose(
    path: str | os.PathLike[str] | None,
    *,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    installed_profiles: Mapping[str, Callable[[], Mapping[str, Any]]] | None = None,
    base: Mapping[str, Any] | None = None,
) -> Node:
    """Return the tree of a file, a profile and overrides, each laid over the one before.

    Args:
        path: the run file, or None for a configuration without one.
        profile: the name of a ``[profile.NAME]`` in the file or in one that it extends, else of an installed one.
        overrides: arguments such as ``training.max_epochs=3``.
        installed_profiles: functions that return a profile, by name or by ``distribution:name``; only the chosen one
            is called.
        base: the weakest layer, below the file.

    Raises:
        ConfigError: carries every problem, including those of the overrides.
    """
    problems = Problems()
    files = Files(problems)
    if path is not None:
        files.add(os.fspath(path))
    complete = not problems
    tree = Node.from_python(base or {}, DEFAULT)
    for file in files.read:
        tree = merge(tree, file.body, problems)
    if profile is not None and complete:
        own = [file.profiles for file in files.read]
        for chosen in _choose_profile(profile, own, installed_profiles or {}, problems):
            tree = merge(tree, chosen, problems)
    if overrides:
        from dovetail.config.overrides import override_layer, read_overrides

        tree = merge(tree, override_layer(read_overrides(overrides, problems), tree, problems), problems)
    tree = resolve(tree, problems)
    problems.finish()
    return tree


# --- files ------------------------------------------------------------------------------------------------------


@frozen
class File:
    """One file: its own settings, and its profiles."""

    body: Node
    profiles: dict[str, Node]


@define
class Files:
    """All files of a configuration, weakest first: each file once, after every file that it extends."""

    problems: Problems
    read: list[File] = field(factory=list)
    #: The real paths of all files so far, including those that could not be read.
    _seen: set[str] = field(factory=set)
    _size: int = 0
    #: Whether a problem already says that there are too many files.
    _is_reported: bool = False

    def add(self, name: str) -> None:
        """Read a file and, before it, the files it extends; what is wrong with them is added to ``problems``."""
        self._add(name, None, {})

    def _add(self, name: str, named_at: Origin | None, chain: dict[str, str]) -> None:
        real = _real_path(name)
        if named_at is not None and (refusal := self._refusal(real, name, chain)):
            self.problems.append(Problem(named_at, "extends", refusal))
        elif real not in self._seen and (named_at is None or self._has_room(named_at)):
            self._seen.add(real)
            try:
                document = load_document(name)
            except ConfigError as error:
                self.problems.extend(_at_extends(problem, named_at) for problem in error.problems)
            else:
                self._size += len(document.text)
                tree = document.tree()
                for entry, origin in self._extended(tree):
                    self._add(_relative_to(name, entry), origin, {**chain, real: name})
                self.read.append(self._file(tree))

    def _refusal(self, real: str, name: str, chain: dict[str, str]) -> str | None:
        if real in chain:
            names = [*chain.values()][[*chain].index(real) :]
            return f"files extend one another in a circle: {' → '.join(visible(file) for file in [*names, name])}"
        if len(chain) >= MAX_CHAIN:
            return f"more than {MAX_CHAIN} files extend one another in a row"
        return None

    def _has_room(self, named_at: Origin) -> bool:
        """Tell whether one more file may be read; the first that may not is a problem."""
        if len(self._seen) < MAX_FILES and self._size <= MAX_SIZE:
            return True
        if not self._is_reported:
            self._is_reported = True
            message = f"more than {MAX_FILES} files or {MAX_SIZE // 1_000_000} MB make up this configuration"
            self.problems.append(Problem(named_at, "extends", message))
        return False

    def _extended(self, tree: Node) -> list[tuple[str, Origin]]:
        if "extends" not in tree.table:
            return []
        array = Entry(tree)["extends"]
        if not isinstance(array.value, list):
            self.problems.append(array.problem(f"expected an array of file names, got {array.found}; {_EXAMPLE}"))
            return []
        names = []
        for index in range(len(array.value)):
            entry = array[index]
            if isinstance(entry.value, str):
                names.append((entry.value, entry.node.origin()))
            else:
                self.problems.append(entry.problem(f"expected a file name, got {entry.found}; {_EXAMPLE}"))
        return names

    def _file(self, tree: Node) -> File:
        body = {name: node for name, node in tree.table.items() if name not in COMPOSITION}
        table = Entry(tree)["profile"]
        profiles = table.node.table
        if not isinstance(table.value, dict):
            hint = "for example [profile.fast.training]"
            self.problems.append(table.problem(f"expected a table of profiles, got {table.found}; {hint}"))
        for name in profiles:
            self.problems.extend(_profile_problems(table[name]))
        tables = {name: profile for name, profile in profiles.items() if isinstance(profile.value, dict)}
        return File(tree.with_value(body), tables)


def _at_extends(problem: Problem, named_at: Origin | None) -> Problem:
    """Report a file that cannot be read at the ``extends`` that names it."""
    if named_at is None or problem.origin.line is not None:
        return problem
    return Problem(named_at, "extends", f"{problem.origin}: {problem.message}")


def _relative_to(name: str, entry: str) -> str:
    """Return the path of a file that the file ``name`` calls ``entry``; keep a ``..`` that follows a link."""
    joined = str(Path(name).parent / entry)
    tidy = os.path.normpath(joined)
    return tidy if _real_path(tidy) == _real_path(joined) else joined


def _real_path(name: str) -> str:
    try:
        return os.path.realpath(name)
    except ValueError:  # a NUL character; reading the file reports it
        return name


# --- profiles ---------------------------------------------------------------------------------------------------


def installed_profiles(plugins: Plugins) -> dict[str, Callable[[], Mapping[str, Any]]]:
    """Return a function for each installed profile, by its qualified name; calling it imports and makes the profile."""
    return {registered.qualified: partial(_make, registered) for registered in plugins.components("profile")}


def _make(registered: Registered) -> Mapping[str, Any]:
    layer: Mapping[str, Any] = registered.component.load()()
    return layer


def _choose_profile(
    name: str,
    own: Sequence[Mapping[str, Node]],
    installed: Mapping[str, Callable[[], Mapping[str, Any]]],
    problems: Problems,
) -> list[Node]:
    """Return the layers of a profile, weakest first; none if there is a problem."""
    if layers := [profiles[name] for profiles in own if name in profiles]:
        return layers
    matches = [known for known in installed if name in {known, known.partition(":")[2]}]
    if len(matches) == 1:
        return _load_profile(matches[0], installed[matches[0]], problems)
    if matches:
        listed = " or ".join(f"'{visible(match)}'" for match in sorted(matches))
        message = f"several packages provide it; choose {listed}"
    else:
        in_files = sorted({known for profiles in own for known in profiles})
        message = f"unknown profile{suggest(name, [*in_files, *map(_short, installed)])}{_known(in_files, installed)}"
    problems.append(Problem(Origin(f"profile {name}"), "", message))
    return []


def _load_profile(known: str, load: Callable[[], Mapping[str, Any]], problems: Problems) -> list[Node]:
    distribution, name = known.rpartition(":")[0], _short(known)
    origin = Origin(f"profile {name} ({distribution})" if distribution else f"profile {name}")
    try:
        tree = Node.from_python(load(), origin)
    except Exception as error:  # noqa: BLE001 - a plugin's code may raise anything, and must not end in a traceback
        message = f"cannot be loaded: {type(error).__name__}: {visible(str(error), limit=300)}"
        problems.append(Problem(origin, "", message))
        return []
    wrong = _profile_problems(Entry(tree, ("profile", name)))
    problems.extend(wrong)
    return [] if wrong else [tree]


def _profile_problems(profile: Entry) -> list[Problem]:
    """Return what is wrong with the shape of one profile."""
    if not isinstance(profile.value, dict):
        return [profile.problem(f"expected a table, got {found(profile.value)}")]
    message = "a profile cannot contain this; only a file can"
    return [profile[name].problem(message, key=True) for name in profile.value if name in COMPOSITION]


def _short(known: str) -> str:
    return known.rpartition(":")[2]


def _known(in_files: Sequence[str], installed: Iterable[str]) -> str:
    groups = {"in the file": in_files, "installed": sorted(map(_short, installed))}
    named = [f"{group}: {_listed(names)}" for group, names in groups.items() if names]
    return f" ({'; '.join(named)})" if named else "; there is none"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(visible(name) for name in names[:_MOST_NAMED])
    return f"{shown}, …" if len(names) > _MOST_NAMED else shown
