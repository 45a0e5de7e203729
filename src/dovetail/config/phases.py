"""How long a training of several phases is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from dovetail.config.notation import KeyPath

if TYPE_CHECKING:
    from dovetail.config.schema import RunConfig
    from dovetail.config.tree import Node


def as_long_as_its_phases(config: RunConfig, tree: Node) -> RunConfig:
    """Return ``config`` with the length that its phases add up to, unless ``[training]`` says one itself."""
    written = tree.table.get("training", tree).table
    if not config.phases or {"max_epochs", "max_steps"} & written.keys():
        return config
    for name, other in (("max_epochs", "max_steps"), ("max_steps", "max_epochs")):
        lengths = [getattr(phase, name) for phase in config.phases]
        if None not in lengths:
            training = attrs.evolve(config.training, **{name: sum(lengths), other: None})
            return attrs.evolve(config, training=training)
    return config


def unending(config: RunConfig) -> Iterator[tuple[KeyPath, str]]:
    """Yield what keeps a phase from coming to its end, or the next one from its turn: (path, message)."""
    before = config.phases[:-1]
    for number, phase in enumerate(before):
        if phase.max_epochs is None and phase.max_steps is None:
            yield ("phases", number), "needs max_epochs or max_steps; only the last phase may go on to the end"
    limit, epochs = config.training.max_epochs, sum(phase.max_epochs or 0 for phase in before)
    if limit is not None and epochs >= limit:
        message = f"the phases before the last take {epochs} epochs, so with {limit} the last one never begins"
        yield ("training", "max_epochs"), message
