"""From a composed tree to a frozen RunConfig, or to everything that is wrong with it, each at its place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from dovetail.config.converter import make_converter
from dovetail.config.diagnostics import ConfigError, Origin, Problem
from dovetail.config.errors import FIT_ERRORS, Gathering, misfits
from dovetail.config.notation import KeyPath, dotted
from dovetail.config.parts import Parts
from dovetail.config.phases import as_long_as_its_phases, unending
from dovetail.config.schema import RunConfig, sections
from dovetail.config.table import Table, tables
from dovetail.config.tree import Node
from dovetail.config.words import part_kind
from dovetail.kernel.build import Part
from dovetail.spec.plugins import Plugins


def structure(tree: Node, plugins: Plugins) -> RunConfig:
    """Check a configuration and return it typed, with every default filled in.

    The targets of the components that it names are imported, and only those.

    Raises:
        ConfigError: carries every problem, sorted by position.
    """
    converter = make_converter(secrets=False)
    Parts(plugins).teach(converter)
    problems = list(_unmet(tree, plugins))
    try:
        config = converter.structure(_with_every_part(tables(tree)), RunConfig)
    except FIT_ERRORS as error:
        problems += [_problem(tree, path, misfit.message, key=misfit.key) for path, misfit in misfits(error)]
    if not problems:
        config = as_long_as_its_phases(config, tree)
        problems = [_problem(tree, path, message, key=False) for path, message in unending(config)]
    if problems:
        raise ConfigError(problems)
    return attrs.evolve(config, tree=tree)


def structure_part(tree: Node, section: str, plugins: Plugins) -> Part:
    """Check one part of a configuration, such as its ``model``, and nothing of the others, which may not be installed.

    Raises:
        ConfigError: carries every problem of that part.
    """
    wanted = next(kind for one in sections() if one.name == section and (kind := part_kind(one.type)))
    gathering = Gathering(RunConfig)
    with gathering.at(section):
        part = Parts(plugins).part(_with_every_part(tables(tree))[section], wanted)
    try:
        gathering.finish()
    except FIT_ERRORS as error:
        raise ConfigError([_problem(tree, path, one.message, key=one.key) for path, one in misfits(error)]) from None
    return part


def _with_every_part(raw: Any) -> Any:
    """Fill in empty tables for the parts that every run has: their ``type`` has a default, or is then found missing."""
    for section in sections():
        if part_kind(section.type):
            raw.setdefault(section.name, Table({}, (section.name,)))
    return raw


def _unmet(tree: Node, plugins: Plugins) -> Iterator[Problem]:
    """Say which demands of ``[plugins] require`` this installation does not meet."""
    demands = tree.table.get("plugins", tree).table.get("require")
    for index, one in enumerate(demands.value if demands and isinstance(demands.value, list) else ()):
        unmet = plugins.unmet(one.value) if isinstance(one.value, str) else None
        if unmet:
            yield Problem(one.origin(), dotted(("plugins", "require", index)), unmet)


def _problem(tree: Node, path: KeyPath, message: str, *, key: bool) -> Problem:
    return Problem(origin_of(tree, path, key=key), dotted(path), message)


def origin_of(tree: Node, path: KeyPath, *, key: bool = False) -> Origin:
    """Return where the value (or the key) at ``path`` comes from; of one not written, the innermost table that is."""
    node = tree
    for step in path:
        inner = (
            node.value[step] if isinstance(node.value, list) and isinstance(step, int) else node.table.get(str(step))
        )
        if inner is None:
            return node.origin()
        node = inner
    return node.key_origin() if key else node.origin()
