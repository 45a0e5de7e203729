"""Tests of the pytest interface: a test per check, expected failures, and components that do not exist."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from places import TESTS

HEADER = """
from dovetail.spec.plugins import Plugins
from dovetail.testkit import conformance
from planted import plugin

PLUGINS = Plugins.discover()
PLUGINS.register(plugin, distribution="planted")
"""


@pytest.fixture
def pytest_on(tmp_path):
    """Run pytest in another process on a test file with this text."""

    def run(text):
        path = tmp_path / "test_plugin.py"
        path.write_text(HEADER + textwrap.dedent(text))
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", "-rA", str(path)]
        environment = {"PYTHONPATH": str(TESTS), "PATH": "", "HOME": str(tmp_path)}
        return subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path, env=environment)

    return run


@pytest.mark.slow
def test_each_check_is_a_test(pytest_on):
    """The report names the check that fails, shows its message and lists the others as passed or skipped."""
    result = pytest_on("""
        @conformance("planted.argmax", plugins=PLUGINS)
        def test_conformance(check):
            check()
    """)

    assert result.returncode == 1
    assert "FAILED test_plugin.py::test_conformance[loss.gradient_reaches_the_logits]" in result.stdout
    assert "no gradient reaches the model's outputs" in result.stdout
    assert "PASSED test_plugin.py::test_conformance[loss.order_does_not_matter]" in result.stdout
    assert "SKIPPED" in result.stdout


@pytest.mark.slow
def test_an_expected_failure_must_fail(pytest_on):
    """A check that fails as expected is an xfail; one that passes unexpectedly is a failure."""
    result = pytest_on("""
        @conformance(
            "planted.ordered",
            plugins=PLUGINS,
            expected_failures={"loss.order_does_not_matter": "later samples count more", "loss.finite": "it is not"},
        )
        def test_conformance(check):
            check()
    """)

    expected = "XFAIL test_plugin.py::test_conformance[loss.order_does_not_matter] - later samples count more"
    assert expected in result.stdout
    assert "FAILED test_plugin.py::test_conformance[loss.finite]" in result.stdout
    assert "XPASS(strict)" in result.stdout


@pytest.mark.slow
def test_a_component_that_does_not_exist_is_a_failed_test(pytest_on):
    """An unknown name gives one failed test with a suggestion, not an error during collection."""
    result = pytest_on("""
        @conformance("planted.argmx", plugins=PLUGINS)
        def test_conformance(check):
            check()
    """)

    assert result.returncode == 1
    assert "test_conformance[plugin.found]" in result.stdout
    assert "did you mean 'planted.argmax'?" in result.stdout
