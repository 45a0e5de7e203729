"""The parts of the report's page: each takes records and returns HTML with everything from outside escaped."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any, Final

from dovetail.config.notation import NONE, inline
from dovetail.record.confusion import MOST_DRAWN, ClassFigures, Matrix, class_names, draw, per_class
from dovetail.record.files import RESOLVED
from dovetail.record.markup import escape
from dovetail.record.runs import RunRecord, flat, number, table
from dovetail.record.words import duration, figure, plural, rate, share

#: What each status is called, its sign and its colour.
STATUS: Final = {
    "completed": ("completed", "✓", "good"),
    "stopped_early": ("stopped early", "✓", "good"),
    "out_of_budget": ("out of budget", "◔", "warn"),
    "interrupted": ("interrupted", "‖", "warn"),
    "failed": ("failed", "✗", "bad"),
    "running": ("running", "▸", "calm"),
}
_MOST_CLASSES: Final = 30


def card(content: str) -> str:
    """Return ``content`` on a card."""
    return f'<figure class="card">{content}</figure>'


def header(run: RunRecord) -> str:
    """Return name, status, and what happened in a sentence."""
    word, sign, colour = STATUS.get(run.status, (run.status, "?", "warn"))
    notes = run.data.get("notes")
    parts = [
        f'<header><div class="top"><h1>{escape(run.name)}</h1>',
        f'<span class="status {colour}">{sign} {escape(word)}</span></div>',
        f'<p class="id">{escape(_identity(run))}</p><p class="said">{escape(sentence(run))}</p>',
        f'<p class="reason">{escape(_sentence(run.data["reason"]))}</p>' if run.data.get("reason") else "",
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


def _sentence(reason: object) -> str:
    text = str(reason)
    # A reason that begins with the name of a metric or of a part keeps it as it is.
    first = text.partition(" ")[0].rstrip(":,;")
    begun = text[:1].upper() + text[1:] if first.isalpha() else text
    return f"{begun}{'' if text.endswith(('.', '!', '?')) else '.'}"


def sentence(run: RunRecord) -> str:
    """Return the outcome in one or two sentences."""
    ran = {
        "completed": "Trained",
        "stopped_early": "Stopped early",
        "out_of_budget": "Stopped, out of budget,",
        "interrupted": "Interrupted",
        "failed": "Failed",
        "running": "Still running",
    }.get(run.status, "Ended")
    length, took = _length(run), duration(run.duration or 0.0)
    if run.status == "completed":
        said = f"{ran} {length or 'nothing'} in {took}."
    else:
        said = f"{ran} after {took}{f' ({length})' if length else ''}."
    if run.best:
        where = number(table(run.data.get("best")).get("epoch"))
        at = f" in epoch {int(where)}" if where is not None else ""
        said += f" Best {run.best[0]} {share(*run.best)}{at}."
    headline = _headline(run)
    if headline:
        said += f" On the test split: {headline[0].removeprefix('test_').replace('_', ' ')} {share(*headline)}."
    return said


def _length(run: RunRecord) -> str:
    epochs, steps = number(run.data.get("epochs")), number(run.data.get("steps"))
    said = [plural(int(count), word) for count, word in ((epochs, "epoch"), (steps, "step")) if count]
    return " and ".join(said)


def _headline(run: RunRecord) -> tuple[str, float] | None:
    """Return the test figure that a reader asks for first."""
    names = sorted(run.test, key=lambda name: (name != "test_accuracy", name == "test_loss", name))
    return (names[0], run.test[names[0]]) if names else None


def tiles(run: RunRecord) -> str:
    """Return the key figures."""
    data, sizes = table(run.data.get("data")), table(table(run.data.get("data")).get("sizes"))
    shown: list[tuple[str, str, str]] = []
    headline = _headline(run)
    if headline:
        shown.append((headline[0].replace("_", " "), share(*headline), _of_samples(sizes.get("test"))))
    if run.best:
        epoch = number(table(run.data.get("best")).get("epoch"))
        shown.append((f"best {run.best[0]}", share(*run.best), f"epoch {int(epoch)}" if epoch is not None else ""))
    if run.duration is not None:
        shown.append(("time", duration(run.duration), _length(run)))
    speed = number(run.metrics.get("samples_per_second"))
    if speed is not None:
        shown.append(("samples per second", rate(speed), str(run.data.get("device") or "")))
    parameters = number(run.data.get("parameters"))
    if parameters is not None:
        shown.append(("parameters", f"{int(parameters):,}", str(run.data.get("precision") or "")))
    known = [f"{int(size):,} {name}" for name, one in sizes.items() if (size := number(one)) and name != "train"]
    if (size := number(sizes.get("train"))) is not None:
        shown.append(("training samples", f"{int(size):,}", ", ".join(known)))
    if (classes := number(data.get("num_classes"))) and len(shown) < 6:  # noqa: PLR2004 (one row of a wide page)
        shown.append(("classes", figure(classes), ""))
    if not shown:
        return ""
    cells = "".join(
        f'<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd><dd class="note">{escape(note)}</dd></div>'
        for name, value, note in shown
    )
    return f'<dl class="tiles">{cells}</dl>'


def _of_samples(size: object) -> str:
    count = number(size)
    return f"on {plural(int(count), 'sample')}" if count is not None else ""


def figures_table(run: RunRecord) -> str:
    """Return the last epoch's and the test's figures side by side."""
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
        + "".join(f'<td class="n">{share(base, row[s]) if s in row else "–"}</td>' for s in splits)
        + "</tr>"
        for base, row in sorted(bases.items(), key=lambda pair: (pair[0] != "loss", pair[0]))
    )
    return (
        '<h2>Figures</h2><div class="card"><table>'
        f"<thead><tr><th>figure</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def confusion_sections(matrices: Mapping[str, Matrix], names: object) -> str:
    """Return the confusion matrix of the test split, how each class fared, and the matrices of groups of samples.

    Those of groups are called as the first one is, and have the group after it: ``test_confusion_matrix_load_3``. Where
    there is one group only, it is everything.
    """
    if not matrices:
        return ""
    (first, matrix), *others = matrices.items()
    groups = {
        name.removeprefix(f"{first}_"): one
        for name, one in others
        if name.startswith(f"{first}_") and len(one) == len(matrix) <= MOST_DRAWN
    }
    return _confusion_section(matrix, names) + (_groups_section(groups, names) if len(groups) > 1 else "")


def _groups_section(groups: Mapping[str, Matrix], names: object) -> str:
    """Return a confusion matrix for each group of samples, and how many of it were right."""
    cards = []
    for name, matrix in groups.items():
        total, right = sum(map(sum, matrix)), sum(row[place] for place, row in enumerate(matrix))
        spoken = escape(name.replace("_", " "))
        of = f"{share('accuracy', right / total)} of {plural(total, 'sample')} right" if total else "no samples"
        cards.append(card(f'<h3>{spoken}</h3><p class="muted">{of}</p>{draw(matrix, class_names(matrix, names))}'))
    return f'<h2>Groups, on the test split</h2><div class="charts">{"".join(cards)}</div>'


def _confusion_section(matrix: Matrix, names: object) -> str:
    """Return the confusion matrix of the test split and how each class fared."""
    known = class_names(matrix, names)
    classes = per_class(matrix, known)
    picture = f'<div class="card">{draw(matrix, known)}</div>' if len(matrix) <= MOST_DRAWN else ""
    worst = sorted(classes, key=lambda one: (one.recall is None, one.recall))[:_MOST_CLASSES]
    listed = classes if len(classes) <= _MOST_CLASSES else worst
    note = (
        f'<p class="muted">The {len(listed)} of {len(classes)} classes with the lowest recall.</p>'
        if listed is worst
        else ""
    )
    rows = "".join(map(_class_row, listed))
    head = (
        '<tr><th>class</th><th class="n">samples</th><th class="n">recall</th><th class="b"></th>'
        '<th class="n">precision</th><th>mistaken for</th></tr>'
    )
    figures = f'<div class="card"><table class="classes"><thead>{head}</thead><tbody>{rows}</tbody></table>{note}</div>'
    return f'<h2>Classes, on the test split</h2><div class="{"wide" if picture else ""}">{picture}{figures}</div>'


def _class_row(one: ClassFigures) -> str:
    recall = "–" if one.recall is None else f"{100 * one.recall:.1f} %"
    precision = "–" if one.precision is None else f"{100 * one.precision:.1f} %"
    wrong = f"{escape(one.mistaken_for[0])} ({one.mistaken_for[1]:,}×)" if one.mistaken_for else ""
    bar = f'<span class="bar"><i style="width:{100 * (one.recall or 0):.1f}%"></i></span>'
    return (
        f'<tr><td>{escape(one.name)}</td><td class="n">{one.support:,}</td><td class="n">{recall}</td>'
        f'<td class="b">{bar}</td><td class="n">{precision}</td><td class="muted">{wrong}</td></tr>'
    )


def settings_section(config: Mapping[str, Any], origins: Mapping[str, Any]) -> str:
    """Return the config with where each value came from: what the run sets, then the defaults."""
    values = flat(config)
    if not values:
        return ""
    written = {path: value for path, value in values.items() if str(origins.get(path, "")) not in {"", "default"}}
    defaults = {path: value for path, value in values.items() if path not in written}
    parts = ["<h2>Configuration</h2>", '<div class="card">']
    if written:
        parts.append(_settings("What this run sets", written, origins, is_open=True))
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
        '<table class="settings"><thead><tr><th>key</th><th>value</th><th>from</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></details>"
    )


def _toml(value: object) -> str:
    try:
        return "not set" if value == NONE else inline(value)
    except TypeError:
        return str(value)


def environment_section(run: RunRecord) -> str:
    """Return versions, machine, data and code."""
    versions = dict(table(run.data.get("versions")))
    plugins = table(versions.pop("plugins", None))
    git, data = table(run.data.get("git")), table(run.data.get("data"))
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
        return ", ".join(f"{key} {one}" for key, one in value.items())
    return str(value)


def reproduce_section(run: RunRecord) -> str:
    """Return the commands that repeat the run."""
    command = run.data.get("command")
    started = shlex.join(map(str, command)) if isinstance(command, list) and command else ""
    exact = shlex.join(["dovetail", "run", str(run.folder / RESOLVED)])
    parts = ["<h2>Run it again</h2>", '<div class="card">']
    if started:
        parts.append(f"<p>As it was started:</p><pre>{escape(started)}</pre>")
    parts.append(f"<p>With every value as it was then, defaults included:</p><pre>{escape(exact)}</pre>")
    return "".join([*parts, "</div>", "<footer>Written by Dovetail from the records beside this file.</footer>"])
