"""Every component: its descriptor and its factory."""

from __future__ import annotations

import difflib
import inspect
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Final

from attrs import frozen

from dovetail.config.diagnostics import ConfigError
from dovetail.kernel.build import BuildError
from dovetail.kernel.component import PluginError
from dovetail.kernel.manager import manager_of
from dovetail.kernel.signature import read_signature
from dovetail.spec.hooks import LifecycleHooks
from dovetail.spec.kinds import KINDS
from dovetail.testkit.registry import TRAITS, NotApplicable, check, expect, fail
from dovetail.testkit.subject import Subject

_LONGEST_SUMMARY: Final = 160
#: Imports a module in a new interpreter and records the line that imports torch.
_PROBE: Final = """
import importlib, pathlib, sys, traceback

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            frames = [f for f in traceback.extract_stack()[:-1] if not f.filename.startswith("<")]
            line = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "unknown"
            pathlib.Path(sys.argv[2]).write_text(line)

sys.meta_path.insert(0, Watch())
importlib.import_module(sys.argv[1])
"""


@frozen
class _Import:
    """The effects of importing a module in a new interpreter."""

    printed: str
    #: The line that imports torch; empty if none does.
    torch_imported_at: str
    error: str


@cache
def _import_in_new_interpreter(module: str) -> _Import:
    report = Path("torch-imported-at.txt").absolute()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.run(  # noqa: S603 (our own interpreter and code)
        [sys.executable, "-c", _PROBE, module, str(report)],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )
    imported_at = report.read_text() if report.exists() else ""
    return _Import(process.stdout, imported_at, process.stderr if process.returncode else "")


def _descriptor(subject: Subject) -> tuple[str, _Import]:
    """Return the module that lists the component, and the effects of importing it."""
    registered = subject.registered
    for plugin in subject.plugins.plugins:
        if (plugin.distribution, plugin.entry_point) == (registered.distribution, registered.entry_point):
            module = plugin.module.partition(":")[0]
            imported = _import_in_new_interpreter(module)
            if imported.error and module not in sys.modules:
                raise NotApplicable(f"'{module}' was registered by hand and is not an importable module")
            return module, imported
    raise NotApplicable("its plugin was registered by hand")


@check("plugin")
def descriptor_needs_no_torch(subject: Subject) -> None:
    """Importing the module that lists the components does not import torch, which would slow every command."""
    module, imported = _descriptor(subject)
    expect(
        not imported.torch_imported_at,
        f"importing '{module}' imports torch (at {imported.torch_imported_at}), which makes every command of every "
        "user seconds slower. Name targets as 'module:attribute' instead of importing them, and keep the package's "
        "__init__ empty or lazy.",
    )


@check("plugin")
def descriptor_imports_quietly(subject: Subject) -> None:
    """Importing the module that lists the components works in a new interpreter and prints nothing."""
    module, imported = _descriptor(subject)
    expect(not imported.error, f"importing '{module}' in a new interpreter fails:\n{imported.error}")
    expect(
        not imported.printed,
        f"importing '{module}' prints {imported.printed[:80]!r}, which breaks the JSON output of commands; use logging "
        "after the import instead.",
    )


@check("plugin")
def name_has_a_prefix(subject: Subject) -> None:
    """The name has a prefix of the plugin, so that it does not clash with the names of other plugins."""
    if subject.registered.distribution == "dovetail":
        raise NotApplicable("names without a prefix are reserved for Dovetail")
    prefix, dot, rest = subject.name.partition(".")
    expect(
        prefix and dot and rest,
        f"the name '{subject.name}' has no prefix and would clash with '{subject.name}' of another package. "
        f"Rename it to 'yourco.{subject.name}'.",
    )


@check("plugin")
def summary_is_one_sentence(subject: Subject) -> None:
    """The component has a summary of one line."""
    summary = subject.registered.component.summary.strip()
    expect(
        summary,
        f"'{subject.name}' has no summary=, which 'dovetail plugins list' and editors show. Describe it in one "
        "sentence.",
    )
    expect(
        "\n" not in summary and len(summary) <= _LONGEST_SUMMARY,
        f"the summary has {len(summary)} characters in {summary.count(chr(10)) + 1} lines; "
        f"shorten it to one line of at most {_LONGEST_SUMMARY}, and move the rest to the docstring.",
    )


@check("plugin")
def traits_are_spelt_right(subject: Subject) -> None:
    """No trait is a misspelling of a known one, which would disable its checks."""
    for trait in sorted(subject.traits - TRAITS.keys()):
        expect(
            re.fullmatch(r"[a-z][a-z0-9_]+", trait),
            f"'{trait}' is not a trait; traits are words such as 'signal_gradient', and a tuple of one trait is "
            "written with a comma, ('additive',).",
        )
        near = difflib.get_close_matches(trait, TRAITS, 1, cutoff=0.8)
        expect(not near, f"unknown trait '{trait}'; did you mean '{near[0] if near else ''}'?")


@check("plugin")
def signature_is_readable(subject: Subject) -> None:
    """The target imports, and its signature determines the keys that a run file may set."""
    try:
        signature = read_signature(subject.registered)
    except PluginError as error:
        fail(str(error))
    unfillable = [
        parameter.name for parameter in signature.parameters.values() if parameter.required and not parameter.settable
    ]
    expect(
        not unfillable,
        f"the parameter '{unfillable[0] if unfillable else ''}' cannot be set: TOML cannot express its type, and the "
        "run does not provide it. Give it a default or another type, or give the component options=.",
    )


@check("plugin")
def builds(subject: Subject) -> None:
    """It can be built from its example, or without options if it has no example."""
    if subject.kind in {"profile", "command"}:
        raise NotApplicable(f"a {subject.kind} has no table in a run file")
    try:
        subject.build_or_raise()
    except (BuildError, ConfigError, PluginError) as error:
        if isinstance(error.__cause__, FileNotFoundError) and not subject.files:
            raise NotApplicable(
                f"its example refers to a file ({error.__cause__}); pass conformance() files="
            ) from error
        fail(f"{error}. {_advice(subject)}")


def _advice(subject: Subject) -> str:
    """Return advice for a component that cannot be built from its example."""
    takes = inspect.signature(KINDS[subject.kind].protocol.__call__).parameters.keys() - {"self", "args", "kwargs"}
    required = {parameter.name for parameter in subject.signature.parameters.values() if parameter.required}
    if required and required <= takes | {"input", "target"}:
        return (
            f"Its target has the parameters of a {subject.kind}, but a target must be a factory that returns the "
            f"{subject.kind}. Make it a class with __call__."
        )
    return "" if subject.example else "The component has no example=; add one, a table of options that builds it."


@check("plugin")
def lifecycle_hooks_exist(subject: Subject) -> None:
    """Every method named ``dovetail_…`` is a lifecycle hook, with arguments that the hook provides."""
    if subject.kind in {"profile", "command"}:
        raise NotApplicable(f"a {subject.kind} takes no part in a run")
    try:
        manager_of(LifecycleHooks, [(subject.name, subject.build())])
    except PluginError as error:
        fail(str(error))
