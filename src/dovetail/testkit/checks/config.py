"""Every component with a table in run files: its options on the way through the config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tomli
from hypothesis import assume

from dovetail.config.diagnostics import ConfigError
from dovetail.config.freeze import config_hash, freeze
from dovetail.testkit.options import misspellable, tables
from dovetail.testkit.properties import for_all
from dovetail.testkit.registry import NotApplicable, check, expect, fail
from dovetail.testkit.subject import Subject
from dovetail.testkit.tables import PLACES, run_file, structure_file


def _needs_a_table(subject: Subject) -> None:
    if subject.kind not in PLACES:
        raise NotApplicable(f"a {subject.kind} has no table in a run file")


@check("config")
def round_trip(subject: Subject) -> None:
    """A config written as TOML and read again is the same config, whatever the options."""
    _needs_a_table(subject)

    def survives(options: Mapping[str, Any]) -> None:
        try:
            first = structure_file(
                run_file(subject.kind, {"type": subject.registered.qualified, **options}), subject.plugins
            )
        except ConfigError:
            assume(False)  # a rule across fields refuses these
        written = freeze(first)
        second = structure_file(tomli.loads(written), subject.plugins)
        expect(
            second.to_dict() == first.to_dict() and config_hash(second) == config_hash(first),
            f"a config does not survive being written and read:\n{written}\nbecame\n{freeze(second)}",
        )

    for_all(survives, options=tables(subject.signature, subject.example, subject.plugins), share=0.2)


@check("config")
def unknown_key_is_refused(subject: Subject) -> None:
    """A misspelt option is an error that names the right one."""
    _needs_a_table(subject)
    right = misspellable(subject.signature)
    wrong = right[:-2] + right[-1] if right else "no_such_option"
    table = {"type": subject.registered.qualified, **subject.example, wrong: 1}
    try:
        structure_file(run_file(subject.kind, table), subject.plugins)
    except ConfigError as error:
        said = str(error)
        expect(wrong in said, f"the unknown key '{wrong}' was refused without being named: {said}")
        expect(
            right is None or f"'{right}'" in said,
            f"the unknown key '{wrong}' was refused without naming '{right}': {said}",
        )
    else:
        fail(f"the unknown key '{wrong}' was taken without a word")
