"""Running checks without pytest, for ``dovetail plugins check`` and for scripts."""

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

Status = Literal["passed", "failed", "skipped", "expected failure"]
_LONGEST_NOTES: Final = 600  # characters


@frozen
class CheckResult:
    """What became of one check of one component."""

    #: The check: ``"loss.finite"``.
    check: str
    #: What holds where it passes, in a sentence.
    summary: str
    status: Status
    #: Why it failed or was skipped; empty where it passed.
    message: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing needs to be done."""
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
    """Try every check that applies to one component; the arguments are those of :func:`~dovetail.testkit.conformance`.

    Raises:
        PluginError: there is no such component, or several; the message says what to do.
        ValueError: ``expected_failures`` names a check that the component does not get.
    """
    subject = Subject.find(name, kind=kind, example=example, files=files, batches=batches, plugins=plugins)
    expected = dict(expected_failures or {})
    return [_try(one, subject, expected.get(one.name)) for one in select_checks(subject, expected)]


def select_checks(subject: Subject, expected_failures: Mapping[str, str]) -> list[Check]:
    """Return the checks that ``subject`` gets.

    Raises:
        ValueError: ``expected_failures`` names a check that is not among them.
    """
    checks = checks_for(subject.kind, subject.traits)
    unknown = sorted(set(expected_failures) - {one.name for one in checks})
    if unknown:
        names = ", ".join(one.name for one in checks)
        raise ValueError(f"expected_failures: {subject.name} gets no check '{unknown[0]}'; it gets {names}")
    return checks


def _try(one: Check, subject: Subject, expected: str | None) -> CheckResult:
    began = time.perf_counter()
    status, message = _outcome(one, subject)
    if expected is not None:
        if status == "failed":
            status, message = "expected failure", f"{expected} ({message})"
        elif status == "passed":
            status, message = (
                "failed",
                f"passes, though it is expected to fail ({expected}); take it out of expected_failures",
            )
    return CheckResult(one.name, one.summary, status, message, time.perf_counter() - began)


def _outcome(one: Check, subject: Subject) -> tuple[Status, str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a report is no place for them; under pytest the author's own filters hold
            one.run(subject)
    except NotApplicable as reason:
        return "skipped", str(reason)
    except Exception as error:  # noqa: BLE001 (whatever a component raises is a finding)
        return "failed", "\n".join(_lines(error))
    return "passed", ""


def _lines(error: Exception) -> Iterator[str]:
    """Yield what to show of a failure: its message, then the example that hypothesis found."""
    known = isinstance(error, CheckFailed | PluginError)
    yield str(error) if known else f"{type(error).__name__}: {error}"
    notes = "\n".join(getattr(error, "__notes__", []))
    if notes:
        yield notes if len(notes) <= _LONGEST_NOTES else f"{notes[:_LONGEST_NOTES]}…"
