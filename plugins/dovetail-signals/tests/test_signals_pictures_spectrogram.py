"""The picture of spectrograms."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from dovetail_signals.pictures.spectrogram import masked


@given(
    st.integers(0, 1000),
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 5)), max_size=3),
    st.lists(st.tuples(st.integers(0, 15), st.integers(0, 5)), max_size=3),
    st.sampled_from([0.0, 0.3]),
)
def test_masks_are_found_but_not_silence(seed, rows, columns, fill):
    """Exactly the masked rows and columns are found, even next to silent columns."""
    values = torch.randn(12, 16, generator=torch.Generator().manual_seed(seed))
    values[:, 13:] = -50.0
    expected = torch.zeros(12, 16, dtype=torch.bool)
    for start, length in rows:
        expected[start : start + length] = True
    for start, length in columns:
        expected[:, start : start + length] = True
    assert torch.equal(masked(values.masked_fill(expected, fill)), expected) or expected.all()
