"""The component that is being checked, and the ways to build it."""

from __future__ import annotations

import contextlib
import difflib
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from dovetail.config.diagnostics import ConfigError
from dovetail.kernel.build import BuildError, Part, build
from dovetail.kernel.component import PluginError
from dovetail.kernel.plugins import Registered, UnknownComponentError
from dovetail.kernel.signature import Signature, read_signature
from dovetail.spec.kinds import KINDS
from dovetail.spec.plugins import Plugins
from dovetail.testkit.provide import provisions
from dovetail.testkit.registry import NotApplicable
from dovetail.testkit.tables import structure_part

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


@cache
def _installed() -> Plugins:
    """Return everything that is installed; once per process, as every component of a test session asks for it."""
    return Plugins.discover()


@frozen
class Subject:
    """One component, and how to build it."""

    plugins: Plugins
    registered: Registered
    #: The options that build it.
    example: Mapping[str, Any] = field(factory=dict)
    #: Files that the options name: relative path to content.
    files: Mapping[str, str | bytes] = field(factory=dict)
    #: What to feed it, where the author says so.
    batches: SearchStrategy[Any] | None = None
    #: Sections of the run in which it is tried, where the author says so.
    run: Mapping[str, Mapping[str, Any]] = field(factory=dict)

    @classmethod
    def find(
        cls,
        name: str,
        *,
        kind: str | None = None,
        example: Mapping[str, Any] | None = None,
        files: Mapping[str, str | bytes] | None = None,
        batches: SearchStrategy[Any] | None = None,
        run: Mapping[str, Mapping[str, Any]] | None = None,
        plugins: Plugins | None = None,
    ) -> Subject:
        """Look a component up among the installed ones, or in ``plugins``.

        Raises:
            PluginError: there is none of this name, or several; the message says what to do.
            ValueError: there is no such kind.
        """
        if kind is not None and kind not in KINDS:
            raise ValueError(f"kind: '{kind}' is not one of {', '.join(KINDS)}")
        found_in = plugins or _installed()
        registered = _find(found_in, name, kind)
        own = registered.component.example or {}
        options = dict(own if example is None else example)
        return cls(found_in, registered, options, dict(files or {}), batches, dict(run or {}))

    @property
    def name(self) -> str:
        """What run files call it."""
        return self.registered.name

    @property
    def kind(self) -> str:
        """Which kind it is of."""
        return self.registered.kind

    @property
    def traits(self) -> frozenset[str]:
        """What it claims."""
        return self.registered.component.traits

    @cached_property
    def signature(self) -> Signature:
        """What its factory takes.

        Raises:
            NotApplicable: the signature cannot be read; the check ``plugin.signature`` says why.
        """
        try:
            return read_signature(self.registered)
        except PluginError as error:
            raise NotApplicable("its signature cannot be read: see plugin.signature") from error

    @contextlib.contextmanager
    def folder(self) -> Iterator[Path]:
        """Work in a new, empty folder with the files that the options name."""
        with tempfile.TemporaryDirectory(prefix="dovetail-testkit-") as name, contextlib.chdir(name):
            for path, content in self.files.items():
                target = Path(path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.encode() if isinstance(content, str) else content)
            yield Path(name)

    @cached_property
    def part(self) -> Part:
        """The checked table of the example.

        Raises:
            ConfigError: the example is refused.
            PluginError: the target cannot be imported.
        """
        return structure_part(self.kind, {"type": self.registered.qualified, **self.example}, self.plugins)

    def build_or_raise(self, **provided: Any) -> Any:
        """Build the component from its example.

        Args:
            provided: what the run provides, where the check cares; the kit provides the rest.

        Raises:
            BuildError: the factory refuses, or something it needs is neither in the example nor provided.
            ConfigError: the example is refused.
            PluginError: the target cannot be imported.
        """
        refused: BuildError | None = None
        for provision in provisions(self.kind):
            try:
                return build(self.part, {**provision, **provided})
            except BuildError as error:
                refused = refused or error
        assert refused is not None, "there is at least one provision"
        raise refused

    def build(self, **provided: Any) -> Any:
        """Build the component from its example, for a check that is about what comes out.

        Raises:
            NotApplicable: it cannot be built; the check ``plugin.builds`` says why.
        """
        try:
            return self.build_or_raise(**provided)
        except (BuildError, ConfigError, PluginError) as error:
            raise NotApplicable("it cannot be built: see plugin.builds") from error


def _find(plugins: Plugins, name: str, kind: str | None) -> Registered:
    found = []
    for one in (kind,) if kind else KINDS:
        with contextlib.suppress(UnknownComponentError):
            found.append(plugins.find(one, name))
    if len(found) == 1:
        return found[0]
    if found:
        choices = " or ".join(f'kind="{one.kind}"' for one in found)
        raise PluginError(f"'{name}' is a {' and a '.join(one.kind for one in found)}; choose with {choices}")
    if plugins.broken:
        raise PluginError(f"no plugin offers '{name}'; " + "; ".join(map(str, plugins.broken)))
    known = sorted({one.name for each in ((kind,) if kind else KINDS) for one in plugins.components(each)})
    near = difflib.get_close_matches(name, known, 1)
    meant = f"did you mean '{near[0]}'?" if near else "is its package installed (pip install -e .)?"
    raise PluginError(f"no plugin offers '{name}'; {meant}")
