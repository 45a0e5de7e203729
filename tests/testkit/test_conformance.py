"""The kit's two faces: pytest tests, and a list of results."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from hypothesis import strategies as st

from dovetail.kernel.component import PluginError
from dovetail.models.output import ModelOutput
from dovetail.spec.plugins import Plugins
from dovetail.testkit import Case, run_checks
from dovetail.testkit.cases import classification
from dovetail.testkit.registry import checks_for
from places import TESTS
from planted import plugin

HEADER = """
from dovetail.spec.plugins import Plugins
from dovetail.testkit import conformance
from planted import plugin

PLUGINS = Plugins.discover()
PLUGINS.register(plugin, distribution="planted")
"""


@pytest.fixture
def plugins():
    """Everything that is installed, and the planted parts."""
    found = Plugins.discover()
    found.register(plugin, distribution="planted", version="1.0")
    return found


@pytest.fixture
def pytest_on(tmp_path):
    """Run pytest in a process of its own on a test file with this text."""

    def run(text):
        path = tmp_path / "test_plugin.py"
        path.write_text(HEADER + textwrap.dedent(text))
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "-W",
            "error",
            "-rA",
            str(path),
        ]
        environment = {"PYTHONPATH": str(TESTS), "PATH": "", "HOME": str(tmp_path)}
        return subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path, env=environment)

    return run


@pytest.mark.slow
def test_each_check_is_a_test_of_its_own(pytest_on):
    """The report names the check that fails, shows its message, and leaves the others green."""
    done = pytest_on("""
        @conformance("planted.argmax", plugins=PLUGINS)
        def test_conformance(check):
            check()
    """)

    assert done.returncode == 1
    assert "FAILED test_plugin.py::test_conformance[loss.gradient_reaches_the_logits]" in done.stdout
    assert "no gradient reaches the model's outputs" in done.stdout
    assert "PASSED test_plugin.py::test_conformance[loss.order_does_not_matter]" in done.stdout
    assert "SKIPPED" in done.stdout


@pytest.mark.slow
def test_an_expected_failure_must_fail(pytest_on):
    """What is declared to fail is an expected failure; what is declared and passes is an error."""
    done = pytest_on("""
        @conformance(
            "planted.ordered",
            plugins=PLUGINS,
            expected_failures={"loss.order_does_not_matter": "later samples count more", "loss.finite": "it is not"},
        )
        def test_conformance(check):
            check()
    """)

    assert (
        "XFAIL test_plugin.py::test_conformance[loss.order_does_not_matter] - later samples count more" in done.stdout
    )
    assert "FAILED test_plugin.py::test_conformance[loss.finite]" in done.stdout
    assert "XPASS(strict)" in done.stdout


@pytest.mark.slow
def test_a_component_that_is_not_there_is_one_failed_test(pytest_on):
    """A name that nobody offers is a test that fails with what was meant, and no error while pytest collects."""
    done = pytest_on("""
        @conformance("planted.argmx", plugins=PLUGINS)
        def test_conformance(check):
            check()
    """)

    assert done.returncode == 1
    assert "test_conformance[plugin.found]" in done.stdout
    assert "did you mean 'planted.argmax'?" in done.stdout


def test_results_come_without_pytest(plugins):
    """Every check has a result: what holds where it passes; why and for which example it failed where it did not."""
    results = {one.check: one for one in run_checks("planted.sorts", plugins=plugins)}

    assert results["plugin.builds"].status == "passed"
    assert results["collator.every_sample_is_in_its_place"].status == "failed"
    assert "samples=made(shape=" in results["collator.every_sample_is_in_its_place"].message
    assert all(one.summary.endswith((".", ")")) for one in results.values())
    assert [one.check for one in results.values() if not one.ok] == ["collator.every_sample_is_in_its_place"]


def test_expected_failures_without_pytest(plugins):
    """An expected failure is fine, one that passes is not, and a check that is not there is refused."""
    expected = {
        "collator.every_sample_is_in_its_place": "sorted on purpose",
        "collator.every_sample_is_kept": "no idea",
    }

    results = {one.check: one for one in run_checks("planted.sorts", plugins=plugins, expected_failures=expected)}

    assert results["collator.every_sample_is_in_its_place"].status == "expected failure"
    assert "take it out of expected_failures" in results["collator.every_sample_is_kept"].message
    with pytest.raises(ValueError, match=r"gets no check 'collator\.nothing'"):
        run_checks("planted.sorts", plugins=plugins, expected_failures={"collator.nothing": "never"})


def test_a_name_of_several_kinds_asks_for_the_kind():
    """'default' is a collator and an optimizer: the answer says how to choose."""
    with pytest.raises(PluginError, match='choose with kind="collator" or kind="optimizer"'):
        run_checks("default")


def test_the_same_answer_every_time(plugins):
    """Examples are derandomised: two runs find the same counterexample."""
    first, second = (
        [one.message for one in run_checks("planted.drops", plugins=plugins) if one.status == "failed"]
        for _ in range(2)
    )

    assert first == second


def test_batches_of_the_author_are_used(plugins):
    """What ``batches=`` draws is what the component is fed, as cases or as pairs."""
    seen = []

    def pairs(case):
        seen.append(case)
        return case.logits, {**case.batch, "meta": {"rpm": torch.ones(len(case))}}

    results = run_checks("planted.sound", plugins=plugins, batches=classification().map(pairs))

    assert not [one for one in results if one.status == "failed"]
    assert len(seen) > 50


def test_batches_that_are_none_are_refused(plugins):
    """A strategy of anything else is a clear error."""
    results = run_checks("planted.sound", plugins=plugins, batches=st.just(3))

    assert any("must draw a Case or a pair" in one.message for one in results)


def test_files_lie_in_the_folder_of_each_check():
    """A component whose example names a file is built where that file is, and nothing is left behind."""
    before = sorted(Path.cwd().iterdir())

    results = run_checks(
        "csv",
        kind="dataset",
        example={"path": "folder/data.csv", "target": "label"},
        files={"folder/data.csv": "a,b,label\n1,2,0\n3,4,1\n5,6,0\n7,8,1\n"},
    )

    assert not [one for one in results if one.status == "failed"]
    assert sorted(Path.cwd().iterdir()) == before


def test_a_dataset_without_its_files_is_left_out_with_a_reason():
    """Where the example names a file and none is given, nothing fails, and the result says what to give."""
    results = {one.check: one for one in run_checks("csv", kind="dataset")}

    assert results["plugin.builds"].status == "skipped"
    assert "takes files=" in results["plugin.builds"].message
    assert all(one.ok for one in results.values())


def test_every_check_says_what_holds():
    """Every check of every kind has a name of its own and a sentence."""
    for kind in ("loss", "collator", "scheduler", "storage", "model", "optimizer", "metric", "transform", "dataset"):
        checks = checks_for(kind, {"additive", "signal_gradient", "variable_length"})
        names = [one.name for one in checks]

        assert len(set(names)) == len(names)
        assert all(one.summary.endswith((".", ")")) for one in checks), kind


def test_a_case_takes_samples_from_everything():
    """Picking samples picks them in logits, hidden, inputs, targets and lists of meta alike."""
    case = Case(
        ModelOutput(torch.arange(6.0).reshape(3, 2)),
        {"inputs": {"a": torch.arange(3)}, "targets": torch.arange(3), "meta": {"id": ["x", "y", "z"]}},
    )

    taken = case.take([2, 0])

    assert taken.logits.tolist() == [[4.0, 5.0], [0.0, 1.0]]
    assert taken.batch["inputs"]["a"].tolist() == [2, 0]
    assert taken.batch["meta"]["id"] == ["z", "x"]


def test_importing_the_kit_needs_neither_torch_nor_hypothesis():
    """The template, which ``dovetail plugins new`` uses, works without the extra and starts at once."""
    code = "import sys, dovetail.testkit; print({'torch', 'hypothesis', 'pytest'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert done.stdout.strip() == "set()"
