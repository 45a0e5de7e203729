"""The hooks are the table of contents: each documented, each with an example, each belonging to a kind or to a run."""

from __future__ import annotations

import inspect
import textwrap

import pytest

from dovetail.spec.hooks import LifecycleHooks, RegistrationHooks
from dovetail.spec.kinds import KINDS
from places import ROOT

ALL_HOOKS = [
    (name, function)
    for owner in (RegistrationHooks, LifecycleHooks)
    for name, function in inspect.getmembers(owner, inspect.isfunction)
]


@pytest.mark.parametrize("name, function", ALL_HOOKS)
def test_hook_is_documented_with_an_example(name, function):
    """Every hook says what it is for, and shows an implementation that bears its name."""
    text = inspect.getdoc(function)

    assert "Example::" in text
    assert f"def {name}(" in text


@pytest.mark.parametrize("name, function", ALL_HOOKS)
def test_hook_signature_stands_in_the_docs(name, function):
    """The reference quotes each hook's exact signature; changing a hook without its docs fails here."""
    pages = ROOT / "docs" / "reference" / "hooks.md"
    arguments = [item for item in inspect.signature(function).parameters if item != "self"]

    assert f"{name}({', '.join(arguments)})" in pages.read_text(encoding="utf-8")


def test_every_kind_has_its_registration_hook():
    """Kinds and registration hooks match one to one."""
    assert {name for name, _ in ALL_HOOKS if hasattr(RegistrationHooks, name)} == {kind.hook for kind in KINDS.values()}


def test_examples_parse():
    """Each example is Python, not something that looks like it."""
    for name, function in ALL_HOOKS:
        example = inspect.getdoc(function).split("Example::")[1]
        compile(textwrap.dedent(example.replace("@hookimpl", "")), name, "exec")
