"""Calling the lifecycle hooks of a run's parts: in order, cheaply, and naming the part that fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pluggy

from dovetail.config.schema import Every
from dovetail.kernel.build import BuildError
from dovetail.kernel.manager import manager_of
from dovetail.spec.hooks import LifecycleHooks
from dovetail.train.errors import PartError

if TYPE_CHECKING:
    from dovetail.config.schema import RunConfig
    from dovetail.train.context import Run

#: Stands between a hook and a part: called with the hook's name, its arguments, and a function that calls the part.
Guard = Callable[[str, Mapping[str, Any], Callable[[], object]], None]

_logger: Final = logging.getLogger("dovetail.record")

#: The hooks that carry figures, to which a tracker's cadence applies.
_FIGURES: Final = ("dovetail_log", "dovetail_validation_end", "dovetail_epoch_end")
#: The type of the alert for a tracker that failed.
TRACKER_FAILED: Final = "tracker_failed"


class HookCaller:
    """Calls one lifecycle hook with the arguments of its specification; false if no part implements the hook."""

    __slots__ = ("_calls", "_name", "at_once")

    def __init__(
        self, name: str, calls: Iterable[tuple[str, Callable[..., Any], tuple[str, ...]]], *, at_once: bool = True
    ) -> None:
        """Take (config path, method, names of its arguments) of every part that implements the hook."""
        self._name = name
        self._calls = tuple(calls)
        #: Whether a part must be called at once, rather than a little later.
        self.at_once = at_once

    def __bool__(self) -> bool:
        return bool(self._calls)

    def __call__(self, **arguments: Any) -> None:
        """Call the parts one after another.

        Raises:
            PartError: a part raised; the parts after it are not called.
        """
        for path, method, names in self._calls:
            _call(path, self._name, method, names, arguments)

    def call_all(self, **arguments: Any) -> list[PartError]:
        """Call every part, even after failures, and return the failures."""
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
        """Collect the hooks of ``parts``, given as (config path, object) in calling order.

        Args:
            parts: the parts.
            guards: the guards of parts that have one, by config path.

        Raises:
            PluginError: a part has a misspelt hook, or a hook with an unknown argument.
        """
        relay = manager_of(LifecycleHooks, parts).hook
        self._callers: dict[str, HookCaller] = {}
        for name in vars(relay):
            if name.startswith("dovetail_"):
                specified = getattr(relay, name)
                calls, at_once = [], False
                # Pluggy keeps implementations in the reverse of the order in which it calls them.
                for impl in reversed(specified.get_hookimpls()):
                    at_once = at_once or not _may_wait(impl)
                    guard = (guards or {}).get(impl.plugin_name)
                    if guard is None:
                        calls.append((impl.plugin_name, impl.function, impl.argnames))
                    else:
                        calls.append((impl.plugin_name, _guarded(name, guard, impl), specified.spec.argnames))
                self._callers[name] = HookCaller(name, calls, at_once=at_once)

    def __getattr__(self, name: str) -> HookCaller:
        try:
            return self.__dict__["_callers"][name]  # type: ignore[no-any-return]  # __dict__ holds anything
        except KeyError:
            raise AttributeError(f"there is no lifecycle hook '{name}'") from None


def _may_wait(impl: pluggy.HookImpl) -> bool:
    """Return whether a part only records figures: the console, and a tracker that asks for their step."""
    return impl.plugin_name == "console" or (impl.plugin_name.startswith("trackers.") and "step" in impl.argnames)


def _guarded(hook: str, guard: Guard, impl: pluggy.HookImpl) -> Callable[..., None]:
    """Put a guard before a part's hook: the guard sees all arguments, the part gets those it asks for."""

    def call(**arguments: Any) -> None:
        guard(hook, arguments, partial(impl.function, **{name: arguments[name] for name in impl.argnames}))

    return call


class TrackerGuard:
    """Stands between a run and one of its trackers.

    It passes figures on at the tracker's cadence: without one, all that are logged; with epochs, those of validations
    and ends of every so many epochs; with steps, the training figures of every so many updates, and those of every
    validation and epoch. The test's figures always pass.

    A tracker that raises is reported once and not called again, except at the end of the run, so that it can release
    its resources.
    """

    def __init__(self, path: str, every: Every | None) -> None:
        """Guard the tracker at ``path`` of the config."""
        self._path, self._every = path, every
        self._failed = False

    def __call__(self, hook: str, arguments: Mapping[str, Any], call: Callable[[], object]) -> None:
        """Call the tracker, if its figures are due."""
        if self._failed and hook != "dovetail_run_end":
            return
        if hook in _FIGURES and not self._due(arguments):
            return
        try:
            call()
        except Exception as error:
            _logger.warning("%s failed in %s", self._path, hook, exc_info=error)
            if not self._failed:
                self._failed = True
                self._report(arguments["run"], hook, error)

    def _due(self, arguments: Mapping[str, Any]) -> bool:
        every, event = self._every, arguments.get("event", "epoch")
        if every is None or event == "test":
            return True
        if event == "train":
            return every.steps is not None and arguments["step"] % every.steps == 0
        return every.steps is not None or arguments["run"].state.epoch % (every.epochs or 1) == 0

    def _report(self, run: Run, hook: str, error: Exception) -> None:
        reason = " ".join(str(error).split()) or type(error).__name__
        run.alert(
            TRACKER_FAILED,
            f"{self._path} failed and records nothing more of this run, which continues without it: {reason}",
            tracker=self._path,
            hook=hook,
            error=type(error).__name__,
        )


def tracker_guards(config: RunConfig) -> dict[str, TrackerGuard]:
    """Return a guard for each tracker, by its config path.

    Raises:
        BuildError: a cadence asks for figures at updates that compute none.
    """
    guards = {}
    for name, part in config.trackers.items():
        path, every = f"trackers.{name}", part.reserved.get("every")
        every = Every(epochs=every) if isinstance(every, int) else every
        if every is not None and every.minutes is not None:
            raise BuildError(f"{path}.every", "a tracker counts epochs or steps, not minutes")
        if every is not None and every.steps is not None and every.steps % config.logging.every:
            raise BuildError(
                f"{path}.every",
                f"training figures are computed every {config.logging.every} updates (logging.every), so a tracker "
                f"can get them at a multiple of that, not every {every.steps}",
            )
        guards[path] = TrackerGuard(path, every)
    return guards
