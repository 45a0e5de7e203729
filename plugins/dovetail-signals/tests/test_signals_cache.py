"""The cache of representations: exact, never stale, and intact after a kill."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dovetail.random import Draws
from dovetail_signals import tfr
from dovetail_signals.augment.transforms import SpecAugment
from dovetail_signals.cache import Cached

INNER = {
    "cwt": lambda: tfr.CWT(sample_rate=1000.0, frequencies=4),
    "stft": lambda: tfr.STFT(n_fft=32),
    "log_mel": lambda: tfr.LogMel(sample_rate=1000.0, n_fft=32, n_mels=6),
    "envelope": lambda: tfr.EnvelopeSpectrum(sample_rate=1000.0),
}


def alone(inner, signals):
    """Return the representation of each signal on its own."""
    return torch.stack([inner.represent(signal[None])[0] for signal in signals])


@given(
    st.sampled_from(sorted(INNER)),
    st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), min_size=1, max_size=4),
    st.booleans(),
)
def test_cached_values_equal_computed_ones(which, batches, again):
    """In any batches, repeated or not, and from a cache on disk, values are bit-identical."""
    signals = torch.randn(10, 2, 128, generator=torch.Generator().manual_seed(0))
    expected = alone(INNER[which](), signals)
    with tempfile.TemporaryDirectory() as folder:
        kept = Cached(representation=INNER[which](), path=folder)
        for rows in batches:
            assert torch.equal(kept.represent(signals[rows]), expected[rows])
            if again:
                kept.flush()
                kept = Cached(representation=INNER[which](), path=folder)


def test_a_signal_is_computed_once(tmp_path):
    """Neither this cache nor a later one with the same folder represents a signal again."""

    class Counts(tfr.ZScore):
        calls = 0

        def represent(self, signals):
            type(self).calls += 1
            return super().represent(signals)

    signals = torch.randn(5, 1, 64)
    first = Cached(representation=Counts(), path=tmp_path)
    for _ in range(3):
        first.represent(signals)
    first.dovetail_run_end()
    Cached(representation=Counts(), path=tmp_path).represent(signals.flip(0))

    assert Counts.calls == 5


@pytest.mark.parametrize(
    "changed", [{"n_fft": 64}, {"hop": 5}, {"standardize": False}, {"n_mels": 7}, {"high_hz": 400.0}, {"low_hz": 1.0}]
)
def test_other_options_are_another_representation(tmp_path, changed):
    """Entries of a representation with other options are not used."""
    options = {"sample_rate": 1000.0, "n_fft": 32, "n_mels": 6}
    signals = torch.randn(3, 1, 128)
    first = Cached(representation=tfr.LogMel(**options), path=tmp_path)
    first.represent(signals)
    first.flush()
    other = tfr.LogMel(**{**options, **changed})

    assert torch.equal(Cached(representation=other, path=tmp_path).represent(signals), alone(other, signals))


def test_signals_with_equal_bytes_are_distinct():
    """Equal bytes with another shape or type are another signal."""
    kept = Cached(representation=tfr.ZScore())
    flat = torch.randn(1, 1, 64)
    for signals in (flat, flat.reshape(1, 2, 32), flat.view(torch.float64), flat.reshape(1, 2, 32)):
        assert torch.equal(kept.represent(signals), tfr.ZScore().represent(signals))


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_damaged_file_is_not_used(place, flip):
    """If any byte of a file changes, the result is still right."""
    signals = torch.randn(4, 1, 64, generator=torch.Generator().manual_seed(1))
    with tempfile.TemporaryDirectory() as folder:
        first = Cached(representation=tfr.ZScore(), path=folder)
        expected = first.represent(signals)
        first.flush()
        (found,) = Path(folder).rglob("*.kept")
        content = bytearray(found.read_bytes())
        content[place % len(content)] ^= flip
        found.write_bytes(content)
        assert torch.equal(Cached(representation=tfr.ZScore(), path=folder).represent(signals), expected)


def test_one_of_several_representations_can_be_cached():
    """A cached representation works inside MultiTFR and knows the frequencies of its rows."""
    kept = Cached(representation=tfr.CWT(sample_rate=1000.0, frequencies=4))
    both = tfr.MultiTFR(representations={"cwt": kept, "stft": tfr.STFT(n_fft=32)})
    signals = torch.randn(3, 1, 64)
    found = both.transform_batch({"inputs": signals}, Draws(0, 0, torch.arange(3)))["inputs"]

    assert {name: values.shape for name, values in found.items()} == {"cwt": (3, 1, 4, 4), "stft": (3, 1, 17, 5)}
    assert torch.equal(kept.row_hz(1000.0), tfr.CWT(sample_rate=1000.0, frequencies=4).row_hz(1000.0))
    assert Cached(representation=tfr.ZScore()).row_hz(1000.0) is None


def test_a_full_cache_still_works(tmp_path, caplog):
    """Beyond its limit it caches nothing more, gives the right results, and warns once."""
    kept = Cached(representation=tfr.ZScore(), path=tmp_path, limit_mb=1)
    signals = torch.randn(40, 1, 10_000)
    with caplog.at_level(logging.WARNING, "dovetail.signals"):
        for _ in range(2):
            assert torch.equal(kept.represent(signals), alone(tfr.ZScore(), signals))
        kept.flush()

    assert len(caplog.records) == 1
    assert "25 representations fill its 1 MB and no more are cached" in caplog.text
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.kept")) < 1.1e6


def test_a_disk_that_cannot_be_written_is_no_error(tmp_path, caplog):
    """It warns, and continues in memory."""
    kept = Cached(representation=tfr.ZScore(), path=tmp_path / "cache")
    signals = torch.randn(2, 1, 64)
    kept.represent(signals)
    for folder in (tmp_path / "cache").iterdir():
        folder.rmdir()
    kept.flush()

    assert "nothing more is saved there" in caplog.text
    assert torch.equal(kept.represent(signals), tfr.ZScore().represent(signals))


def test_invalid_representations_raise():
    """A transform that is not a representation, or has an option that cannot be hashed."""

    class Odd(tfr.ZScore):
        def __init__(self):
            self.thing = object()

    with pytest.raises(ValueError, match="SpecAugment is not a representation"):
        Cached(representation=SpecAugment())
    with pytest.raises(ValueError, match="its options cannot be hashed: one option is of type object"):
        Cached(representation=Odd())


@pytest.mark.slow
def test_entries_survive_a_kill(tmp_path):
    """Killed at any moment, a process leaves a folder whose entries are all right."""
    code = """
import sys, torch
from dovetail_signals.cache import Cached
from dovetail_signals.tfr import ZScore
kept = Cached(representation=ZScore(), path=sys.argv[1])
signals = torch.randn(4000, 1, 256, generator=torch.Generator().manual_seed(0))
print("ready", flush=True)
for start in range(0, 4000, 8):
    kept.represent(signals[start : start + 8])
    kept.flush()
    print("flushed", flush=True)
"""
    chance = random.Random(0)  # noqa: S311 (a test's draw)
    for _ in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, env={**os.environ}, text=True
        ) as process:
            assert process.stdout.readline() == "ready\n"
            assert process.stdout.readline() == "flushed\n"
            time.sleep(chance.uniform(0, 0.25))
            process.send_signal(signal.SIGKILL)
    files = sorted(tmp_path.rglob("*.kept"))
    signals = torch.randn(4000, 1, 256, generator=torch.Generator().manual_seed(0))
    kept = Cached(representation=tfr.ZScore(), path=tmp_path)

    assert files
    assert torch.equal(kept.represent(signals), alone(tfr.ZScore(), signals))
