"""The kit's face to pytest: one test per check."""

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
    """Make one pytest test per check of the component ``name`` out of the decorated function.

    The function takes one argument, ``check``, and calls it. ``pytest -k gradient`` picks checks by name.

    Args:
        name: what run files call it, plain or as ``"distribution:name"``.
        kind: which kind it is of, where several kinds have one of this name.
        example: a table of options that builds it; by default the component's own ``example``.
        files: files that the example names, relative path to content; they lie in the folder that each check runs in.
        batches: what to feed it, where what the kit draws does not fit. A hypothesis strategy: of ``Case`` or
            (model output, batch) for losses and metrics, of lists of samples for collators, of samples for transforms,
            of inputs for models.
        run: sections of a run file, such as ``{"model": {"type": "yourco.gan"}}``, that take the place of those of the
            kit's tiny run, in which trainers, callbacks and trackers are tried.
        expected_failures: checks known to fail, each with the reason. They must fail: one that passes is reported.
        plugins: where to look; by default everything that is installed.
    """
    expected = dict(expected_failures or {})
    try:
        subject = Subject.find(name, kind=kind, example=example, files=files, batches=batches, run=run, plugins=plugins)
    except PluginError as error:
        # As a test that fails, and not while pytest collects: the message then stands in the report, whole.
        return pytest.mark.parametrize("check", [pytest.param(_Missing(str(error)), id="plugin.found")])
    parameters = [
        pytest.param(
            _Bound(one, subject),
            id=one.name,
            marks=[pytest.mark.xfail(reason=expected[one.name], strict=True)] if one.name in expected else (),
        )
        for one in select_checks(subject, expected)
    ]
    return pytest.mark.parametrize("check", parameters)


class _Bound:
    """A check and the component it is about: what the test calls."""

    def __init__(self, one: Check, subject: Subject) -> None:
        self._check, self._subject = one, subject

    def __call__(self) -> None:
        __tracebackhide__ = True
        try:
            self._check.run(self._subject)
        except NotApplicable as reason:
            pytest.skip(str(reason))


class _Missing:
    """Stands for all checks of a component that there is none of."""

    def __init__(self, message: str) -> None:
        self._message = message

    def __call__(self) -> None:
        __tracebackhide__ = True
        raise CheckFailed(self._message)
