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
from dovetail.testkit.registry import NotApplicable, check, expect, fail
from dovetail.testkit.subject import Subject
from dovetail.testkit.traits import TRAITS

_LONGEST_SUMMARY: Final = 160
#: Imports a module in a fresh interpreter and leaves word of who asked for torch.
_PROBE: Final = """
import importlib, pathlib, sys, traceback

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            frames = [f for f in traceback.extract_stack()[:-1] if not f.filename.startswith("<")]
            asked = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "unknown"
            pathlib.Path(sys.argv[2]).write_text(asked)

sys.meta_path.insert(0, Watch())
importlib.import_module(sys.argv[1])
"""


@frozen
class _Import:
    """What importing a module in a fresh interpreter did."""

    printed: str
    torch_asked_by: str
    error: str


@cache
def _import_afresh(module: str) -> _Import:
    answer = Path("asked-for-torch.txt").absolute()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(  # noqa: S603 (our own interpreter and code)
        [sys.executable, "-c", _PROBE, module, str(answer)],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )
    asked = answer.read_text() if answer.exists() else ""
    return _Import(done.stdout, asked, done.stderr if done.returncode else "")


def _descriptor(subject: Subject) -> tuple[str, _Import]:
    """Return the module that offers the component, and what importing it does."""
    mine = subject.registered
    for one in subject.plugins.plugins:
        if (one.distribution, one.entry_point) == (mine.distribution, mine.entry_point):
            module = one.module.partition(":")[0]
            found = _import_afresh(module)
            if found.error and module not in sys.modules:
                raise NotApplicable(f"'{module}' was registered by hand and is no module that could be imported afresh")
            return module, found
    raise NotApplicable("its plugin was registered by hand")


@check("plugin")
def descriptor_needs_no_torch(subject: Subject) -> None:
    """Importing the module that lists the components does not import torch, which would slow every command."""
    module, found = _descriptor(subject)
    expect(
        not found.torch_asked_by,
        f"importing '{module}' imports torch (asked for at {found.torch_asked_by}), so every command of every user "
        "gets "
        "seconds slower. Name targets as 'module:attribute' instead of importing them, and leave the package's "
        "__init__ "
        "empty or lazy.",
    )


@check("plugin")
def descriptor_imports_quietly(subject: Subject) -> None:
    """Importing the module that lists the components works in a fresh interpreter and prints nothing."""
    module, found = _descriptor(subject)
    expect(not found.error, f"importing '{module}' in a fresh interpreter fails:\n{found.error}")
    expect(
        not found.printed,
        f"importing '{module}' prints {found.printed[:80]!r}, which would end up in somebody's JSON; log instead, "
        "and later.",
    )


@check("plugin")
def name_has_a_prefix(subject: Subject) -> None:
    """The name starts with the plugin's own prefix, so that it clashes with nobody's."""
    if subject.registered.distribution == "dovetail":
        raise NotApplicable("plain names are Dovetail's own")
    prefix, dot, rest = subject.name.partition(".")
    expect(
        prefix and dot and rest,
        f"the name '{subject.name}' has no prefix: another package's '{subject.name}' would clash with it. "
        f"Call it 'yourco.{subject.name}'.",
    )


@check("plugin")
def summary_is_one_sentence(subject: Subject) -> None:
    """A summary of one line tells what the component is for."""
    summary = subject.registered.component.summary.strip()
    expect(summary, f"'{subject.name}' has no summary=; 'dovetail plugins list' and editors show it.")
    expect(
        "\n" not in summary and len(summary) <= _LONGEST_SUMMARY,
        f"the summary has {len(summary)} characters in {summary.count(chr(10)) + 1} lines; "
        f"make it one line of at most {_LONGEST_SUMMARY}, and tell the rest in the docstring.",
    )


@check("plugin")
def traits_are_spelt_right(subject: Subject) -> None:
    """No trait is a slip of the pen, which would leave its claim untried."""
    for trait in sorted(subject.traits - TRAITS.keys()):
        expect(
            re.fullmatch(r"[a-z][a-z0-9_]+", trait),
            f"the trait '{trait}' means nothing to anybody; traits are words like 'signal_gradient', and a tuple of "
            "one is written ('additive',) with its comma.",
        )
        near = difflib.get_close_matches(trait, TRAITS, 1, cutoff=0.8)
        expect(not near, f"the trait '{trait}' means nothing to anybody; did you mean {near}?")


@check("plugin")
def signature_is_readable(subject: Subject) -> None:
    """The target imports, and its signature tells which keys a run file may set."""
    try:
        signature = read_signature(subject.registered)
    except PluginError as error:
        fail(str(error))
    stuck = [one.name for one in signature.parameters.values() if one.required and not one.settable]
    expect(
        not stuck,
        f"nothing can fill the parameter '{stuck[0] if stuck else ''}': TOML cannot say its type and the run does "
        "not provide it. "
        "Give it a default, another type, or give the component options=.",
    )


@check("plugin")
def builds(subject: Subject) -> None:
    """Its example, or nothing at all where every option has a default, builds it."""
    if subject.kind in {"profile", "command"}:
        raise NotApplicable(f"a {subject.kind} has no table in a run file")
    try:
        subject.build_or_raise()
    except (BuildError, ConfigError, PluginError) as error:
        if isinstance(error.__cause__, FileNotFoundError) and not subject.files:
            raise NotApplicable(f"its example names a file ({error.__cause__}): conformance() takes files=") from error
        fail(f"{error}. {_advice(subject)}")


def _advice(subject: Subject) -> str:
    """Say what an author may have forgotten, of a component that its example does not build."""
    takes = inspect.signature(KINDS[subject.kind].protocol.__call__).parameters.keys() - {"self", "args", "kwargs"}
    required = {one.name for one in subject.signature.parameters.values() if one.required}
    if required and required <= takes | {"input", "target"}:
        return (
            f"Its target takes what a {subject.kind} is called with, so it seems to be the {subject.kind} itself: a "
            f"target is a factory, which returns the {subject.kind}. Make it a class with __call__."
        )
    return "" if subject.example else "The component has no example=: give it one, a table of options that builds it."


@check("plugin")
def lifecycle_hooks_exist(subject: Subject) -> None:
    """Every method named ``dovetail_…`` is a lifecycle hook, with arguments that the hook has."""
    if subject.kind in {"profile", "command"}:
        raise NotApplicable(f"a {subject.kind} takes no part in a run")
    try:
        manager_of(LifecycleHooks, [(subject.name, subject.build())])
    except PluginError as error:
        fail(str(error))
