"""How Dovetail uses pluggy, and why.

Pluggy finds, checks and calls hook implementations: the *registration hooks* of installed plugins (what exists) and the
*lifecycle hooks* of a run's parts (what happens). :class:`HookManager` changes four of its behaviours:

- Every attribute named ``dovetail_…`` is a hook. Pluggy requires a decorator, which is easily forgotten.
- Unknown hooks and arguments are errors as soon as an object is added. Pluggy checks when it is asked to.
- Parts are registered by identity, so two equal callbacks are two, and are called in the order of the run file. Pluggy
  keeps plugins in a dict, and calls the last one registered first.
- Hook wrappers are refused: a plugin cannot change how others are called.

A run does not call lifecycle hooks through pluggy: :class:`dovetail.train.hooks.Hooks` collects the implementations
once, so that a hook that no part implements costs nothing in a training step.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pluggy

from dovetail.kernel.component import PluginError


class HookManager(pluggy.PluginManager):
    """A pluggy manager that treats every attribute named ``dovetail_…`` as a hook."""

    def __init__(self, hooks: type) -> None:
        """Manage implementations of the hooks that the class ``hooks`` specifies."""
        super().__init__("dovetail")
        self.add_hookspecs(hooks)

    def parse_hookimpl_opts(self, plugin: object, name: str) -> Any:
        """Recognise hook implementations by name; a decorator may still set ``tryfirst`` or ``trylast``."""
        if not name.startswith("dovetail_"):
            return None
        options = super().parse_hookimpl_opts(plugin, name)
        if options is None and callable(getattr(plugin, name)):
            options = pluggy.HookimplOpts(
                wrapper=False,
                hookwrapper=False,
                optionalhook=False,
                tryfirst=False,
                trylast=False,
                specname=None,
            )
        return options

    def add(self, plugin: object, name: str) -> None:
        """Register ``plugin`` and check its hooks at once.

        Raises:
            PluginError: it has a ``dovetail_…`` attribute that is no hook, or a hook with an unknown argument.
        """
        try:
            self.register(plugin, name)
        except pluggy.PluginValidationError as error:
            self._drop(plugin)
            raise PluginError(" ".join(str(error).split())) from error
        for caller in self.get_hookcallers(plugin) or []:
            problem = self._problem(plugin, caller)
            if problem:
                self._drop(plugin)
                raise PluginError(f"{name}: {problem}")

    def _problem(self, plugin: object, caller: pluggy.HookCaller) -> str | None:
        """Return what is wrong with a hook of ``plugin``, or None."""
        if not caller.has_spec():
            import difflib  # only to explain a misspelt hook

            known = sorted(hook for hook in vars(self.hook) if getattr(self.hook, hook).has_spec())
            # Compared without the prefix, which makes every hook look like every other.
            near = difflib.get_close_matches(caller.name[9:], [hook[9:] for hook in known], 1)
            hint = f"did you mean 'dovetail_{near[0]}'?" if near else f"there is {', '.join(known)}"
            return f"unknown hook '{caller.name}'; {hint}"
        if any(impl.hookwrapper or impl.wrapper for impl in caller.get_hookimpls() if impl.plugin is plugin):
            return f"hook '{caller.name}' is a wrapper, which Dovetail's hooks do not allow"
        return None

    def _drop(self, plugin: object) -> None:
        if self.is_registered(plugin):
            self.unregister(plugin)


def manager_of(hooks: type, parts: Iterable[tuple[str, object]]) -> HookManager:
    """Return a manager that calls the ``hooks`` of ``parts``, given as (config path, object), in their order.

    Raises:
        PluginError: a part has a misspelt hook, or a hook with an unknown argument.
    """
    manager = HookManager(hooks)
    for path, part in reversed(list(parts)):
        manager.add(_ByIdentity(part), path)
    return manager


class _ByIdentity:
    """Wraps a part, since pluggy keeps plugins in a dict, where two equal parts would be one."""

    def __init__(self, part: object) -> None:
        # Only hooks are read: reading every attribute would evaluate properties.
        for name in dir(part):
            if name.startswith("dovetail_"):
                setattr(self, name, getattr(part, name))
