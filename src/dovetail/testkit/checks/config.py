"""Components with a table in run files: the config reads, writes and checks their options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tomli
from hypothesis import assume

from dovetail.config.diagnostics import ConfigError
from dovetail.config.freeze import config_hash, freeze
from dovetail.testkit.options import longest_option, tables
from dovetail.testkit.properties import for_all
from dovetail.testkit.registry import NotApplicable, check, expect, fail
from dovetail.testkit.run_files import PLACES, run_file, structure_file
from dovetail.testkit.subject import Subject


def _needs_a_table(subject: Subject) -> None:
    if subject.kind not in PLACES:
        raise NotApplicable(f"a {subject.kind} has no table in a run file")


@check("config")
def round_trip(subject: Subject) -> None:
    """A config with any options, written as TOML and read again, is the same config."""
    _needs_a_table(subject)

    def survives(options: Mapping[str, Any]) -> None:
        try:
            first = structure_file(
                run_file(subject.kind, {"type": subject.registered.qualified, **options}), subject.plugins
            )
        except ConfigError:
            assume(False)  # a rule that involves several fields rejects them
        written = freeze(first)
        second = structure_file(tomli.loads(written), subject.plugins)
        if second.to_dict() != first.to_dict() or config_hash(second) != config_hash(first):
            fail(f"a config changes when written and read again:\n{written}\nbecame\n{freeze(second)}")

    for_all(survives, options=tables(subject.signature, subject.example, subject.plugins), fraction=0.2)


@check("config")
def unknown_key_is_refused(subject: Subject) -> None:
    """A misspelt option is an error that suggests the right one."""
    _needs_a_table(subject)
    right = longest_option(subject.signature)
    wrong = right[:-2] + right[-1] if right else "no_such_option"
    table = {"type": subject.registered.qualified, **subject.example, wrong: 1}
    try:
        structure_file(run_file(subject.kind, table), subject.plugins)
    except ConfigError as error:
        message = str(error)
        expect(wrong in message, f"the error about the unknown key '{wrong}' does not name it: {message}")
        expect(
            right is None or f"'{right}'" in message,
            f"the error about the unknown key '{wrong}' does not suggest '{right}': {message}",
        )
    else:
        fail(f"the unknown key '{wrong}' is accepted without an error")
