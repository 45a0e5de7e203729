"""The conformance kit: property tests for the components of a plugin.

.. code-block:: python

    from dovetail.testkit import conformance


    @conformance("yourco.envelope")
    def test_conformance(check):
        check()

Each check becomes one pytest test with a name of its own. :func:`run_checks` runs the same checks without pytest.
The kit needs ``pip install 'dovetail[testkit]'``. Importing this package imports neither torch nor hypothesis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dovetail.kernel.exports import lazy_namespace

if TYPE_CHECKING:
    from dovetail.testkit.cases import Case as Case
    from dovetail.testkit.decorator import conformance as conformance
    from dovetail.testkit.registry import Check as Check
    from dovetail.testkit.registry import CheckFailed as CheckFailed
    from dovetail.testkit.registry import NotApplicable as NotApplicable
    from dovetail.testkit.runner import CheckResult as CheckResult
    from dovetail.testkit.runner import run_checks as run_checks
else:
    __getattr__, __dir__, __all__ = lazy_namespace(__name__)
