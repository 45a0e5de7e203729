"""The check: from a composed tree to a frozen RunConfig, or to every problem with it, each at its origin."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from dovetail.config.annotations import part_kind
from dovetail.config.diagnostics import Problem, Problems
from dovetail.config.parts import PartConverter
from dovetail.config.schema import RunConfig, sections
from dovetail.config.tree import Entry, Node, entry_at
from dovetail.kernel.build import Part
from dovetail.spec.plugins import Plugins


def check_config(tree: Node, plugins: Plugins) -> RunConfig:
    """Check a configuration and return it typed, with every default filled in.

    This imports the components that the configuration names, and no others.

    Raises:
        ConfigError: carries every problem, sorted by position.
    """
    problems = Problems(_unmet_requirements(tree, plugins))
    with problems.collect():
        config: RunConfig = PartConverter(plugins).convert(Entry(_with_every_part(tree)), RunConfig)
    problems.finish()
    config = _with_length_of_phases(config, tree)
    problems.extend(_phase_problems(config, tree))
    problems.finish()
    return attrs.evolve(config, tree=tree)


def check_part(tree: Node, section: str, plugins: Plugins) -> Part:
    """Check one part of a configuration, such as its ``model``; the others need not even be installed.

    Raises:
        ConfigError: carries every problem of that part.
    """
    wanted = next(kind for field in sections() if field.name == section and (kind := part_kind(field.type)))
    return PartConverter(plugins).part(Entry(tree)[section], wanted)


def _with_every_part(tree: Node) -> Node:
    """Add an empty table for every part that a run must have: its ``type`` has a default, or is reported as missing."""
    empty = Node({}, tree.origin, tree.origin)
    parts = {section.name: empty for section in sections() if part_kind(section.type)}
    return tree.with_value({**parts, **tree.table})


def _unmet_requirements(tree: Node, plugins: Plugins) -> Iterator[Problem]:
    """Yield what ``[plugins] require`` asks for and this installation does not have."""
    array = entry_at(tree, ("plugins", "require"))
    for index in range(len(array.value) if isinstance(array.value, list) else 0):
        entry = array[index]
        if isinstance(entry.value, str) and (unmet := plugins.unmet(entry.value)):
            yield entry.problem(unmet)


def _with_length_of_phases(config: RunConfig, tree: Node) -> RunConfig:
    """Return ``config`` with the sum of its phases' lengths as its length, unless ``[training]`` sets a length."""
    if not config.phases or {"max_epochs", "max_steps"} & entry_at(tree, ("training",)).node.table.keys():
        return config
    for name, other in (("max_epochs", "max_steps"), ("max_steps", "max_epochs")):
        lengths = [getattr(phase, name) for phase in config.phases]
        if None not in lengths:
            training = attrs.evolve(config.training, **{name: sum(lengths), other: None})
            return attrs.evolve(config, training=training)
    return config


def _phase_problems(config: RunConfig, tree: Node) -> Iterator[Problem]:
    """Yield what keeps a phase from ending, or the last one from starting."""
    before = config.phases[:-1]
    for number, phase in enumerate(before):
        if phase.max_epochs is None and phase.max_steps is None:
            message = "needs max_epochs or max_steps; only the last phase may run until training ends"
            yield entry_at(tree, ("phases", number)).problem(message)
    limit, epochs = config.training.max_epochs, sum(phase.max_epochs or 0 for phase in before)
    if limit is not None and epochs >= limit:
        message = f"the phases before the last take {epochs} epochs; with max_epochs = {limit} the last never starts"
        yield entry_at(tree, ("training", "max_epochs")).problem(message)
