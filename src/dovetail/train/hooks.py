"""Calling the lifecycle hooks of a run's parts: in order, cheaply, and naming whoever fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dovetail.kernel.manager import lifecycle_manager
from dovetail.train.errors import PartError


class Hook:
    """One lifecycle hook, called with the arguments of its specification; false where nobody implements it."""

    __slots__ = ("_calls", "_name")

    def __init__(self, name: str, calls: Iterable[tuple[str, Callable[..., Any], tuple[str, ...]]]) -> None:
        """Take (config path, method, names of its arguments) of every part that implements the hook."""
        self._name = name
        self._calls = tuple(calls)

    def __bool__(self) -> bool:
        return bool(self._calls)

    def __call__(self, **arguments: Any) -> None:
        """Call the parts one after another.

        Raises:
            PartError: a part raised; those after it are not called.
        """
        for path, method, names in self._calls:
            _call(path, self._name, method, names, arguments)

    def call_all(self, **arguments: Any) -> list[PartError]:
        """Call every part, whatever the others do, and return what went wrong."""
        failures = []
        for path, method, names in self._calls:
            try:
                _call(path, self._name, method, names, arguments)
            except PartError as error:
                failures.append(error)
        return failures


def _call(
    path: str, hook: str, method: Callable[..., Any], names: tuple[str, ...], arguments: Mapping[str, Any]
) -> None:
    try:
        method(**{name: arguments[name] for name in names})
    except Exception as error:
        raise PartError(path, hook, error) from error


class Hooks:
    """The lifecycle hooks of a run, as attributes: ``run.hooks.dovetail_epoch_end(run=run, epoch=3, metrics={})``."""

    def __init__(self, parts: Iterable[tuple[str, object]] = ()) -> None:
        """Gather the hooks of ``parts``, given as (config path, object), in the order in which they are called.

        Raises:
            PluginError: a part has a misspelt hook, or a hook with an unknown argument.
        """
        relay = lifecycle_manager(parts).hook
        self._hooks: dict[str, Hook] = {}
        for name in vars(relay):
            if name.startswith("dovetail_"):
                # Pluggy keeps implementations in the reverse of the order in which it calls them.
                found = reversed(getattr(relay, name).get_hookimpls())
                self._hooks[name] = Hook(name, [(one.plugin_name, one.function, one.argnames) for one in found])

    def __getattr__(self, name: str) -> Hook:
        try:
            return self.__dict__["_hooks"][name]  # type: ignore[no-any-return]  # __dict__ holds anything
        except KeyError:
            raise AttributeError(f"there is no lifecycle hook '{name}'") from None
