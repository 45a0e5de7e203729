"""Calling the lifecycle hooks of a run's parts: in order, cheaply, and naming whoever fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import pluggy

from dovetail.kernel.manager import manager_of
from dovetail.spec.hooks import LifecycleHooks
from dovetail.train.errors import PartError

#: Stands between a hook and a part: called with the hook's name, its arguments, and what calls the part.
Guard = Callable[[str, Mapping[str, Any], Callable[[], object]], None]


class Hook:
    """One lifecycle hook, called with the arguments of its specification; false where nobody implements it."""

    __slots__ = ("_calls", "_name", "at_once")

    def __init__(
        self, name: str, calls: Iterable[tuple[str, Callable[..., Any], tuple[str, ...]]], *, at_once: bool = True
    ) -> None:
        """Take (config path, method, names of its arguments) of every part that implements the hook."""
        self._name = name
        self._calls = tuple(calls)
        #: Whether a part must hear of something when it happens, and not a little later.
        self.at_once = at_once

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

    def __init__(self, parts: Iterable[tuple[str, object]] = (), guards: Mapping[str, Guard] | None = None) -> None:
        """Gather the hooks of ``parts``, given as (config path, object), in the order in which they are called.

        Args:
            parts: whose hooks.
            guards: the guard of each part that has one, by its config path.

        Raises:
            PluginError: a part has a misspelt hook, or a hook with an unknown argument.
        """
        relay = manager_of(LifecycleHooks, parts).hook
        self._hooks: dict[str, Hook] = {}
        for name in vars(relay):
            if name.startswith("dovetail_"):
                caller = getattr(relay, name)
                calls, at_once = [], False
                # Pluggy keeps implementations in the reverse of the order in which it calls them.
                for one in reversed(caller.get_hookimpls()):
                    at_once = at_once or not _may_wait(one)
                    guard = (guards or {}).get(one.plugin_name)
                    if guard is None:
                        calls.append((one.plugin_name, one.function, one.argnames))
                    else:
                        calls.append((one.plugin_name, _guarded(name, guard, one), caller.spec.argnames))
                self._hooks[name] = Hook(name, calls, at_once=at_once)

    def __getattr__(self, name: str) -> Hook:
        try:
            return self.__dict__["_hooks"][name]  # type: ignore[no-any-return]  # __dict__ holds anything
        except KeyError:
            raise AttributeError(f"there is no lifecycle hook '{name}'") from None


def _may_wait(one: pluggy.HookImpl) -> bool:
    """Say whether a part only notes what it hears: the console, and a tracker that asks which step figures are of."""
    return one.plugin_name == "console" or (one.plugin_name.startswith("trackers.") and "step" in one.argnames)


def _guarded(hook: str, guard: Guard, one: pluggy.HookImpl) -> Callable[..., None]:
    """Put a guard before a part's hook: it sees all that the hook gives, the part what it asks for."""

    def call(**arguments: Any) -> None:
        guard(hook, arguments, partial(one.function, **{name: arguments[name] for name in one.argnames}))

    return call
