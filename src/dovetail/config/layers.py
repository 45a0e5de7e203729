"""The files of a configuration: the one that was named, and those that it extends, each with its profiles."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from attrs import define, field, frozen

from dovetail.config.diagnostics import ConfigError, Origin, Problem, found
from dovetail.config.document import load_document
from dovetail.config.notation import dotted, visible
from dovetail.config.tree import Node

#: Keys that say how a configuration is composed; only a file may hold them, at its top.
COMPOSITION: Final = ("extends", "profile")
#: How many files may extend one another in a row.
MAX_CHAIN: Final = 16
#: How many files may make up one configuration.
MAX_FILES: Final = 64
#: How many characters these files may have together, but for the last.
MAX_SIZE: Final = 2_000_000
_EXAMPLE: Final = 'for example extends = ["base.toml"]'


@frozen
class File:
    """One file: what it says itself, and its profiles."""

    body: Node
    profiles: dict[str, Node]


@define
class Files:
    """All files of a configuration, weakest first: a file stands behind all that it extends, and stands once."""

    problems: list[Problem]
    read: list[File] = field(factory=list)
    #: The files met so far, by their real path; also those that could not be read.
    _met: set[str] = field(factory=set)
    _size: int = 0
    #: Whether it has been said that there is too much; once is enough.
    _full: bool = False

    def add(self, name: str) -> None:
        """Read a file and, before it, the files it extends; what is wrong with them is added to ``problems``."""
        self._add(name, None, {})

    def _add(self, name: str, asked: Origin | None, chain: dict[str, str]) -> None:
        real = _real(name)
        if asked is not None and (refusal := self._refusal(real, name, chain)):
            self.problems.append(Problem(asked, "extends", refusal))
        elif real not in self._met and (asked is None or self._has_room(asked)):
            self._met.add(real)
            try:
                document = load_document(name)
            except ConfigError as error:
                self.problems.extend(_as_asked(problem, asked) for problem in error.problems)
            else:
                self._size += len(document.text)
                tree = document.tree()
                for entry, origin in self._extended(tree):
                    self._add(_beside(name, entry), origin, {**chain, real: name})
                self.read.append(self._file(tree))

    def _refusal(self, real: str, name: str, chain: dict[str, str]) -> str | None:
        if real in chain:
            names = [*chain.values()][[*chain].index(real) :]
            return f"files extend one another in a circle: {' → '.join(visible(way) for way in [*names, name])}"
        if len(chain) >= MAX_CHAIN:
            return f"more than {MAX_CHAIN} files extend one another in a row"
        return None

    def _has_room(self, asked: Origin) -> bool:
        """Tell whether one more file may be read; of those that may not, the first is a problem."""
        if len(self._met) < MAX_FILES and self._size <= MAX_SIZE:
            return True
        if not self._full:
            self._full = True
            message = f"more than {MAX_FILES} files or {MAX_SIZE // 1_000_000} MB make up this configuration"
            self.problems.append(Problem(asked, "extends", message))
        return False

    def _extended(self, tree: Node) -> list[tuple[str, Origin]]:
        node = tree.table.get("extends")
        if node is None:
            return []
        if not isinstance(node.value, list):
            self._expected("an array of file names", node, ("extends",), f"; {_EXAMPLE}")
            return []
        names = []
        for index, entry in enumerate(node.value):
            if isinstance(entry.value, str):
                names.append((entry.value, entry.origin()))
            else:
                self._expected("a file name", entry, ("extends", index), f"; {_EXAMPLE}")
        return names

    def _file(self, tree: Node) -> File:
        body = {name: node for name, node in tree.table.items() if name not in COMPOSITION}
        profiles = {}
        table = tree.table.get("profile")
        if table is not None and not isinstance(table.value, dict):
            self._expected("a table of profiles", table, ("profile",), "; for example [profile.fast.training]")
        elif table is not None:
            for name, profile in table.table.items():
                self.problems.extend(profile_problems(profile, name))
                if isinstance(profile.value, dict):
                    profiles[name] = profile
        return File(Node(body, tree.origin, tree.key_origin), profiles)

    def _expected(self, what: str, node: Node, path: tuple[str | int, ...], hint: str) -> None:
        message = f"expected {what}, got {found(node.value)}{hint}"
        self.problems.append(Problem(node.origin(), dotted(path), message))


def profile_problems(profile: Node, name: str) -> list[Problem]:
    """Return what is wrong with the shape of one profile."""
    path = dotted(("profile", name))
    if not isinstance(profile.value, dict):
        return [Problem(profile.origin(), path, f"expected a table, got {found(profile.value)}")]
    return [
        Problem(inner.key_origin(), dotted(("profile", name, key)), "a profile cannot hold this; only a file can")
        for key, inner in profile.table.items()
        if key in COMPOSITION
    ]


def _as_asked(problem: Problem, asked: Origin | None) -> Problem:
    """Report a file that cannot be read where it was asked for."""
    if asked is None or problem.origin.line is not None:
        return problem
    return Problem(asked, "extends", f"{problem.origin}: {problem.message}")


def _beside(name: str, entry: str) -> str:
    """Return the path of a file that the file ``name`` calls ``entry``, without detours where that is safe."""
    joined = str(Path(name).parent / entry)
    tidy = os.path.normpath(joined)
    return tidy if _real(tidy) == _real(joined) else joined


def _real(name: str) -> str:
    try:
        return os.path.realpath(name)
    except ValueError:  # it holds a NUL; reading it will say so
        return name
