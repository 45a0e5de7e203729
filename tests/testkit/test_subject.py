"""Tests of finding and building a component under test."""

from __future__ import annotations

from pathlib import Path

import pytest

from dovetail.kernel.component import PluginError
from dovetail.testkit import run_checks
from dovetail.testkit.registry import NotApplicable
from dovetail.testkit.subject import Subject


def test_a_name_of_several_kinds_needs_the_kind():
    """'default' is a collator and an optimizer; the error says how to choose."""
    with pytest.raises(PluginError, match='several components; pass kind="collator" or kind="optimizer"'):
        Subject.find("default")

    assert Subject.find("default", kind="optimizer").kind == "optimizer"


def test_an_unknown_name_suggests_a_known_one():
    """The error for a misspelt name suggests the right one; for any other name, it suggests installing a package."""
    with pytest.raises(PluginError, match="no plugin provides 'cross_entropi'; did you mean 'cross_entropy'"):
        Subject.find("cross_entropi")
    with pytest.raises(PluginError, match="is its package installed"):
        Subject.find("zzz.qqq")
    with pytest.raises(ValueError, match="kind: 'losss' is not one of"):
        Subject.find("cross_entropy", kind="losss")


def test_a_component_that_cannot_be_built_makes_checks_not_applicable():
    """A check of the built object does not apply; ``plugin.builds`` reports the reason."""
    subject = Subject.find("cross_entropy", kind="loss", example={"no_such_option": 1})

    with pytest.raises(NotApplicable, match=r"see plugin\.builds"):
        subject.build()


def test_files_are_in_the_folder_of_each_check():
    """A component whose example refers to a file is built where that file is, and nothing is left behind."""
    before = sorted(Path.cwd().iterdir())

    results = run_checks(
        "csv",
        kind="dataset",
        example={"path": "folder/data.csv", "target": "label"},
        files={"folder/data.csv": "a,b,label\n1,2,0\n3,4,1\n5,6,0\n7,8,1\n"},
    )

    assert not [result for result in results if result.status == "failed"]
    assert sorted(Path.cwd().iterdir()) == before
