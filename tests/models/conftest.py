"""What all tests of models use."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Draw weights and inputs from a fixed seed."""
    torch.manual_seed(0)
