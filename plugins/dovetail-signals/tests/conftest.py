"""Fixtures that several test files use."""

from __future__ import annotations

import pytest
import torch

from dovetail_signals.simulated import simulated_rolling


@pytest.fixture(scope="session")
def rolling():
    """Return a batch of simulated recordings: healthy, outer race, inner race."""
    data = simulated_rolling(
        3,
        faults=["healthy", "outer_race", "inner_race"],
        recordings=4,
        seconds=1.0,
        window=12_000,
        snr_db=(10.0, 10.0),
        slip=0.002,
        resonance_hz=(2500.0, 2600.0),
        meta=["rpm"],
    )
    samples = [data[index] for index in range(len(data))]
    return {
        "inputs": torch.stack([sample["inputs"] for sample in samples]),
        "targets": torch.tensor([int(sample["targets"]) for sample in samples]),
        "meta": {"rpm": torch.tensor([float(sample["rpm"]) for sample in samples])},
    }
