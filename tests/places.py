"""Where tests find what lies outside of their own folder."""

from __future__ import annotations

import os
from pathlib import Path

#: Helper modules of the tests; on the import path of every test.
TESTS = Path(__file__).parent
ROOT = TESTS.parent
EXAMPLES = ROOT / "examples"
#: Real data, which may be absent.
DATA = Path(os.environ.get("DOVETAIL_DATA", ROOT.parent / "shared" / "data"))
