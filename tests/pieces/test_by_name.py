"""Parts by name: a table of factories, and a registry of objects."""

from __future__ import annotations

import re

import pytest

from dovetail.kernel.component import PluginError
from dovetail.losses import FocalLoss
from dovetail.pieces.by_name import Factories, ObjectRegistry
from dovetail.spec.plugins import Plugins


def scaled(value, factor=1):
    """Return a multiple of ``value``."""
    return value * factor


FACTORIES = Factories[int]("operation", "operation_name", {"scaled": scaled})


def test_a_factory_gets_arguments_and_options():
    """The first arguments are not options."""
    assert FACTORIES.build("scaled", 3) == 3
    assert FACTORIES.build("scaled", 3, factor=2) == 6


@pytest.mark.parametrize(
    "name, options, error, message",
    [
        ("scale", {}, ValueError, "operation_name: unknown operation 'scale'; did you mean 'scaled'?"),
        ("?", {}, ValueError, "operation_name: unknown operation '?'; there are scaled"),
        (None, {}, TypeError, "operation_name: expected a name such as 'scaled', got NoneType"),
        ("scaled", {"facter": 2}, ValueError, "scaled has no option 'facter'; did you mean 'factor'?; it has factor"),
        ("scaled", {"value": 2}, ValueError, "scaled has no option 'value'; it has factor"),
    ],
)
def test_invalid_names_and_options_are_refused(name, options, error, message):
    """The message suggests the nearest name, or lists the known ones."""
    with pytest.raises(error, match=re.escape(message)):
        FACTORIES.build(name, 3, **options)


def test_a_registry_prefers_its_own_objects():
    """A registered object takes precedence over the installed component of the same name, in this registry only."""
    registry, own = ObjectRegistry("loss"), object()
    registry.register("focal", own)

    assert registry.get("focal") is own
    assert isinstance(ObjectRegistry("loss").get("focal"), FocalLoss)


def test_a_registry_finds_components_among_the_given_plugins():
    """Without any plugin there is no component."""
    with pytest.raises(PluginError, match="focal"):
        ObjectRegistry("loss", Plugins()).get("focal")


def test_classes_and_taken_names_are_refused():
    """The message has the name."""
    registry = ObjectRegistry("transform")
    registry.register("own", object())

    with pytest.raises(ValueError, match="'own' is already registered; choose another name"):
        registry.register("own", object())
    with pytest.raises(TypeError, match="'other': register an object, not the class object"):
        registry.register("other", object)


def test_a_component_with_required_options_cannot_be_built_by_name():
    """The message names the missing option and the class to build."""
    with pytest.raises(ValueError, match=r"^transform: normalize: 'mean': required, but not set; build \S+:Normalize "):
        ObjectRegistry("transform").get("normalize")
