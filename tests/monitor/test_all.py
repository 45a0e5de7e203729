"""The public names of monitor."""

from __future__ import annotations

import subprocess
import sys

import dovetail.monitor


def test_public_names_are_imported_on_use():
    """Each is where the table says, and importing the package imports neither torch nor NumPy."""
    code = "import sys, dovetail.monitor; print({'torch', 'numpy'} & set(sys.modules), dir(dovetail.monitor))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert found == f"set() {sorted(dovetail.monitor.__all__)}\n"
    for name in dovetail.monitor.__all__:
        assert getattr(dovetail.monitor, name) is not None
