"""Run files for one component: its table in an otherwise minimal config, and a tiny run that trains with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dovetail.config.check import check_config
from dovetail.config.compose import compose
from dovetail.config.diagnostics import ConfigError
from dovetail.kernel.build import BuildError
from dovetail.kernel.component import PluginError
from dovetail.testkit.registry import NotApplicable, fail

if TYPE_CHECKING:
    from dovetail.config.schema import RunConfig
    from dovetail.kernel.build import Part
    from dovetail.monitor.alerts import Alert
    from dovetail.spec.plugins import Plugins
    from dovetail.testkit.subject import Subject
    from dovetail.train.state import Outcome

#: The path of a component's table in a run file, by kind. Profiles and commands have no table.
PLACES: Final[Mapping[str, tuple[str, ...]]] = {
    "callback": ("callbacks", "checked"),
    "collator": ("collator",),
    "dataset": ("data",),
    "loss": ("loss",),
    "metric": ("metrics", "checked"),
    "model": ("model",),
    "optimizer": ("optimizer",),
    "scheduler": ("scheduler",),
    "storage": ("checkpoint", "copy_to"),
    "tracker": ("trackers", "checked"),
    "trainer": ("trainer",),
    "transform": ("transforms", "checked"),
}
#: The tables that every run file must have. They are checked, but not built.
_REQUIRED: Final = {
    "data": {"type": "dovetail:digits"},
    "model": {"type": "dovetail:mlp"},
    "loss": {"type": "dovetail:cross_entropy"},
}
_ROWS: Final = 24
_EPOCHS: Final = 2


def run_file(kind: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a complete run file, as plain tables, with ``table`` as the table of a component of ``kind``."""
    tables: dict[str, Any] = {name: dict(required) for name, required in _REQUIRED.items()}
    *sections, last = PLACES[kind]
    inner = tables
    for section in sections:
        inner = inner.setdefault(section, {})
    inner[last] = dict(table)
    return tables


def structure_file(tables: Mapping[str, Any], plugins: Plugins) -> RunConfig:
    """Return the checked config of a complete run file.

    Raises:
        ConfigError: the run file is invalid.
        PluginError: a target that it refers to cannot be imported.
    """
    tree = compose(None, profile=None, overrides=(), installed_profiles={}, base=dict(tables))
    return check_config(tree, plugins)


def structure_part(kind: str, table: Mapping[str, Any], plugins: Plugins) -> Part:
    """Return the checked part that ``table`` describes.

    Raises:
        ConfigError: the table is invalid.
        PluginError: its target cannot be imported.
    """
    section: Any = structure_file(run_file(kind, table), plugins)
    for name in PLACES[kind]:
        section = section[name] if isinstance(section, Mapping) else getattr(section, name)
    part: Part = section
    return part


def tiny_run(subject: Subject) -> Outcome:
    """Train with the component for two epochs on a table of 24 rows, and return the outcome.

    Raises:
        NotApplicable: the component cannot be built.
        CheckFailed: the run failed; the message says why.
    """
    from dovetail.main import run
    from dovetail.train.checks.own_generators import UNSAVED
    from dovetail.train.hooks import TRACKER_FAILED

    rows = "".join(f"{row % 5},{(row * 7) % 11},{row % 2}\n" for row in range(_ROWS))
    Path("tiny.csv").write_text(f"first,second,label\n{rows}", encoding="utf-8")
    table = {"type": subject.registered.qualified, **subject.example}
    tables: dict[str, Any] = {
        **run_file(subject.kind, table),
        "run": {"name": "tiny", "seed": 3},
        "data": {
            "type": "dovetail:csv",
            "path": "tiny.csv",
            "target": "label",
            "split": {"train": 0.5, "validation": 0.25, "test": 0.25},
        },
        "model": {"type": "dovetail:mlp", "hidden_dims": [4]},
        "loader": {"batch_size": 5},
        "training": {"max_epochs": _EPOCHS},
        "hardware": {"device": "cpu"},
        "logging": {"console": False},
        "report": {"enabled": False},
        **{name: dict(section) for name, section in subject.run.items()},
    }
    try:
        alerts = _Alerts()
        outcome = run(structure_file(tables, subject.plugins), listeners=[alerts])
    except (BuildError, ConfigError, PluginError) as error:
        raise NotApplicable(f"it cannot be used in the kit's tiny run: {error}") from error
    if outcome.error is not None:
        advice = "" if subject.run else ". If it needs another model or other data, pass conformance() run="
        fail(f"a tiny run with it failed: {type(outcome.error).__name__}: {outcome.error}{advice}")
    for alert in alerts.seen:
        if alert.type == TRACKER_FAILED:
            fail(f"it failed in a tiny run: {alert.details['error']}: {alert.message}")
        if alert.type == UNSAVED:
            fail(f"in a tiny run, {alert.message}.")
    return outcome


class _Alerts:
    """Collects the alerts of a run, the only sign that a tracker failed."""

    def __init__(self) -> None:
        self.seen: list[Alert] = []

    def dovetail_alert(self, alert: Alert) -> None:
        self.seen.append(alert)
