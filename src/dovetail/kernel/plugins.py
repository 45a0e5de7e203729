"""The plugins of an installation: loading, blocking, ordering and containing them, and looking components up.

A plugin that fails to import, misspells a hook or raises while it lists its components becomes a
:class:`~dovetail.kernel.component.Broken`; the others work without it. An unknown or ambiguous name raises an error
that says what to do.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import threading
from collections.abc import Collection, Iterator
from typing import ClassVar, Final, Literal, Self

from attrs import evolve, field, frozen

from dovetail.kernel.component import Broken, Component, PluginError
from dovetail.kernel.discovery import EntryPoint, installed_entry_points, left_out, normalize
from dovetail.kernel.kind import Kinds
from dovetail.kernel.manager import HookManager

#: Seconds after which a message names the plugin that is still being imported.
SLOW_IMPORT: Final = 5.0


class UnknownComponentError(PluginError):
    """No plugin offers a component of this kind and name."""

    def __init__(self, kind: str, name: str, known: list[str], hint: str = "", broken: Collection[Broken] = ()) -> None:
        """Keep the name, the known ones, and the plugins that might have offered it."""
        self.kind, self.name, self.known, self.hint = kind, name, known, hint
        import difflib  # only to explain an unknown name

        near = difflib.get_close_matches(name, known, 1)
        advice = hint or (f"did you mean '{near[0]}'?" if near else f"there is {', '.join(known) or 'none installed'}")
        failed = "".join(f"; {plugin}" for plugin in broken)
        super().__init__(f"unknown {kind} '{name}'; {advice}{failed}")


class AmbiguousComponentError(PluginError):
    """Several distributions offer a component of this kind and name."""

    def __init__(self, kind: str, name: str, providers: list[Registered]) -> None:
        """Keep the providers."""
        self.kind, self.name, self.providers = kind, name, providers
        offered_by = " and ".join(f"{each.distribution} {each.version}".rstrip() for each in providers)
        choices = " or ".join(f'type = "{each.qualified}"' for each in providers)
        super().__init__(f"{kind} '{name}' is offered by {offered_by}; choose with {choices}")


@frozen
class Registered:
    """A component and the plugin that offers it."""

    component: Component
    kind: str
    distribution: str
    version: str
    entry_point: str
    #: The table that ``kind`` is in.
    kinds: Kinds = field(repr=False, eq=False)

    @property
    def name(self) -> str:
        """The component's name."""
        return self.component.name

    @property
    def qualified(self) -> str:
        """The unambiguous name: ``"distribution:name"``."""
        return f"{self.distribution}:{self.name}"


@frozen
class Plugin:
    """A plugin module that was found, and its state."""

    distribution: str
    version: str
    entry_point: str
    module: str
    #: ``"loaded"``, ``"blocked"`` or ``"broken"``.
    state: str = "loaded"
    #: Warnings for the user: prints at import, imports torch at import.
    remarks: tuple[str, ...] = ()


class PluginRegistry:
    """Installed plugins, the components they offer, and the plugins that are broken.

    The components of a kind are collected when that kind is first needed, one plugin at a time. A subclass sets
    :attr:`kinds` and :attr:`hooks`.
    """

    #: The kinds that plugins may offer, and the class that declares their registration hooks.
    kinds: ClassVar[Kinds]
    hooks: ClassVar[type]

    def __init__(self, *, strict: bool = False) -> None:
        """Start empty. With ``strict``, a broken plugin raises :class:`PluginError`."""
        self.strict = strict
        self.plugins: list[Plugin] = []
        self.broken: list[Broken] = []
        self._manager = HookManager(self.hooks)
        self._origin: dict[str, Plugin] = {}
        self._components: dict[str, list[Registered]] = {}

    @classmethod
    def discover(cls, blocked: Collection[str] | Literal[True] = (), *, strict: bool = False) -> Self:
        """Import the modules of all installed plugins, in the order of (distribution, entry point).

        Args:
            blocked: distributions or entry points that are not imported; True blocks all but Dovetail's own. The
                environment variable ``DOVETAIL_NO_PLUGINS`` adds to it: names separated by commas, or ``all``.
            strict: raise at the first broken plugin.
        """
        plugins = cls(strict=strict)
        barred, all_barred = left_out(blocked)
        entries = installed_entry_points()
        with _Watchdog() as watchdog:
            for entry in entries:
                own = entry.distribution == "dovetail"
                if {entry.distribution, normalize(entry.name)} & barred or (all_barred and not own):
                    plugins.plugins.append(_plugin(entry, "blocked"))
                else:
                    watchdog.current = entry
                    plugins._load(entry)
        return plugins

    def register(self, module: object, *, distribution: str, entry_point: str = "", version: str = "") -> None:
        """Add a plugin that is not installed: a module, or any object with registration hooks."""
        name = entry_point or getattr(module, "__name__", type(module).__name__)
        self._add(EntryPoint(normalize(distribution), name, name, version), module)

    def components(self, kind: str) -> list[Registered]:
        """Return every component of ``kind``, sorted by name and distribution."""
        if kind not in self._components:
            self._components[kind] = sorted(
                self._collect(kind), key=lambda registered: (registered.name, registered.distribution)
            )
        return self._components[kind]

    def find(self, kind: str, name: str) -> Registered:
        """Return the component of ``kind`` named ``name``, which may be ``"distribution:name"``.

        Raises:
            UnknownComponentError: no plugin offers it; the message suggests a near name, or a package to install.
            AmbiguousComponentError: several distributions offer it, and the name does not say which one is meant.
        """
        distribution, _, plain = name.rpartition(":")
        offered = self.components(kind)
        wanted = normalize(distribution)
        found = [each for each in offered if each.name == plain and wanted in {"", each.distribution}]
        if len(found) == 1:
            return found[0]
        if found:
            raise AmbiguousComponentError(kind, name, found)
        known = sorted({each.name for each in offered})
        raise UnknownComponentError(kind, name, known, self._hint(kind, plain), self.broken)

    def versions(self) -> dict[str, str]:
        """Return the version of every distribution whose plugins are loaded."""
        return {plugin.distribution: plugin.version for plugin in self.plugins if plugin.state == "loaded"}

    def unmet(self, requirement: str) -> str | None:
        """Return why a requirement such as ``"dovetail-signals>=1.2"`` is not met, or None if it is."""
        from packaging.requirements import InvalidRequirement, Requirement  # only for runs with requirements

        try:
            wanted = Requirement(requirement)
        except InvalidRequirement:
            return f"'{requirement}' is not a requirement; write for instance \"dovetail-signals>=1.2\""
        state = {plugin.distribution: plugin.state for plugin in self.plugins}.get(normalize(wanted.name))
        if state is None:
            return f"{wanted.name} is not installed; pip install '{requirement}'"
        if state != "loaded":
            return f"{wanted.name} is installed but {state}"
        version = self.versions()[normalize(wanted.name)]
        if not wanted.specifier.contains(version, prereleases=True):
            return f"{wanted.name} {version} is installed; pip install '{requirement}'"
        return None

    def _load(self, entry: EntryPoint) -> None:
        printed = io.StringIO()
        with_torch = "torch" in sys.modules
        try:
            # Text that a plugin prints at import must not end up in JSON output.
            with contextlib.redirect_stdout(printed):
                module_name, _, attribute = entry.value.partition(":")
                module: object = importlib.import_module(module_name)
                for name in filter(None, attribute.split(".")):
                    module = getattr(module, name)
        except (Exception, SystemExit) as error:  # noqa: BLE001 (a plugin may raise anything, and is contained)
            self._contain(entry, error)
            return
        remarks: tuple[str, ...] = ()
        if printed.getvalue():
            remarks += ("prints at import",)
        if not with_torch and "torch" in sys.modules:
            remarks += ("imports torch at import, which slows every command",)
        self._add(entry, module, remarks)

    def _add(self, entry: EntryPoint, module: object, remarks: tuple[str, ...] = ()) -> None:
        key = f"{entry.distribution}:{entry.name}"
        try:
            self._manager.add(module, key)
        except (PluginError, ValueError) as error:
            self._contain(entry, error)
            return
        plugin = evolve(_plugin(entry, "loaded"), remarks=remarks)
        self.plugins.append(plugin)
        self._origin[key] = plugin
        self._components.clear()

    def _collect(self, kind: str) -> Iterator[Registered]:
        for impl in list(getattr(self._manager.hook, self.kinds[kind].hook).get_hookimpls()):
            plugin = self._origin[impl.plugin_name]
            try:
                offered = list(impl.function())
                wrong = next((each for each in offered if not isinstance(each, Component)), None)
                if wrong is not None:
                    raise TypeError(  # noqa: TRY301 (contained like any other failure of the plugin)
                        f"{self.kinds[kind].hook} must yield Component, got {type(wrong).__name__}"
                    )
            except (Exception, SystemExit) as error:  # noqa: BLE001 (as above)
                self.plugins.remove(plugin)
                self._manager.unregister(impl.plugin)
                self._components.clear()
                entry = EntryPoint(plugin.distribution, plugin.entry_point, plugin.module, plugin.version)
                self._contain(entry, error)
                continue
            for component in offered:
                yield Registered(component, kind, plugin.distribution, plugin.version, plugin.entry_point, self.kinds)

    def _contain(self, entry: EntryPoint, error: BaseException) -> None:
        broken = Broken(entry.distribution, entry.name, error)
        self.broken.append(broken)
        self.plugins.append(_plugin(entry, "broken"))
        if self.strict:
            raise PluginError(str(broken)) from error

    def _hint(self, kind: str, name: str) -> str:
        """Return where a component that no plugin offers may come from."""
        for other in self.kinds:
            if other != kind and any(each.name == name for each in self.components(other)):
                return f"'{name}' is a {other}, not a {kind}"
        prefix = name.partition(".")[0]
        if "." in name:
            distribution = _first_party().get(prefix)
            states = {plugin.distribution: plugin.state for plugin in self.plugins}
            if distribution and distribution not in states:
                return f"'{name}' comes with {distribution}: pip install {distribution}"
            if distribution and states[distribution] == "blocked":
                return f"'{name}' comes with {distribution}, which is blocked"
        return ""


def _plugin(entry: EntryPoint, state: str) -> Plugin:
    return Plugin(entry.distribution, entry.version, entry.name, entry.value, state)


def _first_party() -> dict[str, str]:
    """Return the first-party distribution of each prefix, installed or not."""
    import json  # slow to import with importlib.resources: only to explain an unknown name
    from importlib import resources

    text = resources.files("dovetail.kernel").joinpath("first_party.json").read_text(encoding="utf-8")
    prefixes: dict[str, str] = json.loads(text)
    return prefixes


class _Watchdog:
    """Names a plugin whose import hangs, on standard error."""

    def __init__(self) -> None:
        self.current: EntryPoint | None = None
        self._timer = threading.Timer(SLOW_IMPORT, self._report)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _report(self) -> None:
        if self.current:
            sys.stderr.write(
                f"dovetail: still importing plugin '{self.current.name}' of {self.current.distribution} after "
                f"{SLOW_IMPORT:g} s; DOVETAIL_NO_PLUGINS={self.current.distribution} blocks it\n"
            )
