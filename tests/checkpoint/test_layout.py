"""Tests of the layout of a safetensors file: header and pieces."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dovetail.checkpoint.layout import (
    ITEM_SIZES,
    MAX_PIECE,
    Piece,
    make_header,
    parse_header,
    piece_slices,
    pieces_from_json,
    pieces_to_json,
)
from states import header

TENSORS = st.dictionaries(
    st.text(max_size=4).filter(lambda name: name != "__metadata__"),
    st.tuples(st.sampled_from(sorted(ITEM_SIZES)), st.lists(st.integers(0, 3), max_size=3)),
    max_size=6,
)


@given(TENSORS)
def test_a_header_parses_to_its_entries(tensors):
    """Entries are aligned, in order, and without gaps."""
    made, entries = make_header((name, dtype, shape) for name, (dtype, shape) in tensors.items())

    assert parse_header(made, entries[-1].end if entries else len(made)) == sorted(
        entries, key=lambda entry: (entry.start, entry.end)
    )
    assert all(entry.start % ITEM_SIZES[entry.dtype] == 0 for entry in entries)
    assert {entry.name: (entry.dtype, list(entry.shape)) for entry in entries} == tensors


VALID = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "tensors, message",
    [
        ({"w": {**VALID, "shape": [2.0]}}, "the shape or offsets of 'w' are invalid"),
        ({"w": {**VALID, "shape": [1] * 65}}, "the shape or offsets of 'w' are invalid"),
        ({"w": {**VALID, "shape": [3]}}, "the shape of 'w' does not fit its bytes"),
        ({"w": {**VALID, "data_offsets": [4, 12]}}, "the bytes of 'w' do not follow the previous tensor"),
        ({"v": VALID, "w": VALID}, "the bytes of 'w' do not follow the previous tensor"),
        ({"w": {**VALID, "shape": [1], "data_offsets": [0, 4]}}, "the tensors do not fill the file"),
    ],
)
def test_a_header_that_does_not_describe_the_file_is_refused(tensors, message):
    """The file holds 8 bytes after its header."""
    made = header(tensors)

    with pytest.raises((ValueError, TypeError), match=message):
        parse_header(made, len(made) + 8)


def test_a_large_tensor_is_cut_into_pieces():
    """All pieces except the last have the largest size."""
    assert [part.stop for part in piece_slices(2 * MAX_PIECE + 5)] == [MAX_PIECE, 2 * MAX_PIECE, 2 * MAX_PIECE + 5]
    assert list(piece_slices(0)) == []


DIGEST = "0" * 64


def test_pieces_round_trip_through_json():
    """state.json stores the end and the digest of each."""
    pieces = [Piece(3, DIGEST), Piece(8, "f" * 64)]

    assert pieces_from_json(json.loads(json.dumps(pieces_to_json(pieces))), 8) == pieces


@pytest.mark.parametrize(
    "value, message",
    [
        ([[3, DIGEST], [9, DIGEST]], "do not make up the file"),
        ([[8, DIGEST], [8, DIGEST]], "do not make up the file"),
        ([[0, DIGEST], [8, DIGEST]], "do not make up the file"),
        ([], "do not make up the file"),
        ([[8, DIGEST[1:]]], "a digest is not a SHA-256"),
        ([[8, "G" * 64]], "a digest is not a SHA-256"),
    ],
)
def test_malformed_pieces_are_refused(value, message):
    """The file has 8 bytes."""
    with pytest.raises(ValueError, match=message):
        pieces_from_json(value, 8)
