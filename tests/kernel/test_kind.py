"""Kinds: a table that the kernel is given, here with kinds that no part of Dovetail knows."""

from __future__ import annotations

import types
from typing import Protocol, runtime_checkable

import pluggy
import pytest

from dovetail.kernel.build import Part, build
from dovetail.kernel.component import Component
from dovetail.kernel.kind import Kind, Kinds
from dovetail.kernel.plugins import PluginRegistry, UnknownComponentError
from dovetail.kernel.signature import read_signature


@runtime_checkable
class Sail(Protocol):
    """A toy protocol."""

    def area(self) -> float:
        """Return the area in square metres."""


@runtime_checkable
class Hull(Protocol):
    """Another toy protocol."""

    def length(self) -> float:
        """Return the length in metres."""


hookspec = pluggy.HookspecMarker("dovetail")


class Hooks:
    """The registration hooks of the toy kinds."""

    @hookspec
    def dovetail_sails(self) -> object:
        """Offer sails."""

    @hookspec
    def dovetail_hulls(self) -> object:
        """Offer hulls."""


KINDS = Kinds(
    [
        Kind("sail", "dovetail_sails", Sail, "an object with area()", provides={"beam": "the boat's beam in metres"}),
        Kind("hull", "dovetail_hulls", Hull, "an object with length()"),
    ]
)


class Fleet(PluginRegistry):
    """Plugins that offer sails and hulls."""

    kinds = KINDS
    hooks = Hooks


class Square:
    """A sail as wide as the boat, above a hull."""

    def __init__(self, height: float, beam: float, over: Hull | None = None) -> None:
        self.height, self.beam, self.over = height, beam, over

    def area(self) -> float:
        """Return the area in square metres."""
        return self.height * self.beam


class Barge:
    """A hull."""

    def __init__(self, metres: float = 9.0) -> None:
        self.metres = metres

    def length(self) -> float:
        """Return the length in metres."""
        return self.metres


def shipyard() -> types.SimpleNamespace:
    """Return a plugin that offers both."""
    return types.SimpleNamespace(
        dovetail_sails=lambda: [Component("square", f"{__name__}:Square")],
        dovetail_hulls=lambda: [Component("barge", f"{__name__}:Barge")],
    )


def test_a_table_finds_kinds_by_name_and_by_protocol():
    """In the order given; a type that is no protocol of the table has no kind."""
    assert list(KINDS) == ["sail", "hull"]
    assert len(KINDS) == 2
    assert KINDS["sail"].protocol is Sail
    assert KINDS.of(Hull) == "hull"
    assert KINDS.of(float) is None
    assert KINDS.of("Hull") is None


def test_the_kernel_registers_and_builds_kinds_that_it_has_never_seen():
    """Names, signatures, provided values and nested parts follow the table alone."""
    fleet = Fleet()
    fleet.register(shipyard(), distribution="yard")
    sail, hull = fleet.find("sail", "square"), fleet.find("hull", "yard:barge")
    parameters = read_signature(sail).parameters

    assert parameters["beam"].provided
    assert not parameters["height"].provided
    nested = Part(hull, "hull", "sail.over", {"metres": 12.0})
    square = build(Part(sail, "sail", "sail", {"height": 5.0, "over": nested}), {"beam": 3.0})
    assert square.area() == 15.0
    assert square.over.length() == 12.0


def test_a_name_of_another_kind_is_explained():
    """The hint names the kind that the name belongs to."""
    fleet = Fleet()
    fleet.register(shipyard(), distribution="yard")

    with pytest.raises(UnknownComponentError, match="'barge' is a hull, not a sail"):
        fleet.find("sail", "barge")
