"""Clips in one archive."""

from __future__ import annotations

import numpy as np
import pytest

from dovetail.data import SplitOptions, split
from dovetail_signals.clips import clips


def test_clips_of_an_archive(tmp_path):
    """Short clips are padded, long ones cut, and other arrays are columns to split by."""
    sound = np.arange(1, 31, dtype=np.int16)
    np.savez(
        tmp_path / "clips.npz",
        audio=sound,
        offsets=[0, 4, 20, 30],
        label=[2, 1, 2],
        speaker=["ann", "bob", "ann"],
        sample_rate=8000,
    )
    dataset = clips(tmp_path / "clips.npz", "label", window=8, longest=8, meta=["speaker"])

    assert len(dataset) == 3
    assert dataset.class_names == ("1", "2")
    assert (dataset[0]["inputs"][0] * 32768).tolist() == [1, 2, 3, 4, 0, 0, 0, 0]
    assert float(dataset[1]["inputs"][0, 0] * 32768) == 5
    assert dataset[1]["speaker"] == "bob"
    assert [len(part) for _, part in split(dataset, SplitOptions(by="speaker", test=["bob"], validation=0), 0)] == [
        2,
        1,
    ]
    np.savez(tmp_path / "bad.npz", audio=sound, offsets=[0, 40], sample_rate=8000)
    with pytest.raises(ValueError, match="must rise from 0 to at most 30"):
        clips(tmp_path / "bad.npz", "label", window=8)
    with pytest.raises(ValueError, match="no array 'sound'"):
        clips(tmp_path / "bad.npz", "label", window=8, signal="sound")
