"""The sections of the report: each takes a run's record and returns HTML, with all text from the run escaped."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from dovetail.config.notation import NONE, inline
from dovetail.record.formatting import (
    format_duration,
    format_metric,
    format_number,
    format_rate,
    headline,
    plural,
)
from dovetail.record.layout import ALERTS, RESOLVED
from dovetail.record.report.markup import escape
from dovetail.record.runs import RunRecord, as_number, as_table, flat, read_events

#: The words, sign and colour of each status.
_STATUS: Final = {
    "completed": ("completed", "✓", "good"),
    "stopped_early": ("stopped early", "✓", "good"),
    "out_of_budget": ("out of budget", "◔", "warn"),
    "interrupted": ("interrupted", "‖", "warn"),
    "failed": ("failed", "✗", "bad"),
    "running": ("running", "▸", "calm"),
}
_MOST_ALERTS: Final = 50


def header(run: RunRecord) -> str:
    """Return the run's name and status, and a sentence about its outcome."""
    status, sign, colour = _STATUS.get(run.status, (run.status, "?", "warn"))
    notes = run.data.get("notes")
    parts = [
        f'<header><div class="top"><h1>{escape(run.name)}</h1>',
        f'<span class="status {colour}">{sign} {escape(status)}</span></div>',
        f'<p class="id">{escape(_identity(run))}</p><p class="outcome">{escape(_outcome(run))}</p>',
        f'<p class="reason">{escape(_as_sentence(run.data["reason"]))}</p>' if run.data.get("reason") else "",
    ]
    if run.status == "failed":
        parts.append('<p class="aside">The traceback is in <code>log.txt</code>.</p>')
    if notes:
        parts.append(f'<p class="aside">Notes: {escape(notes)}</p>')
    return "".join([*parts, "</header>"])


def _identity(run: RunRecord) -> str:
    experiment = f"experiment {run.data['experiment']}" if run.data.get("experiment") else ""
    started = f"started {run.started[:19].replace('T', ' ')} UTC" if run.started else ""
    return " · ".join(filter(None, [run.id, experiment, started]))


def _as_sentence(reason: object) -> str:
    text = str(reason)
    # A reason that starts with the name of a metric or part, such as val_loss, keeps its case.
    first = text.partition(" ")[0].rstrip(":,;")
    sentence = text[:1].upper() + text[1:] if first.isalpha() else text
    return f"{sentence}{'' if text.endswith(('.', '!', '?')) else '.'}"


def _outcome(run: RunRecord) -> str:
    """Return the outcome in one or two sentences."""
    verb = {
        "completed": "Trained",
        "stopped_early": "Stopped early",
        "out_of_budget": "Out of budget",
        "interrupted": "Interrupted",
        "failed": "Failed",
        "running": "Still running",
    }.get(run.status, "Ended")
    length, took = _length(run), format_duration(run.duration or 0.0)
    if run.status == "completed":
        text = f"{verb} {length or 'nothing'} in {took}."
    else:
        text = f"{verb} after {took}{f' ({length})' if length else ''}."
    if run.best:
        epoch = as_number(as_table(run.data.get("best")).get("epoch"))
        where = f" in epoch {int(epoch)}" if epoch is not None else ""
        text += f" Best {run.best[0]} {format_metric(*run.best)}{where}."
    tested = headline(run.test)
    if tested:
        text += f" On the test split: {tested[0].removeprefix('test_').replace('_', ' ')} {format_metric(*tested)}."
    return text


def _length(run: RunRecord) -> str:
    epochs, steps = as_number(run.data.get("epochs")), as_number(run.data.get("steps"))
    return " and ".join(plural(int(count), word) for count, word in ((epochs, "epoch"), (steps, "step")) if count)


def tiles(run: RunRecord) -> str:
    """Return tiles with the run's key numbers."""
    data, sizes = as_table(run.data.get("data")), as_table(as_table(run.data.get("data")).get("sizes"))
    shown: list[tuple[str, str, str]] = []
    tested = headline(run.test)
    if tested:
        shown.append((tested[0].replace("_", " "), format_metric(*tested), _of_samples(sizes.get("test"))))
    if run.best:
        epoch = as_number(as_table(run.data.get("best")).get("epoch"))
        shown.append(
            (f"best {run.best[0]}", format_metric(*run.best), f"epoch {int(epoch)}" if epoch is not None else "")
        )
    if run.duration is not None:
        shown.append(("time", format_duration(run.duration), _length(run)))
    speed = as_number(run.metrics.get("samples_per_second"))
    if speed is not None:
        shown.append(("samples per second", format_rate(speed), str(run.data.get("device") or "")))
    parameters = as_number(run.data.get("parameters"))
    if parameters is not None:
        shown.append(("parameters", f"{int(parameters):,}", str(run.data.get("precision") or "")))
    others = [
        f"{int(count):,} {name}" for name, size in sizes.items() if (count := as_number(size)) and name != "train"
    ]
    if (size := as_number(sizes.get("train"))) is not None:
        shown.append(("training samples", f"{int(size):,}", ", ".join(others)))
    if (classes := as_number(data.get("num_classes"))) and len(shown) < 6:  # noqa: PLR2004 (one row of a wide page)
        shown.append(("classes", format_number(classes), ""))
    if not shown:
        return ""
    cells = "".join(
        f'<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd><dd class="note">{escape(note)}</dd></div>'
        for name, value, note in shown
    )
    return f'<dl class="tiles">{cells}</dl>'


def _of_samples(size: object) -> str:
    count = as_number(size)
    return f"on {plural(int(count), 'sample')}" if count is not None else ""


def alerts_section(folder: Path) -> str:
    """Return a table of a run's first alerts, the oldest first; empty if there are none."""
    alerts = [alert for alert in read_events(folder, ALERTS) if alert.get("message")]
    if not alerts:
        return ""
    rows = "".join(
        f'<tr><td class="n">{escape(alert.get("epoch", ""))}</td><td class="n">{escape(alert.get("step", ""))}</td>'
        f"<td>{escape(alert.get('severity', ''))}</td><td>{escape(alert['message'])}</td></tr>"
        for alert in alerts[:_MOST_ALERTS]
    )
    left = len(alerts) - _MOST_ALERTS
    more = f'<p class="muted">and {left:,} more in <code>{ALERTS}</code></p>' if left > 0 else ""
    head = '<th class="n">epoch</th><th class="n">step</th><th>severity</th><th>message</th>'
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<h2>Alerts</h2><div class="card">{table}{more}</div>'


def metrics_table(run: RunRecord) -> str:
    """Return the metrics of the last epoch and of the test side by side."""
    bases: dict[str, dict[str, float]] = {}
    for name, value in {**run.metrics, **run.test}.items():
        split, _, base = name.partition("_")
        if split in {"train", "val", "test"}:
            bases.setdefault(base, {})[split] = value
    if not bases:
        return ""
    splits = [split for split in ("train", "val", "test") if any(split in row for row in bases.values())]
    words = {"train": "training, last epoch", "val": "validation, last epoch", "test": "test"}
    head = "".join(f'<th class="n">{words[split]}</th>' for split in splits)
    rows = "".join(
        f"<tr><td>{escape(base.replace('_', ' '))}</td>"
        + "".join(f'<td class="n">{format_metric(base, row[split]) if split in row else "–"}</td>' for split in splits)
        + "</tr>"
        for base, row in sorted(bases.items(), key=lambda pair: (pair[0] != "loss", pair[0]))
    )
    return (
        '<h2>Metrics</h2><div class="card"><table>'
        f"<thead><tr><th>metric</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def settings_section(config: Mapping[str, Any], origins: Mapping[str, Any]) -> str:
    """Return the config with the origin of each value: first the values this run sets, then the defaults."""
    values = flat(config)
    if not values:
        return ""
    written = {path: value for path, value in values.items() if str(origins.get(path, "")) not in {"", "default"}}
    defaults = {path: value for path, value in values.items() if path not in written}
    parts = ["<h2>Configuration</h2>", '<div class="card">']
    if written:
        parts.append(_settings("Set for this run", written, origins, is_open=True))
    if defaults:
        parts.append(_settings("Defaults" if written else "Values", defaults, origins, is_open=not written))
    return "".join([*parts, "</div>"])


def _settings(title: str, values: Mapping[str, Any], origins: Mapping[str, Any], *, is_open: bool) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(path)}</code></td><td><code>{escape(_toml(value))}</code></td>"
        f"<td>{escape(origins.get(path, ''))}</td></tr>"
        for path, value in values.items()
    )
    opened = ' open="open"' if is_open else ""
    return (
        f'<details{opened}><summary>{title} <span class="muted">({len(values)})</span></summary>'
        '<table class="settings"><thead><tr><th>key</th><th>value</th><th>origin</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></details>"
    )


def _toml(value: object) -> str:
    try:
        return "not set" if value == NONE else inline(value)
    except TypeError:
        return str(value)


def environment_section(run: RunRecord) -> str:
    """Return the versions, machine, data and code of the run."""
    versions = dict(as_table(run.data.get("versions")))
    plugins = as_table(versions.pop("plugins", None))
    git, data = as_table(run.data.get("git")), as_table(run.data.get("data"))
    commit = str(git.get("commit") or "")
    rows = {
        **{name: value for name, value in versions.items() if value},
        **{name: f"{value} (plugin)" for name, value in plugins.items() if name != "dovetail"},
        "device": run.data.get("device"),
        "precision": run.data.get("precision"),
        "seed": run.data.get("seed"),
        "host": run.data.get("host"),
        "git commit": commit + (" with uncommitted changes" if git.get("dirty") else ""),
        "data fingerprint": data.get("fingerprint"),
        "config hash": run.data.get("config_hash"),
    }
    cells = "".join(
        f"<tr><td>{escape(name)}</td><td><code>{escape(_plain(value))}</code></td></tr>"
        for name, value in rows.items()
        if value is not None and value != ""
    )
    return f'<h2>Environment</h2><div class="card"><table class="facts"><tbody>{cells}</tbody></table></div>'


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {inner}" for key, inner in value.items())
    return str(value)


def reproduce_section(run: RunRecord) -> str:
    """Return the commands that repeat the run."""
    command = run.data.get("command")
    started = shlex.join(map(str, command)) if isinstance(command, list) and command else ""
    exact = shlex.join(["dovetail", "run", str(run.folder / RESOLVED)])
    parts = ["<h2>Repeat this run</h2>", '<div class="card">']
    if started:
        parts.append(f"<p>With the command that started it:</p><pre>{escape(started)}</pre>")
    parts.append(f"<p>With exactly the same settings, defaults included:</p><pre>{escape(exact)}</pre>")
    return "".join([*parts, "</div>", "<footer>Written by Dovetail from the records in this folder.</footer>"])
