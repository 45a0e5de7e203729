"""From a checked table to a live object.

The config turns a table with a ``type`` into a :class:`Part`: the component that it names, and its typed, checked
options. Building is one call of the factory with keyword arguments; nothing is looked up by string again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from attrs import field, frozen

from dovetail.kernel.component import PluginError
from dovetail.kernel.plugins import Registered
from dovetail.kernel.secret import Env
from dovetail.kernel.signature import MISSING, Signature, read_signature


class BuildError(Exception):
    """A part could not be built from its options; ``path`` is its path in the config."""

    def __init__(self, path: str, message: str) -> None:
        """Keep the path and what is wrong there."""
        self.path, self.message = path, message
        super().__init__(f"{path}: {message}")


@frozen
class Part:
    """A table with a ``type``, checked."""

    #: None if a live object was passed from Python.
    registered: Registered | None
    kind: str
    #: Its path in the config: ``"loss"``, ``"loss.classification"``, ``"callbacks.patience"``.
    path: str
    #: Typed options; values may hold further parts, in lists, tuples, tables and attrs instances too.
    options: Mapping[str, Any] = field(factory=dict)
    #: The keys that the kind reserves, with defaults.
    reserved: Mapping[str, Any] = field(factory=dict)
    #: The object itself, if it was passed from Python.
    live: Any = MISSING

    @property
    def name(self) -> str:
        """The name in the run file, or the class of the live object."""
        return self.registered.name if self.registered else type(self.live).__name__


def build(part: Part, provided: Mapping[str, Any]) -> Any:
    """Build the object that ``part`` describes.

    Args:
        part: the checked table.
        provided: the values that the run can provide so far, by name; a kind uses only those that its table lists.

    Raises:
        BuildError: a value that the run cannot provide is missing, a secret is not set, or the factory raised.
        PluginError: the target cannot be imported.
    """
    if part.live is not MISSING or part.registered is None:
        return part.live
    signature = read_signature(part.registered)
    arguments = {name: _build_value(value, part, provided) for name, value in part.options.items()}
    given = provided_arguments(part, signature, provided)
    try:
        if signature.options_class:
            options = signature.options_class(**arguments)
            if signature.options_parameter:
                arguments = {signature.options_parameter: options}
            else:
                arguments = {
                    each.alias: getattr(options, each.name)
                    for each in attrs.fields(signature.options_class)
                    if each.init
                }
        return signature.factory(**{**given, **arguments})
    except (BuildError, PluginError):
        raise
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise BuildError(part.path, f"{part.kind} '{part.registered.name}' refused its options: {reason}") from error


def provided_arguments(part: Part, signature: Signature, provided: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of ``part`` that the run provides and the run file does not set.

    Raises:
        BuildError: a parameter without a default is neither provided in this run nor set.
    """
    given: dict[str, Any] = {}
    for parameter in signature.parameters.values():
        if parameter.name in part.options:
            continue
        if parameter.provided and provided.get(parameter.name) is not None:
            given[parameter.name] = provided[parameter.name]
        elif parameter.default is MISSING:
            reason = (
                "the run cannot provide it; set it in the run file" if parameter.provided else "required, but not set"
            )
            raise BuildError(part.path, f"{part.name}: '{parameter.name}': {reason}")
    return given


def _build_value(value: Any, part: Part, provided: Mapping[str, Any]) -> Any:
    """Build every part inside ``value`` and read every secret; other values stay unchanged."""
    if isinstance(value, Part):
        return build(value, provided)
    if isinstance(value, Env):
        try:
            return value.resolve()
        except LookupError as error:
            raise BuildError(part.path, str(error)) from error
    if isinstance(value, list | tuple):
        return type(value)(_build_value(item, part, provided) for item in value)
    if isinstance(value, dict):
        return {key: _build_value(item, part, provided) for key, item in value.items()}
    if attrs.has(type(value)):
        changed = {
            each.alias: built
            for each in attrs.fields(type(value))
            if each.init and (built := _build_value(old := getattr(value, each.name), part, provided)) is not old
        }
        return attrs.evolve(value, **changed) if changed else value
    return value
