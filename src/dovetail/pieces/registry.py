"""Parts of one kind by name, from Python: those registered while the program runs, and those that are installed."""

from __future__ import annotations

from typing import Any

from dovetail.kernel.build import BuildError, Part, build
from dovetail.spec.plugins import Plugins


class ObjectRegistry:
    """Keeps objects under names, and finds a name among them before it looks among the installed components."""

    def __init__(self, kind: str, plugins: Plugins | None = None) -> None:
        """Begin without objects.

        Args:
            kind: which kind of component is looked for.
            plugins: the installed ones; by default whatever is installed.
        """
        self.kind = kind
        self.own: dict[str, Any] = {}
        self._plugins = plugins

    def register(self, name: str, value: object) -> None:
        """Keep an object under a name.

        Raises:
            ValueError: the name is taken.
            TypeError: it is a class, and no object of one.
        """
        if isinstance(value, type):
            msg = f"'{name}': register an object, not the class {value.__name__}"
            raise TypeError(msg)
        if name in self.own:
            msg = f"'{name}' is registered already"
            raise ValueError(msg)
        self.own[name] = value

    def get(self, name: str) -> Any:
        """Return the object of that name, or the installed component, built with its defaults.

        Raises:
            PluginError: nothing has that name; the nearest is suggested.
            ValueError: it cannot be built without options.
        """
        if name in self.own:
            return self.own[name]
        self._plugins = self._plugins or Plugins.discover()
        registered = self._plugins.find(self.kind, name)
        try:
            return build(Part(registered, self.kind, name), {})
        except BuildError as error:
            msg = f"{error}; build {registered.component.target} yourself"
            raise ValueError(msg) from error
