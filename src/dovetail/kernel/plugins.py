"""The plugins of this installation: a typed face over pluggy that contains, blocks, orders and explains.

A plugin that fails to import, misspells a hook or breaks while it lists its components is set aside as
:class:`~dovetail.kernel.component.Broken` and spoils nothing else. Names are looked up here,
and every answer that is not the component says what to do.
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

#: Seconds after which the user is told which plugin is still being imported.
SLOW_IMPORT: Final = 5.0


class UnknownComponentError(PluginError):
    """No plugin offers a component of this kind and name."""

    def __init__(self, kind: str, name: str, known: list[str], hint: str = "", broken: Collection[Broken] = ()) -> None:
        """Keep what was looked for, what there is, and which plugins might have had it."""
        self.kind, self.name, self.known, self.hint = kind, name, known, hint
        import difflib  # only to explain an unknown name

        near = difflib.get_close_matches(name, known, 1)
        meant = hint or (f"did you mean '{near[0]}'?" if near else f"there is {', '.join(known) or 'none installed'}")
        excuses = "".join(f"; {one}" for one in broken)
        super().__init__(f"unknown {kind} '{name}'; {meant}{excuses}")


class AmbiguousComponentError(PluginError):
    """Several distributions offer a component of this kind and name."""

    def __init__(self, kind: str, name: str, providers: list[Registered]) -> None:
        """Keep who offers it."""
        self.kind, self.name, self.providers = kind, name, providers
        who = " and ".join(f"{one.distribution} {one.version}".rstrip() for one in providers)
        choices = " or ".join(f'type = "{one.qualified}"' for one in providers)
        super().__init__(f"{kind} '{name}' is offered by {who}; choose with {choices}")


@frozen
class Registered:
    """A component together with who offers it."""

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
        """The name that no other distribution can take: ``"distribution:name"``."""
        return f"{self.distribution}:{self.name}"


@frozen
class Plugin:
    """A plugin module that was found, and what became of it."""

    distribution: str
    version: str
    entry_point: str
    module: str
    #: ``"loaded"``, ``"blocked"`` or ``"broken"``.
    state: str = "loaded"
    #: What a user should know: printed at import, imports torch at import.
    remarks: tuple[str, ...] = ()


class PluginRegistry:
    """What is installed: plugins, the components they offer, and those that are broken.

    Components of a kind are asked for when that kind is first needed, one plugin at a time.
    """

    #: The kinds that plugins may offer, and the class that declares their registration hooks.
    kinds: ClassVar[Kinds]
    hooks: ClassVar[type]

    def __init__(self, *, strict: bool = False) -> None:
        """Start empty. With ``strict``, a broken plugin raises :class:`PluginError` instead of being set aside."""
        self.strict = strict
        self.plugins: list[Plugin] = []
        self.broken: list[Broken] = []
        self._manager = HookManager(self.hooks)
        self._origin: dict[str, Plugin] = {}
        self._components: dict[str, list[Registered]] = {}

    @classmethod
    def discover(cls, blocked: Collection[str] | Literal[True] = (), *, strict: bool = False) -> Self:
        """Import the descriptor modules of all installed plugins, in the order of (distribution, entry point).

        Args:
            blocked: distributions or entry points to leave out before anything of theirs is imported; True
                leaves out all but Dovetail's own. The environment variable ``DOVETAIL_NO_PLUGINS`` adds to
                it: names with commas, or ``all``.
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
        """Add a plugin that is not installed: a module or any object with registration hooks."""
        name = entry_point or getattr(module, "__name__", type(module).__name__)
        self._add(EntryPoint(normalize(distribution), name, name, version), module)

    def components(self, kind: str) -> list[Registered]:
        """Return every component of ``kind``, sorted by name and distribution."""
        if kind not in self._components:
            self._components[kind] = sorted(self._collect(kind), key=lambda one: (one.name, one.distribution))
        return self._components[kind]

    def find(self, kind: str, name: str) -> Registered:
        """Return the component of ``kind`` that ``name``, plain or ``"distribution:name"``, stands for.

        Raises:
            UnknownComponentError: nobody offers it; says what is near, or which package to install.
            AmbiguousComponentError: several distributions do, and the name does not say whose.
        """
        distribution, _, plain = name.rpartition(":")
        offered = self.components(kind)
        wanted = normalize(distribution)
        found = [one for one in offered if one.name == plain and wanted in {"", one.distribution}]
        if len(found) == 1:
            return found[0]
        if found:
            raise AmbiguousComponentError(kind, name, found)
        known = sorted({one.name for one in offered})
        raise UnknownComponentError(kind, name, known, self._hint(kind, plain), self.broken)

    def versions(self) -> dict[str, str]:
        """Return the version of every distribution whose plugins are loaded."""
        return {one.distribution: one.version for one in self.plugins if one.state == "loaded"}

    def unmet(self, requirement: str) -> str | None:
        """Say what is wrong with a demand such as ``"dovetail-signals>=1.2"``, or None where it is met."""
        from packaging.requirements import InvalidRequirement, Requirement  # needed only by runs that demand

        try:
            wanted = Requirement(requirement)
        except InvalidRequirement:
            return f"'{requirement}' is not a requirement; write for instance \"dovetail-signals>=1.2\""
        state = {one.distribution: one.state for one in self.plugins}.get(normalize(wanted.name))
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
            # What a plugin prints at import must not end up in somebody's JSON.
            with contextlib.redirect_stdout(printed):
                module_name, _, attribute = entry.value.partition(":")
                module: object = importlib.import_module(module_name)
                for name in filter(None, attribute.split(".")):
                    module = getattr(module, name)
        except (Exception, SystemExit) as error:  # noqa: BLE001 (containing whatever a stranger's module raises is the point)
            self._set_aside(entry, error)
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
            self._set_aside(entry, error)
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
                wrong = next((one for one in offered if not isinstance(one, Component)), None)
                if wrong is not None:
                    msg = f"{self.kinds[kind].hook} must yield Component, got {type(wrong).__name__}"
                    raise TypeError(msg)  # noqa: TRY301 (contained like any other failure of the plugin)
            except (Exception, SystemExit) as error:  # noqa: BLE001 (as above)
                self.plugins.remove(plugin)
                self._manager.unregister(impl.plugin)
                self._components.clear()
                entry = EntryPoint(plugin.distribution, plugin.entry_point, plugin.module, plugin.version)
                self._set_aside(entry, error)
                continue
            for component in offered:
                yield Registered(component, kind, plugin.distribution, plugin.version, plugin.entry_point, self.kinds)

    def _set_aside(self, entry: EntryPoint, error: BaseException) -> None:
        broken = Broken(entry.distribution, entry.name, error)
        self.broken.append(broken)
        self.plugins.append(_plugin(entry, "broken"))
        if self.strict:
            raise PluginError(str(broken)) from error

    def _hint(self, kind: str, name: str) -> str:
        """Say where a component that nobody offers may come from."""
        for other in self.kinds:
            if other != kind and any(one.name == name for one in self.components(other)):
                return f"'{name}' is a {other}, not a {kind}"
        prefix = name.partition(".")[0]
        if "." in name:
            distribution = _first_party().get(prefix)
            states = {one.distribution: one.state for one in self.plugins}
            if distribution and distribution not in states:
                return f"'{name}' comes with {distribution}: pip install {distribution}"
            if distribution and states[distribution] == "blocked":
                return f"'{name}' comes with {distribution}, which is blocked"
        return ""


def _plugin(entry: EntryPoint, state: str) -> Plugin:
    return Plugin(entry.distribution, entry.version, entry.name, entry.value, state)


def _first_party() -> dict[str, str]:
    """Return which distribution brings the components of which prefix, also of those that are not installed."""
    import json  # with importlib.resources, a fifth of the start-up time: only to explain an unknown name
    from importlib import resources

    text = resources.files("dovetail.kernel").joinpath("first_party.json").read_text(encoding="utf-8")
    prefixes: dict[str, str] = json.loads(text)
    return prefixes


class _Watchdog:
    """Names, on standard error, a plugin whose import hangs: nothing else could tell the user which one it is."""

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
            who = f"plugin '{self.current.name}' of {self.current.distribution}"
            sys.stderr.write(
                f"dovetail: still importing {who} after {SLOW_IMPORT:g} s; "
                f"DOVETAIL_NO_PLUGINS={self.current.distribution} leaves it out\n"
            )
