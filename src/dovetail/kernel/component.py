"""What a plugin registers: light records that name a part without importing it."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import field, frozen


class PluginError(Exception):
    """A plugin that this run needs cannot be used; the message names the plugin and the reason."""


_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def _check_name(_instance: object, _attribute: object, value: str) -> None:
    if not _NAME.fullmatch(str(value)):
        raise ValueError(
            f"component name {value!r}: only letters, digits, '_', '-' and '.', not starting with '.' or '-'"
        )


def _check_target(_instance: object, _attribute: object, value: str) -> None:
    if not _TARGET.fullmatch(str(value)):
        raise ValueError(f"component target {value!r} must be written 'module:attribute'")


def load_target(target: str) -> Any:
    """Import the object that ``"module:attribute"`` names; dots after the colon walk into attributes.

    Raises:
        ImportError: the module cannot be imported.
        AttributeError: the module has no such attribute.
    """
    module, _, path = target.partition(":")
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _as_traits(traits: Iterable[str]) -> frozenset[str]:
    return frozenset(traits)


@frozen
class Component:
    """One part that a plugin offers: its name in run files, and the location of its factory.

    Listing, completing and checking names never imports the target, so the plugin's module that yields components must
    not import torch either.
    """

    #: The name in run files: ``"focal"``, or with the plugin's prefix ``"signals.wdcnn"``.
    name: str = field(validator=_check_name)
    #: The factory, a class or function, as ``"module:attribute"``. Its keyword parameters are the part's TOML
    #: keys.
    target: str = field(validator=_check_target)
    #: One sentence for ``dovetail plugins list`` and for editors.
    summary: str = ""
    #: An attrs class, or its ``"module:attribute"``, that replaces a signature without enough information.
    options: type | str | None = None
    #: The part's claims, each of which the conformance kit tests: ``"deterministic"``, ``"differentiable"``,
    #: ``"additive"`` …
    traits: frozenset[str] = field(default=(), converter=_as_traits)
    #: A table of options that builds the part, for the conformance kit; needed if an option is required.
    example: Mapping[str, Any] | None = None

    def load(self) -> Any:
        """Import and return the factory."""
        return load_target(self.target)

    def load_options(self) -> type | None:
        """Import and return the options class, or None if the factory's own signature is used."""
        return load_target(self.options) if isinstance(self.options, str) else self.options


@frozen
class Broken:
    """A plugin that failed to import or to register; the others work without it."""

    distribution: str
    entry_point: str
    error: BaseException

    def __str__(self) -> str:
        """Return the plugin and the reason in one line."""
        detail = str(self.error).strip().splitlines()
        reason = f"{type(self.error).__name__}: {detail[0]}" if detail else type(self.error).__name__
        return f"plugin '{self.entry_point}' of {self.distribution} failed to load ({reason})"
