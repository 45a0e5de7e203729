"""Windows of a text for next-character prediction."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dovetail.data.character_windows import characters
from dovetail.data.errors import DataError


def test_characters(tmp_path):
    """A window, and the window one character later; the end of the text validates."""
    (tmp_path / "text.txt").write_text("abcde" * 20, encoding="utf-8")

    splits = characters(tmp_path / "text.txt", window=4)

    assert [(name, len(part)) for name, part in splits] == [("train", 22), ("validation", 2)]
    assert splits.train.class_names == tuple("abcde")
    assert (splits.train.vocab_size, splits.train.num_classes, splits.train.input_shape) == (5, 5, (4,))
    inputs, targets = splits.train[1]
    assert "".join(splits.train.class_names[index] for index in inputs) == "eabc"
    assert "".join(splits.train.class_names[index] for index in targets) == "abcd"
    assert inputs.dtype is targets.dtype is torch.int64
    with pytest.raises(IndexError, match="window 22 of 22"):
        splits.train[22]


@given(st.integers(1, 9), st.one_of(st.none(), st.integers(1, 12)), st.integers(20, 60))
def test_windows_have_their_next_character(tmp_path_factory, window, stride, length):
    """All windows are complete, and equal whether read one by one or at once."""
    text = "".join(chr(97 + number % 26) for number in range(length))
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(text)

    part = characters(path, window=window, stride=stride, train=1).train

    starts = range(0, length - window, stride or window)
    assert len(part) == len(starts)
    batch = part.get_batch(np.arange(len(part)))
    for row, start in enumerate(starts):
        assert torch.equal(batch["inputs"][row], part[row][0])
        assert torch.equal(batch["targets"][row], part[row][1])
        assert "".join(part.class_names[index] for index in part[row][1]) == text[start + 1 : start + window + 1]


def test_characters_beyond_ascii(tmp_path):
    """Each is one character, whatever its bytes; a byte order mark is none."""
    (tmp_path / "text.txt").write_text("\ufeff" + "é😀a" * 20, encoding="utf-8")

    assert characters(tmp_path / "text.txt", window=4).train.class_names == ("a", "é", "😀")


@pytest.mark.parametrize(
    "content, options, message",
    [
        (b"abc", {}, "3 characters for train are too few for a window of 128"),
        (b"abcdefghij" * 3, {"window": 5}, "3 characters for validation are too few for a window of 5"),
        (b"", {}, "0 characters for train"),
        (b"ab\n\xff", {}, r"text.txt:2: this is not UTF-8 \(byte 0xff\)"),
    ],
)
def test_unusable_texts_are_refused(tmp_path, content, options, message):
    """Too short, or not text."""
    (tmp_path / "text.txt").write_bytes(content)

    with pytest.raises(DataError, match=message):
        characters(tmp_path / "text.txt", **options)
