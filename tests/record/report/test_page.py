"""The report: one page that shows a run, whatever the run, its data or its config contain."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET

import pytest

from dovetail.record.report.page import write_report
from dovetail.record.runs import RunLookupError
from report_pages import NASTY, read, words
from run_folders import write_run


def test_a_report_shows_the_whole_run(tmp_path):
    """It has outcome, metrics, charts, classes, settings with origins, environment and commands."""
    folder = write_run(tmp_path)
    path = write_report(folder)
    _, tree = read(path)
    shown = words(tree)

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
        assert expected in shown
    charts = [svg.get("aria-label") for svg in tree.iter("{http://www.w3.org/2000/svg}svg")]
    assert charts == ["loss", "accuracy", "learning rate", "samples per second", "Confusion matrix"]


def test_a_report_loads_nothing(tmp_path):
    """It has no scripts, links, images or imports, and its content security policy forbids them."""
    text, tree = read(write_report(write_run(tmp_path)))

    assert {"script", "link", "img", "iframe", "object", "embed", "a"}.isdisjoint(
        element.tag for element in tree.iter()
    )
    assert "default-src 'none'" in text
    assert set(re.findall(r"https?://[^\"' )]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"url\(|@import|\ssrc=|\shref=|\son\w+=", text)


def test_all_text_from_the_run_is_escaped(tmp_path):
    """Markup in names, settings, reasons and hosts is text on the page."""
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
    assert "script" not in {element.tag.rpartition("}")[2] for element in tree.iter()}
    for path in (folder / "plots").iterdir():
        ET.parse(path)  # noqa: S314 (we wrote it)
        assert "<script" not in path.read_text(encoding="utf-8")


def test_an_empty_record_gives_a_page(tmp_path):
    """No key of a record is required."""
    folder = tmp_path / "x" / "y"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")

    assert words(read(write_report(folder))[1])


def test_a_folder_without_a_record_has_no_report(tmp_path):
    """Without run.json it is an error, and nothing is written."""
    with pytest.raises(RunLookupError):
        write_report(tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_learning_rates_of_all_groups_are_in_one_chart(tmp_path):
    """Each parameter group with another rate than the first has its own curve."""
    folder = write_run(tmp_path)
    with (folder / "metrics.jsonl").open("w") as file:
        for step in (1, 2):
            metrics = {"lr": 0.1 / step, "lr_group1": 0.1 / step, "lr_group2": 0.3}
            file.write(json.dumps({"event": "train", "epoch": 1, "step": step, "metrics": metrics}) + "\n")
    _, tree = read(write_report(folder))
    (chart,) = tree.iterfind(".//{*}svg[@aria-label='learning rate']")

    assert "group2 0.3" in words(chart)
    assert "group1" not in words(chart)


def test_charts_are_also_files(tmp_path):
    """Each chart is a well-formed SVG file in plots/, with its own style; without plots there are none."""
    folder = write_run(tmp_path)
    write_report(folder)
    pictures = {path.name for path in (folder / "plots").iterdir()}

    assert {"accuracy.svg", "loss.svg", "lr.svg", "samples_per_second.svg"} == pictures
    for path in (folder / "plots").iterdir():
        assert ET.parse(path).getroot().find("{*}style") is not None  # noqa: S314 (we wrote it)

    bare = write_run(tmp_path, "2026-11-20T16-00-00-000000")
    assert not read(write_report(bare, plots=False))[1].findall(".//{*}svg[@class='chart']")
    assert not (bare / "plots").exists()


def test_a_report_is_replaced_atomically(tmp_path):
    """Writing a report again leaves no other files in the folder."""
    folder = write_run(tmp_path)
    write_report(folder)
    before = sorted(path.name for path in folder.rglob("*"))
    write_report(folder)

    assert before == sorted(path.name for path in folder.rglob("*"))


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium here")
def test_a_browser_renders_the_report(tmp_path):
    """A screenshot of the page in Chromium is not empty."""
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
