"""Tests of the optimizers' public namespace."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dovetail import optimizers


def test_every_public_name_can_be_imported() -> None:
    """``dir`` lists the names, and an unknown name raises as Python does."""
    assert dir(optimizers) == optimizers.__all__
    assert all(callable(getattr(optimizers, name)) for name in optimizers.__all__)
    with pytest.raises(AttributeError, match=r"module 'dovetail.optimizers' has no attribute 'adamm'"):
        optimizers.adamm  # noqa: B018 (the access is the test)


def test_importing_the_namespace_does_not_import_torch() -> None:
    """Only using a name does."""
    code = "import sys, dovetail.optimizers; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
