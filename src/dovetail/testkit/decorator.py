"""The pytest interface of the kit: one test per check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from dovetail.kernel.component import PluginError
from dovetail.spec.plugins import Plugins
from dovetail.testkit.registry import Check, CheckFailed, NotApplicable
from dovetail.testkit.runner import select_checks
from dovetail.testkit.subject import Subject

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_Test = TypeVar("_Test", bound=Callable[..., Any])


def conformance(
    name: str,
    *,
    kind: str | None = None,
    example: Mapping[str, Any] | None = None,
    files: Mapping[str, str | bytes] | None = None,
    batches: SearchStrategy[Any] | None = None,
    run: Mapping[str, Mapping[str, Any]] | None = None,
    expected_failures: Mapping[str, str] | None = None,
    plugins: Plugins | None = None,
) -> Callable[[_Test], _Test]:
    """Parametrize the decorated test with every check of the component ``name``.

    The test function takes one argument, ``check``, and calls it. ``pytest -k gradient`` selects checks by name.

    Args:
        name: the component's name in run files, plain or as ``"distribution:name"``.
        kind: the component's kind; required if components of several kinds have this name.
        example: a table of options that builds the component; by default its own ``example``.
        files: content of the files that the example refers to, by relative path. Every check runs in a folder that
            contains them.
        batches: a hypothesis strategy of inputs, for components that do not accept the kit's. It draws ``Case`` or
            (model output, batch) for losses and metrics, lists of samples for collators, samples for transforms,
            inputs for models.
        run: sections of a run file, such as ``{"model": {"type": "yourco.gan"}}``. They replace those of the kit's
            tiny run, in which it checks trainers, callbacks and trackers.
        expected_failures: checks that are known to fail, each with the reason. A check listed here that passes is
            reported as a failure.
        plugins: the plugins to search; by default all that are installed.
    """
    expected = dict(expected_failures or {})
    try:
        subject = Subject.find(name, kind=kind, example=example, files=files, batches=batches, run=run, plugins=plugins)
    except PluginError as error:
        # Fail as a test instead of during collection, so that the report shows the whole message.
        return pytest.mark.parametrize("check", [pytest.param(_NotFound(str(error)), id="plugin.found")])
    parameters = [
        pytest.param(
            _BoundCheck(check, subject),
            id=check.name,
            marks=[pytest.mark.xfail(reason=expected[check.name], strict=True)] if check.name in expected else (),
        )
        for check in select_checks(subject, expected)
    ]
    return pytest.mark.parametrize("check", parameters)


class _BoundCheck:
    """A check of one component, as the test calls it."""

    def __init__(self, check: Check, subject: Subject) -> None:
        self._check, self._subject = check, subject

    def __call__(self) -> None:
        __tracebackhide__ = True
        try:
            self._check.run(self._subject)
        except NotApplicable as reason:
            pytest.skip(str(reason))


class _NotFound:
    """The only check of a component that does not exist: it fails with the reason."""

    def __init__(self, message: str) -> None:
        self._message = message

    def __call__(self) -> None:
        __tracebackhide__ = True
        raise CheckFailed(self._message)
