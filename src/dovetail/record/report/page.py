"""Write ``report.html``, one self-contained page that shows a run.

The page contains no scripts and loads nothing: no fonts, no pictures, and a content security policy forbids them. All
text from the run, its data and its config is escaped. The page is made from the run's records alone, so it can be
written again at any time, also for a run that failed or is still training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Final

from dovetail.record.layout import REPORT
from dovetail.record.report.charts import Line, Role, line_chart
from dovetail.record.report.confusion import confusion_sections, find_matrices
from dovetail.record.report.markup import card, escape
from dovetail.record.report.pictures import read_pictures
from dovetail.record.report.sections import (
    alerts_section,
    environment_section,
    header,
    metrics_table,
    reproduce_section,
    settings_section,
    tiles,
)
from dovetail.record.runs import Point, RunRecord, as_number, as_table, load_run, named, read_config, read_series
from dovetail.storage.atomic import write_atomic

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_LR_COLOURS: Final[tuple[Role, ...]] = ("other", "train", "validation", "test")  # of the parameter groups
_LAST: Final = ("grad_norm", "lr", "learning_rate", "samples_per_second")  # shown after all metrics, in this order


def write_report(folder: Path, *, plots: bool = True) -> Path:
    """Write the report of the run in ``folder``, replacing an earlier one atomically, and return its path.

    Args:
        folder: the run's folder, with ``run.json`` and, if they exist, ``metrics.jsonl`` and ``resolved.toml``.
        plots: draw charts in the report and as files in ``plots/``, and show the pictures that the run's parts drew.

    Raises:
        RunLookupError: the folder has no readable ``run.json``.
        OSError: the report cannot be written.
    """
    run = load_run(folder)
    charts = draw_charts(run, read_series(folder)) if plots else {}
    if charts:
        (folder / "plots").mkdir(exist_ok=True)
    for name, chart in charts.items():
        _write(folder / "plots" / f"{_file_name(name)}.svg", _standalone(chart))
    path = folder / REPORT
    _write(path, render(run, charts, list(read_pictures(folder)) if plots else ()))
    return path


def _write(path: Path, text: str) -> None:
    write_atomic(path, text.encode())


def render(run: RunRecord, charts: Mapping[str, str], pictures: Sequence[str] = ()) -> str:
    """Return the report as HTML that is also well-formed XML."""
    test = as_table(run.data.get("test"))
    names = as_table(run.data.get("data")).get("class_names")
    title = escape(f"{run.name} · {run.id}")
    sections = [
        header(run),
        tiles(run),
        alerts_section(run.folder),
        f'<h2>Curves</h2><div class="charts">{"".join(map(card, charts.values()))}</div>' if charts else "",
        f'<h2>Pictures</h2><div class="charts">{"".join(map(card, pictures))}</div>' if pictures else "",
        metrics_table(run),
        confusion_sections(find_matrices(test), names),
        settings_section(read_config(run.folder), as_table(run.data.get("origins"))),
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
    """Return an SVG for each metric: loss, monitored metric, others, gradient norm, learning rate, throughput.

    A metric's training and validation values are curves of one chart; its test value is a horizontal line.
    """
    curves: dict[str, list[Line]] = {}
    best = as_table(run.data.get("best"))
    for name, points in sorted(series.items(), key=lambda pair: (not pair[0].startswith("train_"), pair[0])):
        if not any(math.isfinite(point.value) for point in points):
            continue
        if name.startswith("train_"):
            curve = Line("train", "train", points)
        elif name.startswith("val_"):
            ringed = next((point for point in points if point.step == best.get("step")), None)
            curve = Line("validation", "validation", points, ringed if best.get("metric") == name else None)
        elif _base(name) == "lr" and name != "lr":
            if points == series.get("lr"):
                continue
            curve = Line(name.removeprefix("lr_"), _LR_COLOURS[len(curves.get("lr", [])) % len(_LR_COLOURS)], points)
        else:
            curve = Line("last", "other", points)
        curves.setdefault(_base(name), []).append(curve)
    monitored = _base(str(best.get("metric") or ""))
    order = sorted(curves, key=lambda base: (_rank(base, monitored), base))
    return {
        base: line_chart(
            _title(base),
            curves[base],
            test=_tested(run, base),
            may_be_log=base == "loss",
            from_zero=base == "samples_per_second",
        )
        for base in order
    }


def _base(name: str) -> str:
    """Return the metric's name without its split; the learning rates of all parameter groups are one metric."""
    return "lr" if name.startswith("lr_") else name.removeprefix("train_").removeprefix("val_")


def _title(base: str) -> str:
    words = {"lr": "learning rate", "samples_per_second": "samples per second", "grad_norm": "gradient norm"}
    return words.get(base, base.replace("_", " "))


def _rank(base: str, monitored: str) -> int:
    if base in _LAST:
        return 3 + _LAST.index(base)
    return 0 if base == "loss" else 1 if base == monitored else 2


def _tested(run: RunRecord, base: str) -> float | None:
    value = as_number(run.test.get(named("test", base)))
    return value if value is not None and math.isfinite(value) else None


def _css() -> str:
    return resources.files("dovetail.record.report").joinpath("report.css").read_text(encoding="utf-8")


def _standalone(chart: str) -> str:
    """Return a chart as an SVG file with its own style sheet and background."""
    style = f"<style>{escape(_css())} svg {{ background: var(--card); }}</style>"
    start = chart.index(">") + 1
    return chart[:start] + style + chart[start:]


def _file_name(name: str) -> str:
    return "".join(char if char.isalnum() or char in "-_." else "_" for char in name)[:100].lstrip(".") or "figure"
