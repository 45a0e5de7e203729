"""The run file that several processes train."""

from __future__ import annotations

from pathlib import Path

import pytest

from process_runs import RUN


@pytest.fixture
def run_file(tmp_path) -> Path:
    """A small run of digits: 899 training samples."""
    path = tmp_path / "small.toml"
    path.write_text(RUN)
    return path
