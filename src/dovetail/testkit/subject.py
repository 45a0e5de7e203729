"""The component under test, and how to build it."""

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
from dovetail.testkit.run_files import structure_part

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


@cache
def _installed() -> Plugins:
    """Return the installed plugins; cached, because every component of a test session needs them."""
    return Plugins.discover()


@frozen
class Subject:
    """A component under test, and how to build it."""

    plugins: Plugins
    registered: Registered
    #: The options that build the component.
    example: Mapping[str, Any] = field(factory=dict)
    #: Content of the files that the options refer to, by relative path.
    files: Mapping[str, str | bytes] = field(factory=dict)
    #: A strategy of inputs, if the author provides one.
    batches: SearchStrategy[Any] | None = None
    #: Sections that replace those of the kit's tiny run.
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
        """Find a component by name among the installed plugins, or in ``plugins``.

        Raises:
            PluginError: no component, or more than one, has this name; the message says what to do.
            ValueError: ``kind`` is not a kind.
        """
        if kind is not None and kind not in KINDS:
            raise ValueError(f"kind: '{kind}' is not one of {', '.join(KINDS)}")
        plugins = plugins or _installed()
        registered = _find(plugins, name, kind)
        options = dict(registered.component.example or {}) if example is None else dict(example)
        return cls(plugins, registered, options, dict(files or {}), batches, dict(run or {}))

    @property
    def name(self) -> str:
        """The component's name in run files."""
        return self.registered.name

    @property
    def kind(self) -> str:
        """The component's kind."""
        return self.registered.kind

    @property
    def traits(self) -> frozenset[str]:
        """The traits that the component claims."""
        return self.registered.component.traits

    @cached_property
    def signature(self) -> Signature:
        """The signature of the component's factory.

        Raises:
            NotApplicable: the signature cannot be read, which the check ``plugin.signature_is_readable`` reports.
        """
        try:
            return read_signature(self.registered)
        except PluginError as error:
            raise NotApplicable("its signature cannot be read; see plugin.signature_is_readable") from error

    @contextlib.contextmanager
    def folder(self) -> Iterator[Path]:
        """Change to a new folder that contains only the files that the options refer to, and yield it."""
        with tempfile.TemporaryDirectory(prefix="dovetail-testkit-") as name, contextlib.chdir(name):
            for path, content in self.files.items():
                target = Path(path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.encode() if isinstance(content, str) else content)
            yield Path(name)

    @cached_property
    def part(self) -> Part:
        """The checked part of the config that the example describes.

        Raises:
            ConfigError: the example is invalid.
            PluginError: the target cannot be imported.
        """
        return structure_part(self.kind, {"type": self.registered.qualified, **self.example}, self.plugins)

    def build_or_raise(self, **provided: Any) -> Any:
        """Build the component from its example.

        Args:
            provided: values of the run that the check chooses; the kit provides the others.

        Raises:
            BuildError: the factory raises, or a required parameter is neither in the example nor provided.
            ConfigError: the example is invalid.
            PluginError: the target cannot be imported.
        """
        first_error: BuildError | None = None
        for provision in provisions(self.kind):
            try:
                return build(self.part, {**provision, **provided})
            except BuildError as error:
                first_error = first_error or error
        assert first_error is not None, "every kind has at least one provision"
        raise first_error

    def build(self, **provided: Any) -> Any:
        """Build the component from its example, for a check of the built object.

        Raises:
            NotApplicable: the component cannot be built, which the check ``plugin.builds`` reports.
        """
        try:
            return self.build_or_raise(**provided)
        except (BuildError, ConfigError, PluginError) as error:
            raise NotApplicable("it cannot be built; see plugin.builds") from error


def _find(plugins: Plugins, name: str, kind: str | None) -> Registered:
    found = []
    kinds = (kind,) if kind else tuple(KINDS)
    for candidate in kinds:
        with contextlib.suppress(UnknownComponentError):
            found.append(plugins.find(candidate, name))
    if len(found) == 1:
        return found[0]
    if found:
        choices = " or ".join(f'kind="{registered.kind}"' for registered in found)
        raise PluginError(f"'{name}' is the name of several components; pass {choices}")
    if plugins.broken:
        raise PluginError(f"no plugin provides '{name}'; " + "; ".join(map(str, plugins.broken)))
    known = sorted({registered.name for candidate in kinds for registered in plugins.components(candidate)})
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean '{near[0]}'?" if near else "is its package installed (pip install -e .)?"
    raise PluginError(f"no plugin provides '{name}'; {hint}")
