"""Hooks of plugins and parts: their order, misspellings, and what is no hook."""

from __future__ import annotations

import types

import pytest

from dovetail.kernel.component import PluginError
from dovetail.kernel.manager import HookManager, manager_of
from dovetail.spec.hooks import LifecycleHooks


class Equal:
    """A callback that equals every other of its class, as attrs classes do."""

    def __init__(self, log, name):
        self.log, self.name = log, name

    def __eq__(self, other):
        return isinstance(other, Equal)

    __hash__ = None

    def dovetail_epoch_end(self, epoch):
        """Note the call."""
        self.log.append((self.name, epoch))


def test_lifecycle_order_is_the_order_given_and_equal_parts_are_two():
    """Hooks of parts run in the order of the run file, also for parts that compare equal; no decorator is needed."""
    log = []
    manager = manager_of(LifecycleHooks, [("callbacks.a", Equal(log, "a")), ("callbacks.b", Equal(log, "b"))])
    manager.hook.dovetail_epoch_end(run=None, epoch=3, metrics={})

    assert log == [("a", 3), ("b", 3)]
    assert manager.hook.dovetail_batch_end.get_hookimpls() == []


def test_lifecycle_misspelling_names_the_part():
    """A misspelt hook of a callback is refused when the run is built, naming its place in the config."""

    class Wrong:
        def dovetail_epoch_ends(self):
            """Never called by anybody."""

    with pytest.raises(
        PluginError,
        match=r"callbacks\.wrong: unknown hook 'dovetail_epoch_ends'; did you mean 'dovetail_epoch_end'",
    ):
        manager_of(LifecycleHooks, [("callbacks.wrong", Wrong())])


def test_hook_far_from_any_name_lists_them():
    """Where nothing is near, the hooks there are get listed."""
    with pytest.raises(PluginError, match="there is dovetail_alert"):
        manager_of(LifecycleHooks, [("x", types.SimpleNamespace(dovetail_zzz=lambda: None))])


def test_attributes_that_are_no_hooks_are_left_alone():
    """Only callables named ``dovetail_…`` are hooks."""
    manager = HookManager(LifecycleHooks)
    manager.add(types.SimpleNamespace(dovetail_version="1", other=print), "x")

    assert (manager.get_hookcallers(manager.get_plugin("x")) or []) == []
