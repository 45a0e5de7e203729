"""Tests of storage errors and of byte counts in messages."""

from __future__ import annotations

import errno
import pickle

import pytest

from dovetail.storage.errors import StorageError, format_bytes


def test_an_error_survives_pickling(tmp_path):
    """A worker process sends it to its parent with path, number and message."""
    error = StorageError(tmp_path, "cannot write this", errno.ENOSPC)

    unpickled = pickle.loads(pickle.dumps(error))  # noqa: S301 (our own)

    assert (str(unpickled), unpickled.filename, unpickled.errno) == (str(error), str(tmp_path), errno.ENOSPC)
    assert isinstance(error, OSError)


@pytest.mark.parametrize(
    "number, text",
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (1_500_000, "1.5 MB"),
        (2 * 10**9, "2 GB"),
        (5 * 10**15, "5e+03 TB"),
    ],
)
def test_byte_counts_are_shown_in_powers_of_a_thousand(number, text):
    """Three significant digits and a unit."""
    assert format_bytes(number) == text
