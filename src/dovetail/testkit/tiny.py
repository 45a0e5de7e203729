"""A whole run of a tiny problem, for parts that can only be tried inside one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dovetail.config.diagnostics import ConfigError
from dovetail.kernel.build import BuildError
from dovetail.kernel.component import PluginError
from dovetail.testkit.registry import NotApplicable, fail
from dovetail.testkit.tables import run_file, structure_file

if TYPE_CHECKING:
    from dovetail.monitor.alerts import Alert
    from dovetail.testkit.subject import Subject
    from dovetail.train.state import Outcome

_ROWS: Final = 24
_EPOCHS: Final = 2


def tiny_run(subject: Subject) -> Outcome:
    """Train for two epochs on 24 rows of a table, with the component in its place, and return how it ended.

    Raises:
        NotApplicable: the component cannot be built.
        CheckFailed: the run failed; says why.
    """
    from dovetail.main import run
    from dovetail.train.checkpoints.unsaved import UNSAVED
    from dovetail.train.hooks import TRACKER_FAILED

    rows = "".join(f"{row % 5},{(row * 7) % 11},{row % 2}\n" for row in range(_ROWS))
    Path("tiny.csv").write_text(f"first,second,label\n{rows}", encoding="utf-8")
    table = {"type": subject.registered.qualified, **subject.example}
    whole: dict[str, Any] = {
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
        outcome = run(structure_file(whole, subject.plugins), listeners=[alerts])
    except (BuildError, ConfigError, PluginError) as error:
        raise NotApplicable(f"it cannot take part in the kit's tiny run: {error}") from error
    if outcome.error is not None:
        advice = "" if subject.run else ". Where it needs another model or other data, give conformance() run="
        fail(f"a tiny run with it failed: {type(outcome.error).__name__}: {outcome.error}{advice}")
    for alert in alerts.seen:
        if alert.type == TRACKER_FAILED:
            fail(f"in a tiny run it failed: {alert.details['error']}: {alert.message}")
        if alert.type == UNSAVED:
            fail(f"in a tiny run, {alert.message}.")
    return outcome


class _Alerts:
    """Keeps the alerts of a run; a tracker that fails shows itself there alone."""

    def __init__(self) -> None:
        self.seen: list[Alert] = []

    def dovetail_alert(self, alert: Alert) -> None:
        self.seen.append(alert)
