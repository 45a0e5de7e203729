"""The report: one file that shows a run, whatever the run, its data or its config hold."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dovetail.record.charts import Curve, line_chart, smooth, thin
from dovetail.record.confusion import class_names, draw, find_matrices, per_class
from dovetail.record.report import write_report
from dovetail.record.runs import Point, RunLookupError
from dovetail.record.scale import fit, tick_label
from run_folders import write_run

RUN = "2026-11-20T15-36-00-3f9c1a"
NASTY = "<script>alert('x')</script> & \"quotes\" \x00\x1b"


def read(path: Path) -> tuple[str, ET.Element]:
    """Return a page as text and as the tree of well-formed XML that it must be."""
    text = path.read_text(encoding="utf-8")
    return text, ET.fromstring(text.removeprefix("<!DOCTYPE html>"))  # noqa: S314 (we wrote it)


def words(tree: ET.Element) -> str:
    """Return all text of a page in one line."""
    return " ".join(" ".join(tree.itertext()).split())


def test_a_report_says_what_happened(tmp_path):
    """Outcome, key figures, curves, classes, settings with origins, environment and commands are all there."""
    folder = write_run(tmp_path)
    path = write_report(folder)
    _, tree = read(path)
    said = words(tree)

    assert folder / "report.html" == path
    for expected in (
        "✓ completed",
        "Best val_loss 0.0385 in epoch 4",
        "98.06 %",
        "27,210",
        "34 s",
        "command line, argument 1",
        "digits.toml:2:8",
        "0123abc with uncommitted changes",
        "yourco",
        "dovetail run digits.toml training.max_epochs=4",
        f"dovetail run {folder}/resolved.toml",
        "cat taken for dog: 2 of 120",
        "eel",
    ):
        assert expected in said
    charts = [one.get("aria-label") for one in tree.iter("{http://www.w3.org/2000/svg}svg")]
    assert charts == ["loss", "accuracy", "learning rate", "samples per second", "Confusion matrix"]


def test_a_report_tells_of_alerts(tmp_path):
    """What was noticed and when, markup in it being text, lines cut short left out; of very many, the first fifty."""
    folder = write_run(tmp_path)
    _, tree = read(write_report(folder))
    assert "Alerts" not in words(tree)
    one = {"type": "x", "message": "the rate is wrong", "severity": "warning", "epoch": 2, "step": 30}
    with (folder / "alerts.jsonl").open("w", encoding="utf-8") as file:
        file.write(json.dumps({**one, "message": NASTY}) + "\n{cut\n" + (json.dumps(one) + "\n") * 60)
    text, tree = read(write_report(folder))
    said = words(tree)

    assert "2 30 warning the rate is wrong" in said
    assert said.count("the rate is wrong") == 49
    assert "and 11 more in alerts.jsonl" in said
    assert "<script" not in text


def test_a_report_needs_nothing_from_elsewhere(tmp_path):
    """No script, no link, no picture, no import: the page works alone, and its policy forbids anything else."""
    text, tree = read(write_report(write_run(tmp_path)))

    assert {"script", "link", "img", "iframe", "object", "embed", "a"}.isdisjoint(one.tag for one in tree.iter())
    assert "default-src 'none'" in text
    assert set(re.findall(r"https?://[^\"' )]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"url\(|@import|\ssrc=|\shref=|\son\w+=", text)


def test_nothing_from_outside_is_markup(tmp_path):
    """Whatever names, settings, reasons and hosts hold, it is text on the page."""
    folder = write_run(
        tmp_path,
        reason=NASTY,
        host={"name": NASTY},
        origins={"run.name": NASTY},
        command=["dovetail", "run", NASTY],
        device=NASTY,
        experiment=NASTY,
        data={"class_names": [NASTY] * 3, "sizes": {NASTY: 3, "train": 1}},
        metrics={f"val_{NASTY}": 1.0},
        best={"metric": NASTY, "value": 0.5, "epoch": 1},
        versions={NASTY: NASTY, "plugins": {NASTY: NASTY}},
    )
    (folder / "resolved.toml").write_text("[run]\nnotes = '''" + "<script>alert(1)</script>" + "'''\n")
    with (folder / "metrics.jsonl").open("a") as file:
        for name in (NASTY, f"train_{NASTY}"):
            file.write(json.dumps({"event": "train", "epoch": 1, "step": 3, "metrics": {name: 2.0}}) + "\n")
    text, tree = read(write_report(folder))

    assert "<script" not in text
    assert "script" not in {one.tag.rpartition("}")[2] for one in tree.iter()}
    for path in (folder / "plots").iterdir():
        ET.parse(path)  # noqa: S314 (we wrote it)
        assert "<script" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("status", ["failed", "running", "interrupted", "out_of_budget", "stopped_early", "odd"])
def test_a_run_of_any_status_has_a_report(tmp_path, status):
    """A run that failed early has no best, no test, no validation: the page says what there is."""
    folder = write_run(tmp_path, status=status, reason="the disk is full", best=None, test={}, metrics={})
    (folder / "metrics.jsonl").unlink()
    _, tree = read(write_report(folder))

    assert status.replace("_", " ") in words(tree)
    assert "The disk is full." in words(tree)
    assert ("log.txt" in words(tree)) == (status == "failed")


@pytest.mark.parametrize(
    "reason,expected",
    [
        ("the disk is full", "The disk is full."),
        ("val_loss has not improved", "val_loss has not improved."),
        ("callbacks.p: there is no metric 'a'; did you mean 'b'?", "callbacks.p: there is no metric"),
    ],
)
def test_a_reason_becomes_a_sentence_and_names_stay_as_they_are(tmp_path, reason, expected):
    """A metric or a part at its beginning is not written in capitals."""
    folder = write_run(tmp_path, status="failed", reason=reason)

    assert f'<p class="reason">{expected}' in write_report(folder).read_text(encoding="utf-8")


def test_an_empty_record_still_makes_a_page(tmp_path):
    """Nothing in a record is required."""
    folder = tmp_path / "x" / "y"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")

    assert words(read(write_report(folder))[1])


def test_a_folder_without_a_record_has_no_report(tmp_path):
    """It is an error, and nothing is written."""
    with pytest.raises(RunLookupError):
        write_report(tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_learning_rates_of_several_groups_share_a_chart(tmp_path):
    """A group with a rate of its own is a curve beside the first; one that has the same is not drawn twice."""
    folder = write_run(tmp_path)
    with (folder / "metrics.jsonl").open("w") as file:
        for step in (1, 2):
            metrics = {"lr": 0.1 / step, "lr_group1": 0.1 / step, "lr_group2": 0.3}
            file.write(json.dumps({"event": "train", "epoch": 1, "step": step, "metrics": metrics}) + "\n")
    _, tree = read(write_report(folder))
    (chart,) = [one for one in tree.iter("{http://www.w3.org/2000/svg}svg") if one.get("aria-label") == "learning rate"]

    assert "group2 0.3" in words(chart)
    assert "group1" not in words(chart)


def test_plots_are_files_of_their_own(tmp_path):
    """Each chart is also a picture under plots/, well-formed and with its own colours; or there are none at all."""
    folder = write_run(tmp_path)
    write_report(folder)
    pictures = {path.name for path in (folder / "plots").iterdir()}

    assert {"accuracy.svg", "loss.svg", "lr.svg", "samples_per_second.svg"} == pictures
    for path in (folder / "plots").iterdir():
        assert ET.parse(path).getroot().find("{*}style") is not None  # noqa: S314 (we wrote it)

    bare = write_run(tmp_path, "2026-11-20T16-00-00-000000")
    assert "svg" not in {one.tag for one in read(write_report(bare, plots=False))[1].iter() if "aria" in one.tag}
    assert not (bare / "plots").exists()


def test_writing_again_replaces_and_leaves_nothing_behind(tmp_path):
    """A report is renewed while the run goes on; no draft stays in the folder."""
    folder = write_run(tmp_path)
    write_report(folder)
    before = sorted(path.name for path in folder.rglob("*"))
    write_report(folder)

    assert before == sorted(path.name for path in folder.rglob("*"))


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=300))
@example([1.7e308])
@example([-1.7e308, 1.7e308])
@example([1e-300, 1.7e308])
def test_any_course_of_values_makes_a_chart(values):
    """Whatever the values, the picture is well-formed, and every coordinate in it is a finite number in or near it."""
    points = [Point(step, 1, value) for step, value in enumerate(values, 1)]
    if not any(map(math.isfinite, values)):
        return
    for options in ({}, {"may_be_log": True}, {"from_zero": True}):
        picture = line_chart("loss", [Curve("train", "train", points, points[0])], test=values[0], **options)
        ET.fromstring(picture)  # noqa: S314 (we wrote it)
        for at in re.findall(r'(?:cx|cy|x1|x2|y1|y2|[^\w]x|[^\w]y)="([^"]+)"', picture):
            assert -2000 < float(at) < 2000
        assert "nan" not in re.sub(r"<t(ext|itle|span).*?</t\1>", "", picture)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.booleans())
def test_ticks_lie_within_the_axis_and_tell_each_other_apart(values, log):
    """Every axis has ticks with different labels, within its limits."""
    scale = fit([abs(value) + 1e-3 for value in values] if log else values, 100, 0, may_be_log=log)
    ticks = scale.ticks(5)

    assert ticks
    assert all(scale.low - 1e-9 <= tick <= scale.high * (1 + 1e-9) + 1e-9 for tick in ticks)
    assert len(ticks) == len({tick_label(tick, ticks) for tick in ticks})
    assert len(ticks) <= 13


@given(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=2000), st.integers(10, 100))
def test_thinning_keeps_ends_and_extremes(values, most):
    """A long curve loses points, but neither its ends nor its highest and lowest."""
    points = [Point(step, 1, value) for step, value in enumerate(values)]
    kept = thin(points, most)

    assert len(kept) <= max(most, 2)
    assert (points[0], points[-1]) == (kept[0], kept[-1])
    assert {min(values), max(values)} <= {point.value for point in kept}
    assert sorted(kept, key=lambda point: point.step) == kept


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=300))
def test_smoothing_stays_within_the_values(values):
    """A moving average is never beyond the extremes, and has as many points."""
    points = [Point(step, 1, value) for step, value in enumerate(values)]
    smoothed = smooth(points)

    assert len(points) == len(smoothed)
    assert all(min(values) - 1e-6 <= point.value <= max(values) + 1e-6 for point in smoothed)


def test_classes_are_counted_right():
    """Recall goes along rows, precision along columns; what is never predicted or never there has neither."""
    found = per_class([[8, 2, 0], [1, 9, 0], [0, 0, 0]], ["a", "b", "c"])

    assert [one.recall for one in found] == [0.8, 0.9, None]
    assert [one.precision for one in found] == [8 / 9, 9 / 11, None]
    assert [one.mistaken_for for one in found] == [("b", 2), ("a", 1), None]


@pytest.mark.parametrize(
    "value,expected",
    [
        ({"confusion_matrix": [[1, 2], [3, 4]]}, {"confusion_matrix": [[1, 2], [3, 4]]}),
        (
            {"a": [[1.0, 2.0], [3.0, 4.0]], "b": 1, "c": [[0, 0], [0, 1]]},
            {"a": [[1, 2], [3, 4]], "c": [[0, 0], [0, 1]]},
        ),
        ({"a": [[1, 2], [3]]}, {}),
        ({"a": [[1, -2], [3, 4]]}, {}),
        ({"a": [[0.5, 2], [3, 4]]}, {}),
        ({"a": [1, 2], "b": "x", "c": [[1]]}, {}),
    ],
)
def test_matrices_are_found_among_the_figures(value, expected):
    """A square table of counts is a confusion matrix; nothing else is."""
    assert expected == find_matrices(value)


def test_groups_of_samples_have_a_matrix_each(tmp_path):
    """Each is named and says how much of it was right; a table of another metric is none of them."""
    figures = {
        "test_confusion_matrix": [[5, 1], [2, 4]],
        "test_confusion_matrix_load_0": [[5, 0], [0, 3]],
        "test_confusion_matrix_load_3": [[0, 1], [2, 1]],
        "test_other": [[9, 9], [9, 9]],
    }
    text, tree = read(write_report(write_run(tmp_path, test=figures, data={})))

    assert [one.text for one in tree.findall(".//{*}h3")] == ["load 0", "load 3"]
    assert "100.00 % of 8 samples right" in words(tree)
    assert "25.00 % of 4 samples right" in words(tree)
    assert text.count('aria-label="Confusion matrix"') == 3


def test_names_that_do_not_fit_the_matrix_are_not_used():
    """A matrix of another size than the list of names gets numbers."""
    assert class_names([[1, 0], [0, 1]], ["a", "b", "c"]) == ["0", "1"]


@pytest.mark.parametrize("size", [2, 10, 25, 40])
def test_a_matrix_of_any_size_is_drawn(size):
    """Every cell has its title; small matrices show counts, large ones only shades."""
    matrix = [[10 if row == column else 1 for column in range(size)] for row in range(size)]
    tree = ET.fromstring(draw(matrix, [f"class number {number}" for number in range(size)]))  # noqa: S314 (we wrote it)

    assert size * size == len(tree.findall(".//{*}rect"))
    assert size * size == len(tree.findall(".//{*}title"))


def test_a_thousand_classes_show_the_worst_only(tmp_path):
    """No picture of a million cells; the table names the classes with the lowest recall."""
    size = 200
    matrix = [[10 if row == column else 0 for column in range(size)] for row in range(size)]
    matrix[117] = [10] + [0] * (size - 1)
    folder = write_run(tmp_path, test={"confusion_matrix": matrix}, data={})
    text, tree = read(write_report(folder))

    assert "The 30 of 200 classes with the lowest recall." in words(tree)
    assert "117" in words(tree)
    assert len(text) < 200_000


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium here")
def test_a_browser_shows_it(tmp_path):
    """Chromium makes a picture of the page that is not empty."""
    path = write_report(write_run(tmp_path))
    picture = tmp_path / "page.png"
    switches = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    switches += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    subprocess.run(
        ["chromium", *switches, f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={picture}", path.as_uri()],
        check=True,
        capture_output=True,
    )

    assert picture.stat().st_size > 10_000
