"""Tests of run_checks: results without pytest."""

from __future__ import annotations

import pytest

from dovetail.spec.plugins import Plugins
from dovetail.testkit import run_checks
from planted import plugin


@pytest.fixture(scope="module")
def plugins():
    """The installed plugins and the planted components."""
    found = Plugins.discover()
    found.register(plugin, distribution="planted", version="1.0")
    return found


def test_every_check_has_a_result(plugins):
    """A result has the property that the check states and, if it failed, the reason and the failing example."""
    results = {result.check: result for result in run_checks("planted.sorts", plugins=plugins)}

    assert results["plugin.builds"].status == "passed"
    assert results["collator.every_sample_is_in_its_place"].status == "failed"
    assert "samples=made(shape=" in results["collator.every_sample_is_in_its_place"].message
    assert all(result.summary.endswith((".", ")")) for result in results.values())
    assert [name for name, result in results.items() if not result.ok] == ["collator.every_sample_is_in_its_place"]


def test_expected_failures(plugins):
    """An expected failure is ok, an unexpected pass is not, and an unknown check is an error."""
    expected = {
        "collator.every_sample_is_in_its_place": "sorted by design",
        "collator.every_sample_is_kept": "no idea",
    }

    results = {
        result.check: result for result in run_checks("planted.sorts", plugins=plugins, expected_failures=expected)
    }

    assert results["collator.every_sample_is_in_its_place"].status == "expected failure"
    assert results["collator.every_sample_is_kept"].status == "failed"
    assert "remove it from expected_failures" in results["collator.every_sample_is_kept"].message
    with pytest.raises(ValueError, match=r"check 'collator\.nothing' does not apply to planted\.sorts; use one of"):
        run_checks("planted.sorts", plugins=plugins, expected_failures={"collator.nothing": "never"})


def test_results_are_reproducible(plugins):
    """Examples are derandomised: two runs find the same counterexample."""
    first, second = (
        [result.message for result in run_checks("planted.drops", plugins=plugins) if result.status == "failed"]
        for _ in range(2)
    )

    assert first == second


def test_a_dataset_without_its_files_is_skipped():
    """If the example refers to a file that was not passed, nothing fails, and the result says what to pass."""
    results = {result.check: result for result in run_checks("csv", kind="dataset")}

    assert results["plugin.builds"].status == "skipped"
    assert "pass conformance() files=" in results["plugin.builds"].message
    assert all(result.ok for result in results.values())
