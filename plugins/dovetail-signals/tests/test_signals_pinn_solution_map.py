"""The pictures of a solution."""

from __future__ import annotations

from dovetail.main import run
from signals_runs import heat_config, run_folder


def test_pictures_of_the_solution(tmp_path):
    """At the end, the report has the solution and its error on the grid of the test split."""
    tables = {"callbacks": {"map": {"type": "signals.solution_map"}}, "report": {"enabled": True}}
    run(heat_config(tmp_path, tables))
    folder = run_folder(tmp_path)
    page = (folder / "report.html").read_text(encoding="utf-8")

    assert sorted(path.name for path in (folder / "pictures").iterdir()) == ["pde-1-solution.svg", "pde-2-error.svg"]
    assert 'aria-label="solution"' in page
    assert 'aria-label="absolute error"' in page
