"""The sections of the report: header, alerts."""

from __future__ import annotations

import json

import pytest

from dovetail.record.report.page import write_report
from report_pages import NASTY, read, words
from run_folders import write_run


def test_a_report_lists_alerts(tmp_path):
    """The first 50 alerts are listed with epoch and step; incomplete lines are skipped, and markup is escaped."""
    folder = write_run(tmp_path)
    _, tree = read(write_report(folder))
    assert "Alerts" not in words(tree)
    alert = {"type": "x", "message": "the rate is wrong", "severity": "warning", "epoch": 2, "step": 30}
    with (folder / "alerts.jsonl").open("w", encoding="utf-8") as file:
        file.write(json.dumps({**alert, "message": NASTY}) + "\n{cut\n" + (json.dumps(alert) + "\n") * 60)
    text, tree = read(write_report(folder))
    shown = words(tree)

    assert "2 30 warning the rate is wrong" in shown
    assert shown.count("the rate is wrong") == 49
    assert "and 11 more in alerts.jsonl" in shown
    assert "<script" not in text


@pytest.mark.parametrize("status", ["failed", "running", "interrupted", "out_of_budget", "stopped_early", "odd"])
def test_a_run_of_any_status_has_a_report(tmp_path, status):
    """A run that failed early has no best, test or validation; the page shows what there is."""
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
def test_a_reason_becomes_a_sentence(tmp_path, reason, expected):
    """The first word is capitalised, unless it is the name of a metric or part."""
    folder = write_run(tmp_path, status="failed", reason=reason)

    assert f'<p class="reason">{expected}' in write_report(folder).read_text(encoding="utf-8")
