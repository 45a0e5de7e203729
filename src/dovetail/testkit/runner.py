"""Run checks without pytest, for ``dovetail plugins check`` and for scripts."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from attrs import frozen

from dovetail.kernel.component import PluginError
from dovetail.spec.plugins import Plugins
from dovetail.testkit.registry import Check, CheckFailed, NotApplicable, checks_for
from dovetail.testkit.subject import Subject

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

CheckStatus = Literal["passed", "failed", "skipped", "expected failure"]
_LONGEST_NOTES: Final = 600  # characters


@frozen
class CheckResult:
    """The result of one check of one component."""

    #: The name of the check: ``"loss.finite"``.
    check: str
    #: The property that it checks, in one sentence.
    summary: str
    status: CheckStatus
    #: Why it failed or was skipped; empty if it passed.
    message: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the check did not fail, or failed as expected."""
        return self.status != "failed"


def run_checks(
    name: str,
    *,
    kind: str | None = None,
    example: Mapping[str, Any] | None = None,
    files: Mapping[str, str | bytes] | None = None,
    batches: SearchStrategy[Any] | None = None,
    expected_failures: Mapping[str, str] | None = None,
    plugins: Plugins | None = None,
) -> list[CheckResult]:
    """Run every check that applies to a component; the arguments are those of :func:`~dovetail.testkit.conformance`.

    Raises:
        PluginError: no component, or more than one, has this name; the message says what to do.
        ValueError: ``expected_failures`` names a check that does not apply to the component.
    """
    subject = Subject.find(name, kind=kind, example=example, files=files, batches=batches, plugins=plugins)
    expected = dict(expected_failures or {})
    return [_result(check, subject, expected.get(check.name)) for check in select_checks(subject, expected)]


def select_checks(subject: Subject, expected_failures: Mapping[str, str]) -> list[Check]:
    """Return the checks that apply to ``subject``.

    Raises:
        ValueError: ``expected_failures`` names a check that does not apply to it.
    """
    checks = checks_for(subject.kind, subject.traits)
    unknown = sorted(set(expected_failures) - {check.name for check in checks})
    if unknown:
        names = ", ".join(check.name for check in checks)
        raise ValueError(
            f"expected_failures: check '{unknown[0]}' does not apply to {subject.name}; use one of {names}"
        )
    return checks


def _result(check: Check, subject: Subject, expected: str | None) -> CheckResult:
    started = time.perf_counter()
    status, message = _outcome(check, subject)
    if expected is not None:
        if status == "failed":
            status, message = "expected failure", f"{expected} ({message})"
        elif status == "passed":
            status = "failed"
            message = f"it passed but was expected to fail ({expected}); remove it from expected_failures"
    return CheckResult(check.name, check.summary, status, message, time.perf_counter() - started)


def _outcome(check: Check, subject: Subject) -> tuple[CheckStatus, str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # under pytest, the author's own filters apply
            check.run(subject)
    except NotApplicable as reason:
        return "skipped", str(reason)
    except Exception as error:  # noqa: BLE001 (any exception of a component is a finding)
        return "failed", "\n".join(_lines(error))
    return "passed", ""


def _lines(error: Exception) -> Iterator[str]:
    """Yield the message of a failure, then the failing example that hypothesis found."""
    known = isinstance(error, CheckFailed | PluginError)
    yield str(error) if known else f"{type(error).__name__}: {error}"
    notes = "\n".join(getattr(error, "__notes__", []))
    if notes:
        yield notes if len(notes) <= _LONGEST_NOTES else f"{notes[:_LONGEST_NOTES]}…"
