"""Descriptions of parts and plugins, and where the documentation of their parameters is read from."""

from __future__ import annotations

import json
import re

import pytest

from dovetail.cli import main
from dovetail.cli.describe import parameter_docs
from dovetail.kernel.signature import read_signature
from dovetail.spec.kinds import KINDS
from dovetail.spec.plugins import Plugins


def test_a_part_is_described(capsys):
    """The description has the part's keys with types, defaults and limits, and what the run provides."""
    assert main(["plugins", "info", "focal"]) == 0
    output = capsys.readouterr().out

    assert re.search(r"gamma +number +2\.0 +at least 0; how strongly easy samples are down-weighted", output)
    assert re.search(r"class_counts .* provided by the run", output)
    assert "from dovetail" in output

    assert main(["plugins", "info", "dovetail:focal", "--json"]) == 0
    keys = {key["name"]: key for key in json.loads(capsys.readouterr().out)["parts"][0]["keys"]}
    assert keys["gamma"]["default"] == 2.0


@pytest.mark.parametrize("name", sorted({"step", "default", "local", "standard", "ci_fast", "digits", "dovetail"}))
def test_every_kind_of_part_can_be_described(name, capsys):
    """This includes names that several kinds have, and parts without keys."""
    assert main(["plugins", "info", name]) == 0
    assert capsys.readouterr().out


def test_every_key_of_our_parts_is_documented():
    """Each key is explained in its part's docstring, where `plugins info` and the reference find it; torch's aside."""
    plugins = Plugins.discover(blocked=True)
    undocumented = [
        f"{part.kind} {part.name}: {parameter.name}"
        for kind in KINDS
        if kind not in {"command", "profile"}
        for part in plugins.components(kind)
        for parameter in read_signature(part).parameters.values()
        if parameter.settable
        and not part.component.target.startswith("torch.")
        and parameter.name not in parameter_docs(part.component.load())
    ]

    assert undocumented == []


def test_documentation_is_read_from_docstrings_and_field_comments():
    """Entries may span lines and contain markup; a class may be documented in its constructor or above its fields."""

    class Pen:
        """A pen."""

        #: How wide it draws,
        #: in millimetres.
        width: float = 0.5

        def __init__(self, colour: str, length: int = 3) -> None:
            """Make it.

            Args:
                colour: any :class:`~paint.Colour`, or
                    ``"none"``.
                length (int, optional): in centimetres.

            Raises:
                ValueError: there is no such colour.
            """

    class Plain:
        def __init__(self, *, ink: str) -> None:
            """Make it.

            Args:
                ink: black: or blue.
            """

    assert parameter_docs(Pen)["width"] == "How wide it draws, in millimetres"
    assert parameter_docs(Plain) == {"ink": "black: or blue"}
    assert parameter_docs(Pen.__init__) == {"colour": 'any Colour, or "none"', "length": "in centimetres"}
    assert parameter_docs(len) == {}
