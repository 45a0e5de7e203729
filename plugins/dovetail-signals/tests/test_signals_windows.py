"""Cutting recordings into windows."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dovetail_signals.simulated import simulated_rolling
from dovetail_signals.windows import Recording, cut


def test_segments_are_as_long_as_their_windows():
    """A recording is put together from its windows; if some are missing, from the longest part."""
    samples = simulated_rolling(0, faults=["ball"], recordings=2, seconds=0.5, window=1000, overlap=0.5)
    whole = {
        name: signal for name, (_, signal) in zip(["ball 0", "ball 1"], samples.contiguous_segments(), strict=True)
    }
    holey = samples.subset(np.array([0, 1, 2, 5, 6, 7, 8, 9]))
    ((row, longest),) = holey.contiguous_segments()

    assert [signal.shape for signal in whole.values()] == [(1, 6000), (1, 6000)]
    assert torch.equal(whole["ball 0"][0, 500:1500], samples[1]["inputs"][0])
    assert (row, longest.shape) == (3, (1, 3000))
    assert torch.equal(longest, whole["ball 0"][:, 2500:5500])


@settings(max_examples=40)
@given(st.lists(st.integers(8, 90), min_size=1, max_size=5), st.integers(2, 8), st.floats(0, 0.9), st.data())
def test_windows_equal_those_of_a_plain_loop(lengths, window, overlap, data):
    """Every window is inside its recording, and a batch equals single samples."""
    found = [
        Recording(f"r{number}", torch.randn(2, length), 100.0, {"fault": number % 2, "rpm": number})
        for number, length in enumerate(lengths)
    ]
    dataset = cut(
        found,
        window=window,
        overlap=overlap,
        target="fault",
        task="classification",
        meta=["rpm"],
        classes=[],
        fingerprint="x",
    )
    hop = max(1, round(window * (1 - overlap)))
    expected = [
        recording.signal[:, start : start + window]
        for recording in found
        for start in range(0, recording.signal.shape[1] - window + 1, hop)
    ]
    some = np.asarray(data.draw(st.lists(st.integers(0, len(expected) - 1), min_size=1, max_size=6)))

    assert len(dataset) == len(expected)
    assert all(torch.equal(dataset[index]["inputs"], expected[index]) for index in range(len(expected)))
    assert torch.equal(dataset.get_batch(some)["inputs"], torch.stack([expected[index] for index in some]))
    assert torch.equal(dataset.subset(some)[0]["inputs"], expected[some[0]])
    assert dataset.get_batch(some)["meta"]["rpm"].tolist() == dataset.column("rpm")[some].tolist()
