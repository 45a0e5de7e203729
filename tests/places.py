"""Folders outside of a test's own folder."""

from __future__ import annotations

import os
from pathlib import Path

#: The folder of helper modules, which is on the import path.
TESTS = Path(__file__).parent
ROOT = TESTS.parent
EXAMPLES = ROOT / "examples"
#: Real data; the folder may not exist.
DATA = Path(os.environ.get("DOVETAIL_DATA", ROOT.parent / "shared" / "data"))
