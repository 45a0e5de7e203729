"""Run files around one table: how the kit gets a component's options through the config, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from dovetail.config.check import check_config
from dovetail.config.compose import compose

if TYPE_CHECKING:
    from dovetail.config.schema import RunConfig
    from dovetail.kernel.build import Part
    from dovetail.spec.plugins import Plugins

#: Where a run file has a component of each kind. Profiles and commands have no table.
PLACES: Final[Mapping[str, tuple[str, ...]]] = {
    "callback": ("callbacks", "checked"),
    "collator": ("collator",),
    "dataset": ("data",),
    "loss": ("loss",),
    "metric": ("metrics", "checked"),
    "model": ("model",),
    "optimizer": ("optimizer",),
    "scheduler": ("scheduler",),
    "storage": ("checkpoint", "copy_to"),
    "tracker": ("trackers", "checked"),
    "trainer": ("trainer",),
    "transform": ("transforms", "checked"),
}
#: The tables that every run file must have, for components of other kinds; they are read, and never built.
_REQUIRED: Final = {
    "data": {"type": "dovetail:digits"},
    "model": {"type": "dovetail:mlp"},
    "loss": {"type": "dovetail:cross_entropy"},
}


def run_file(kind: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a whole run file, as plain tables, in which ``table`` is the component's."""
    whole: dict[str, Any] = {name: dict(required) for name, required in _REQUIRED.items()}
    *sections, last = PLACES[kind]
    inner = whole
    for section in sections:
        inner = inner.setdefault(section, {})
    inner[last] = dict(table)
    return whole


def structure_file(tables: Mapping[str, Any], plugins: Plugins) -> RunConfig:
    """Return the checked config of a whole run file.

    Raises:
        ConfigError: anything in it is refused.
        PluginError: a target that it names cannot be imported.
    """
    tree = compose(None, profile=None, overrides=(), installed_profiles={}, base=dict(tables))
    return check_config(tree, plugins)


def structure_part(kind: str, table: Mapping[str, Any], plugins: Plugins) -> Part:
    """Return the checked part that ``table`` describes.

    Raises:
        ConfigError: anything in it is refused.
        PluginError: its target cannot be imported.
    """
    found: Any = structure_file(run_file(kind, table), plugins)
    for name in PLACES[kind]:
        found = found[name] if isinstance(found, Mapping) else getattr(found, name)
    part: Part = found
    return part
