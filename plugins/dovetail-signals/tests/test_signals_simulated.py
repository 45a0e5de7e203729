"""The datasets of simulated bearings."""

from __future__ import annotations

import numpy as np
import pytest

from dovetail_signals.simulated import simulated_journal, simulated_rolling


def test_datasets_depend_on_the_seed_only():
    """The same seed gives the same windows, another seed others, and every class is there."""
    first, again, other = (simulated_rolling(seed, recordings=2, seconds=0.5) for seed in (1, 1, 2))
    journal = simulated_journal(1, recordings=2, seconds=1.0, meta=["sommerfeld"])

    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert np.bincount(first.targets).tolist() == [10] * 5
    assert len(set(first.groups.tolist())) == 10
    assert np.bincount(journal.targets).tolist() == [4] * 6
    assert journal[0]["sommerfeld"] > 0


def test_a_descending_range_raises():
    """The error names the option."""
    with pytest.raises(ValueError, match=r"snr_db: must be \[lowest, highest\], got \[10.0, -10.0\]"):
        simulated_rolling(0, recordings=1, seconds=0.3, snr_db=(10.0, -10.0))
