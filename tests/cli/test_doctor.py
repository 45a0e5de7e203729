"""`dovetail doctor`: what it checks."""

from __future__ import annotations

import json

import pytest

from dovetail.cli.doctor import sqlite
from installed import dovetail, install


@pytest.mark.slow
def test_the_doctor_checks_everything(tmp_path):
    """The report has Python, torch, ops, plugins, SQLite and disk; a broken plugin is a warning."""
    install(tmp_path, "yourco", "raise RuntimeError('no licence')")
    done = dovetail("doctor", "--json", path=tmp_path)
    findings = {finding["what"]: finding for finding in json.loads(done.stdout)}

    assert {"python", "torch", "ops, cpu", "ops, cuda", "plugin dovetail", "sqlite", "disk"} <= set(findings)
    assert findings["plugin yourco"]["verdict"] == "warning"
    assert "no licence" in findings["plugin yourco"]["message"]
    assert done.returncode == (1 if any(finding["verdict"] == "failed" for finding in findings.values()) else 0)


@pytest.mark.parametrize(
    "version,verdict",
    [((3, 6, 23), "ok"), ((3, 7, 0), "warning"), ((3, 40, 1), "warning"), ((3, 51, 2), "warning"), ((3, 51, 3), "ok")],
)
def test_sqlite_versions_with_a_bug_are_reported(version, verdict):
    """SQLite 3.7.0 to 3.51.2 can corrupt a write-ahead log; other versions are fine."""
    assert [finding.verdict for finding in sqlite(version)] == [verdict]
