"""Plugins: found, blocked, contained, ordered, and explained when they are not there."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import types

import pytest

from dovetail.kernel import plugins as plugins_module
from dovetail.kernel.component import Component, PluginError
from dovetail.kernel.plugins import AmbiguousComponentError, UnknownComponentError
from dovetail.spec.kinds import KINDS
from dovetail.spec.plugins import Plugins


def module(**hooks):
    """Return a plugin module that offers the given components: ``losses=["a"]``."""
    made = types.ModuleType("made_up")
    for hook, names in hooks.items():
        setattr(made, f"dovetail_{hook}", lambda names=names: [Component(name, "pathlib:Path") for name in names])
    return made


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that installs a plugin, metadata and module, in a folder on ``sys.path``."""
    monkeypatch.syspath_prepend(tmp_path)
    made = []

    def write(name, source, entry="plugin", version="1.0"):
        info = tmp_path / f"{name}-{version}.dist-info"
        info.mkdir()
        package = name.replace("-", "_")
        (info / "entry_points.txt").write_text(f"[dovetail]\n{entry} = {package}_plugin\n")
        (tmp_path / f"{package}_plugin.py").write_text(textwrap.dedent(source))
        made.append(f"{package}_plugin")

    yield write
    for name in made:
        sys.modules.pop(name, None)


def offering(name):
    """Return the source of a plugin module that offers one loss."""
    return f"""
        from dovetail import Component
        def dovetail_losses():
            yield Component("{name}", "pathlib:Path")
    """


def test_installed_plugin_is_found(install):
    """What an installed package offers is there under its name, with who offers it."""
    install("yourco-losses", offering("yourco.envelope"), version="1.2")
    found = Plugins.discover().find("loss", "yourco.envelope")

    assert (found.distribution, found.version, found.entry_point) == ("yourco-losses", "1.2", "plugin")
    assert found.qualified == "yourco-losses:yourco.envelope"


@pytest.mark.parametrize(
    "source, why",
    [
        ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("import no_such_package_here", "ModuleNotFoundError"),
        ("def dovetail_loses():\n    return []", "did you mean 'dovetail_losses'"),
        ("def dovetail_losses(everything):\n    return []", "everything"),
        ("def dovetail_losses():\n    return ['focal']", "must yield Component, got str"),
        ("def dovetail_losses():\n    yield 1 / 0", "ZeroDivisionError"),
        ("def dovetail_losses():\n    return 3", "not iterable"),
        (
            "import pluggy\n@pluggy.HookimplMarker('dovetail')(wrapper=True)\ndef dovetail_losses():\n    yield",
            "is a wrapper",
        ),
    ],
)
def test_broken_plugin_is_contained_and_named(install, source, why):
    """A plugin that fails at import or at registration is set aside; everybody else's components are still there."""
    install("aaa-bad", source)
    install("zzz-good", offering("zzz.good"))
    plugins = Plugins.discover()

    assert plugins.find("loss", "zzz.good").distribution == "zzz-good"
    broken = next(item for item in plugins.broken if item.distribution == "aaa-bad")
    assert why in str(broken) or why in str(broken.error)
    assert next(item.state for item in plugins.plugins if item.distribution == "aaa-bad") == "broken"
    with pytest.raises(UnknownComponentError, match="aaa-bad"):
        plugins.find("loss", "aaa.envelope")


def test_strict_makes_a_broken_plugin_fatal(install):
    """In CI one wants to hear of it at once."""
    install("aaa-bad", "raise RuntimeError('no licence')")
    with pytest.raises(PluginError, match=r"aaa-bad failed to load .*no licence"):
        Plugins.discover(strict=True)


def test_printing_and_importing_torch_at_import_is_remarked(install, capsys):
    """A plugin that prints does not spoil our output, and one that drags torch in is named for it."""
    install(
        "chatty",
        "print('hello')\nimport sys, types\nsys.modules['torch'] = types.ModuleType('torch')",
    )
    had = sys.modules.pop("torch", None)
    try:
        plugin = next(item for item in Plugins.discover().plugins if item.distribution == "chatty")
    finally:
        sys.modules.pop("torch")
        if had:
            sys.modules["torch"] = had

    assert plugin.remarks == ("prints at import", "imports torch at import, which slows every command")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("blocked", [["aaa-one"], ["AAA_one"], ["plugin"], True])
def test_blocked_before_anything_is_imported(install, blocked):
    """Blocking goes by distribution or entry point, in any spelling, and happens before the import."""
    install("aaa-one", "raise SystemExit('imported')")
    plugins = Plugins.discover(blocked)

    assert plugins.broken == []
    assert next(item.state for item in plugins.plugins if item.distribution == "aaa-one") == "blocked"
    assert "aaa_one_plugin" not in sys.modules


@pytest.mark.parametrize("value", ["aaa-one", "other, aaa_one", "all"])
def test_blocked_by_the_environment(install, monkeypatch, value):
    """The environment variable blocks in every command; 'all' leaves Dovetail's own parts."""
    install("aaa-one", "raise SystemExit('imported')")
    monkeypatch.setenv("DOVETAIL_NO_PLUGINS", value)
    plugins = Plugins.discover()

    assert plugins.broken == []
    assert next(item.state for item in plugins.plugins if item.distribution == "dovetail") == "loaded"


def test_hanging_import_is_named(install, monkeypatch, capfd):
    """While a plugin's import hangs, standard error says whose it is and how to leave it out."""
    monkeypatch.setattr(plugins_module, "SLOW_IMPORT", 0.5)
    # It hangs until it has been told of, and is the first to be imported: no other can be under way by then.
    install("aaa-sleepy", "import threading as t; [each.join() for each in t.enumerate() if isinstance(each, t.Timer)]")
    Plugins.discover()

    assert "still importing plugin 'plugin' of aaa-sleepy" in capfd.readouterr().err


def test_two_providers_of_one_name_are_an_error_only_when_used(install):
    """Both are listed; using the name tells how to choose; the qualified name chooses."""
    install("aaa-one", offering("envelope"))
    install("zzz-two", offering("envelope"))
    plugins = Plugins.discover()

    assert [item.distribution for item in plugins.components("loss") if item.name == "envelope"] == [
        "aaa-one",
        "zzz-two",
    ]
    with pytest.raises(AmbiguousComponentError, match='type = "aaa-one:envelope" or type = "zzz-two:envelope"'):
        plugins.find("loss", "envelope")
    assert plugins.find("loss", "zzz-two:envelope").distribution == "zzz-two"
    with pytest.raises(UnknownComponentError):
        plugins.find("loss", "nobody:envelope")


def test_unknown_names_get_the_nearest_or_the_whole_list():
    """An unknown name is answered with what was meant, or with what there is."""
    plugins = Plugins()
    plugins.register(module(losses=["focal", "huber"], models=["mlp"]), distribution="d")

    with pytest.raises(UnknownComponentError, match="unknown loss 'focl'; did you mean 'focal'"):
        plugins.find("loss", "focl")
    with pytest.raises(UnknownComponentError, match="there is focal, huber"):
        plugins.find("loss", "quite_other")
    with pytest.raises(UnknownComponentError, match="there is none installed"):
        plugins.find("trainer", "standard")
    with pytest.raises(UnknownComponentError, match="'mlp' is a model, not a loss"):
        plugins.find("loss", "mlp")


def test_known_first_party_names_say_what_to_install(monkeypatch):
    """A name of a plugin of ours that is not installed says how to get it; a blocked one says that it is blocked."""
    monkeypatch.setattr(plugins_module, "_first_party", lambda: {"signals": "dovetail-signals"})
    plugins = Plugins()
    with pytest.raises(UnknownComponentError, match="comes with dovetail-signals: pip install dovetail-signals"):
        plugins.find("loss", "signals.frequency_consistency")
    plugins.plugins.append(plugins_module.Plugin("dovetail-signals", "1", "signals", "m", "blocked"))
    with pytest.raises(UnknownComponentError, match="dovetail-signals, which is blocked"):
        plugins.find("loss", "signals.frequency_consistency")


def test_first_party_table_is_readable():
    """The table of first-party prefixes is there and names distributions."""
    assert plugins_module._first_party()["signals"] == "dovetail-signals"


@pytest.mark.parametrize(
    "requirement, answer",
    [
        ("yourco>=1", None),
        ("YourCo", None),
        ("yourco>=2", "yourco 1.5 is installed; pip install 'yourco>=2'"),
        ("missing>=1", "missing is not installed; pip install 'missing>=1'"),
        ("stuck", "stuck is installed but broken"),
        ("not a requirement", "is not a requirement"),
    ],
)
def test_version_demands(requirement, answer):
    """A demand that is not met says what is there and what to type."""
    plugins = Plugins()
    plugins.register(module(losses=["a"]), distribution="yourco", version="1.5")
    plugins.register(module(loses=["a"]), distribution="stuck", version="1.5")

    assert answer == plugins.unmet(requirement) if answer is None else answer in plugins.unmet(requirement)
    assert plugins.versions() == {"yourco": "1.5"}


def test_components_are_asked_for_per_kind_and_kept():
    """A plugin's hook is called when its kind is first needed, and once."""
    calls = []
    plugin = types.SimpleNamespace(dovetail_losses=lambda: calls.append("losses") or [])
    plugins = Plugins()
    plugins.register(plugin, distribution="d", entry_point="e")
    plugins.components("model")
    assert calls == []
    plugins.components("loss")
    plugins.components("loss")
    assert calls == ["losses"]


def test_module_attribute_as_entry_point(tmp_path, monkeypatch):
    """An entry point may name an object inside a module."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "nested-1.dist-info").mkdir()
    (tmp_path / "nested-1.dist-info" / "entry_points.txt").write_text("[dovetail]\np = nested_plugin:Holder.inner\n")
    (tmp_path / "nested_plugin.py").write_text(
        "from dovetail import Component\nclass inner:\n    @staticmethod\n    def dovetail_losses():\n"
        "        return [Component('nested.x', 'a:b')]\nclass Holder:\n    inner = inner\n"
    )

    assert Plugins.discover().find("loss", "nested.x").distribution == "nested"


def test_same_name_twice_is_refused():
    """Registering one plugin twice under one name is set aside as broken rather than doubled."""
    plugins = Plugins()
    for _ in range(2):
        plugins.register(module(losses=["a"]), distribution="d")

    assert len(plugins.broken) == 1
    assert len(plugins.components("loss")) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_our_own_parts_come_the_same_way(kind):
    """Dovetail's parts are found through its entry point, like anybody's."""
    for found in Plugins.discover().components(kind):
        assert found.kind == kind
        assert found.component.summary


def test_discovery_never_imports_torch():
    """Finding and listing every component of every kind leaves torch alone."""
    code = (
        "import sys; from dovetail.spec.plugins import Plugins; from dovetail.spec.kinds import KINDS;"
        "p = Plugins.discover(); [p.components(k) for k in KINDS]; print('torch' in sys.modules, len(p.broken))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False 0"
