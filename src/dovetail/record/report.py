"""``report.html``: one file that shows a run to a person, wherever it is opened.

It holds everything itself: no script, no font, no picture from elsewhere, and a content policy that forbids them. All
text that a run, its data or its config brought is escaped. It is written from the run's records alone, so that it can
be made again at any time, also of a run that failed or is still going on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Final

from dovetail.record.alert_table import alerts_section
from dovetail.record.charts import Curve, Role, line_chart
from dovetail.record.confusion import find_matrices
from dovetail.record.files import REPORT
from dovetail.record.markup import escape
from dovetail.record.page import (
    card,
    confusion_sections,
    environment_section,
    figures_table,
    header,
    reproduce_section,
    settings_section,
    tiles,
)
from dovetail.record.pictures import read_pictures
from dovetail.record.runs import Point, RunRecord, load_run, named, number, read_config, read_series, table
from dovetail.storage.atomic import write_atomic

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_GROUPS: Final[tuple[Role, ...]] = ("other", "train", "validation", "test")  # colours of further learning rates
_LAST: Final = ("grad_norm", "lr", "learning_rate", "samples_per_second")  # after every metric, in this order


def write_report(folder: Path, *, plots: bool = True) -> Path:
    """Write the report of the run in ``folder``, replacing an earlier one at once, and return its path.

    Args:
        folder: the run's folder, with ``run.json`` and, where there are any, ``metrics.jsonl`` and ``resolved.toml``.
        plots: draw curves, into the report and as single files under ``plots/``, and show the pictures of the run's
            parts.

    Raises:
        RunLookupError: the folder has no readable ``run.json``.
        OSError: the report cannot be written.
    """
    run = load_run(folder)
    charts = draw_charts(run, read_series(folder)) if plots else {}
    if charts:
        (folder / "plots").mkdir(exist_ok=True)
    for name, chart in charts.items():
        _write(folder / "plots" / f"{_file_name(name)}.svg", _alone(chart))
    path = folder / REPORT
    _write(path, render(run, charts, list(read_pictures(folder)) if plots else ()))
    return path


def _write(path: Path, text: str) -> None:
    write_atomic(path, text.encode())


def render(run: RunRecord, charts: Mapping[str, str], pictures: Sequence[str] = ()) -> str:
    """Return the report as HTML that is well-formed XML too."""
    test = table(run.data.get("test"))
    names = table(run.data.get("data")).get("class_names")
    title = escape(f"{run.name} · {run.id}")
    sections = [
        header(run),
        tiles(run),
        alerts_section(run.folder),
        f'<h2>Curves</h2><div class="charts">{"".join(map(card, charts.values()))}</div>' if charts else "",
        f'<h2>Pictures</h2><div class="charts">{"".join(map(card, pictures))}</div>' if pictures else "",
        figures_table(run),
        confusion_sections(find_matrices(test), names),
        settings_section(read_config(run.folder), table(run.data.get("origins"))),
        environment_section(run),
        reproduce_section(run),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8" />'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}" />'
        '<meta name="viewport" content="width=device-width, initial-scale=1" />'
        f"<title>{title}</title><style>\n{_css()}</style></head>\n<body><main>\n"
        + "\n".join(filter(None, sections))
        + "\n</main></body></html>\n"
    )


def draw_charts(run: RunRecord, series: Mapping[str, Sequence[Point]]) -> dict[str, str]:
    """Return an SVG per figure: loss, monitored metric, other metrics, gradient norm, learning rate, speed.

    Training and validation values of one figure share a chart; its test value is a level across it.
    """
    figures: dict[str, list[Curve]] = {}
    best = table(run.data.get("best"))
    for name, points in sorted(series.items(), key=lambda pair: (not pair[0].startswith("train_"), pair[0])):
        if not any(math.isfinite(point.value) for point in points):
            continue
        if name.startswith("train_"):
            curve = Curve("train", "train", points)
        elif name.startswith("val_"):
            ringed = next((point for point in points if point.step == best.get("step")), None)
            curve = Curve("validation", "validation", points, ringed if best.get("metric") == name else None)
        elif _base(name) == "lr" and name != "lr":
            if points == series.get("lr"):
                continue
            curve = Curve(name.removeprefix("lr_"), _GROUPS[len(figures.get("lr", [])) % len(_GROUPS)], points)
        else:
            curve = Curve("last", "other", points)
        figures.setdefault(_base(name), []).append(curve)
    monitored = _base(str(best.get("metric") or ""))
    order = sorted(figures, key=lambda base: (_rank(base, monitored), base))
    return {
        base: line_chart(
            _spoken(base),
            figures[base],
            test=_tested(run, base),
            may_be_log=base == "loss",
            from_zero=base == "samples_per_second",
        )
        for base in order
    }


def _base(name: str) -> str:
    """Return the figure's own name; the learning rates of all parameter groups are one figure."""
    return "lr" if name.startswith("lr_") else name.removeprefix("train_").removeprefix("val_")


def _spoken(base: str) -> str:
    words = {"lr": "learning rate", "samples_per_second": "samples per second", "grad_norm": "gradient norm"}
    return words.get(base, base.replace("_", " "))


def _rank(base: str, monitored: str) -> int:
    if base in _LAST:
        return 3 + _LAST.index(base)
    return 0 if base == "loss" else 1 if base == monitored else 2


def _tested(run: RunRecord, base: str) -> float | None:
    value = number(run.test.get(named("test", base)))
    return value if value is not None and math.isfinite(value) else None


def _css() -> str:
    return resources.files("dovetail.record").joinpath("report.css").read_text(encoding="utf-8")


def _alone(chart: str) -> str:
    """Return a chart as a file of its own: with its colours, on paper of its own."""
    style = f"<style>{escape(_css())} svg {{ background: var(--card); }}</style>"
    start = chart.index(">") + 1
    return chart[:start] + style + chart[start:]


def _file_name(name: str) -> str:
    return "".join(char if char.isalnum() or char in "-_." else "_" for char in name)[:100].lstrip(".") or "figure"
