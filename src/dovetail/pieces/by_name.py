"""Parts by name, from Python: a table of factories, and a registry of objects."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar, final

from attrs import frozen

from dovetail.config.diagnostics import suggest, unknown
from dovetail.kernel.build import BuildError, Part, build
from dovetail.spec.plugins import Plugins

_Made = TypeVar("_Made")


@final
@frozen
class Factories(Generic[_Made]):
    """The factories of one kind of part."""

    #: The kind, for messages: ``"scheduler"``.
    kind: str
    #: The caller's parameter that holds the name, for messages: ``"scheduler_type"``.
    parameter: str
    #: Each factory, by name.
    by_name: Mapping[str, Callable[..., _Made]]

    def build(self, name: object, /, *arguments: Any, **options: Any) -> _Made:
        """Call the factory of that name.

        Args:
            name: the name of a factory.
            arguments: the factory's first arguments, which are not options.
            options: further keyword arguments.

        Raises:
            TypeError: ``name`` is not a string.
            ValueError: there is no factory of that name, or it has no such option; or the factory raised ValueError.
        """
        if not isinstance(name, str):
            raise TypeError(
                f"{self.parameter}: expected a name such as '{next(iter(self.by_name))}', got {type(name).__name__}"
            )
        if name not in self.by_name:
            raise unknown(self.parameter, self.kind, name, self.by_name)
        factory = self.by_name[name]
        known = list(inspect.signature(factory).parameters)[len(arguments) :]
        unknown_option = next((option for option in options if option not in known), None)
        if unknown_option is not None:
            hint = suggest(unknown_option, known)
            raise ValueError(f"{name} has no option '{unknown_option}'{hint}; it has {', '.join(known)}")
        return factory(*arguments, **options)


class ObjectRegistry:
    """Finds an object by name: first among its registered objects, then among the installed components of a kind.

    Args:
        kind: the kind of component, such as ``"loss"``.
        plugins: the plugins whose components to find; None discovers the installed ones at the first use.
    """

    def __init__(self, kind: str, plugins: Plugins | None = None) -> None:
        self.kind: Final = kind
        #: The registered objects, by name.
        self.registered: dict[str, Any] = {}
        self._plugins = plugins

    def register(self, name: str, value: object) -> None:
        """Register an object under a name.

        Raises:
            ValueError: the name is taken.
            TypeError: ``value`` is a class.
        """
        if isinstance(value, type):
            raise TypeError(f"'{name}': register an object, not the class {value.__name__}")
        if name in self.registered:
            raise ValueError(f"'{name}' is already registered; choose another name")
        self.registered[name] = value

    def get(self, name: str) -> Any:
        """Return the registered object of that name, or the installed component, built with its defaults.

        Raises:
            PluginError: there is no object or component of that name; the message suggests the nearest.
            ValueError: the component needs options.
        """
        if name in self.registered:
            return self.registered[name]
        if self._plugins is None:
            self._plugins = Plugins.discover()
        component = self._plugins.find(self.kind, name)
        try:
            return build(Part(component, self.kind, path=self.kind), {})
        except BuildError as error:
            raise ValueError(f"{error}; build {component.component.target} yourself") from error
