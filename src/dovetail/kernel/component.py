"""What a plugin hands over: light records that name a part without importing it."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import field, frozen


class PluginError(Exception):
    """A plugin that this run needs cannot be used; the message says which and why."""


_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def _check_name(_instance: object, _attribute: object, value: str) -> None:
    if not _NAME.fullmatch(str(value)):
        msg = f"component name {value!r}: only letters, digits, '_', '-' and '.', not starting with '.' or '-'"
        raise ValueError(msg)


def _check_target(_instance: object, _attribute: object, value: str) -> None:
    if not _TARGET.fullmatch(str(value)):
        msg = f"component target {value!r} must be written 'module:attribute'"
        raise ValueError(msg)


def load_target(target: str) -> Any:
    """Import what ``"module:attribute"`` names; dots after the colon walk into attributes.

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
    """One part that a plugin offers: a name for run files, and where its factory lives.

    The record is light on purpose. Listing, completing and checking names never imports the target, so a
    plugin's module of descriptors must not import torch either.
    """

    #: How run files name the part: ``"focal"``, or with the plugin's own prefix ``"signals.wdcnn"``.
    name: str = field(validator=_check_name)
    #: The factory, a class or function, as ``"module:attribute"``. Its keyword parameters are the part's TOML
    #: keys.
    target: str = field(validator=_check_target)
    #: One sentence for ``dovetail plugins list`` and for editors.
    summary: str = ""
    #: An attrs class (or ``"module:attribute"`` of one) that stands in for a signature that says too little.
    options: type | str | None = None
    #: What the part claims, each claim tried by the conformance kit: ``"deterministic"``,
    #: ``"differentiable"``, ``"additive"`` …
    traits: frozenset[str] = field(default=(), converter=_as_traits)
    #: A table of options that builds the part; needed by the conformance kit when an option is required.
    example: Mapping[str, Any] | None = None

    def load(self) -> Any:
        """Import and return the factory."""
        return load_target(self.target)

    def load_options(self) -> type | None:
        """Import and return the options class, or None where the factory's own signature speaks."""
        return load_target(self.options) if isinstance(self.options, str) else self.options


@frozen
class Broken:
    """A plugin that failed to import or to register, kept aside so that it spoils nothing else."""

    distribution: str
    entry_point: str
    error: BaseException

    def __str__(self) -> str:
        """Say who failed and why, in one line."""
        detail = str(self.error).strip().splitlines()
        why = f"{type(self.error).__name__}: {detail[0]}" if detail else type(self.error).__name__
        return f"plugin '{self.entry_point}' of {self.distribution} failed to load ({why})"
