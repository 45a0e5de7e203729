"""Columns: labels, missing values, and the targets built from them."""

from __future__ import annotations

import numpy as np
import pytest

from dovetail.data import SplitOptions, split
from dovetail.data.columns import natural_key
from dovetail.data.errors import DataError
from dovetail.data.table import csv_table, jsonl_table

TABLE = """name,height,weight,sex,label
ann,1.7,60,f,yes
bob,1.8,80,m,no
cid,1.6,,m,yes
"""


@pytest.fixture
def write(tmp_path):
    """Write a file and return its path."""

    def written(content, name="data.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return written


def test_natural_order():
    """As a person sorts: numbers inside text by value."""
    assert sorted(["x10", "x2", "B", "10", "9", ""], key=natural_key) == ["", "9", "10", "B", "x2", "x10"]


@pytest.mark.parametrize(
    "labels, names",
    [
        (["10", "9", "2"], ("2", "9", "10")),
        (["x10", "x9", "x2"], ("x2", "x9", "x10")),
        (["1.0", "0", "-1"], ("-1", "0", "1")),
        (["a", "1", "b"], ("1", "a", "b")),
        (["None", "NA", "x"], ("NA", "None", "x")),
    ],
)
def test_classes_are_in_natural_order(write, labels, names):
    """In a column of text, a word for missing numbers is a label like any other."""
    rows = "".join(f"0.5,{label}\n" for label in labels)

    assert csv_table(write(f"x,label\n{rows}"), "label").class_names == names


def test_classes_can_be_given(write):
    """As names of labels, or as names of indices."""
    path = write("x,label,code\n1,b,0\n2,a,2\n")

    by_name = csv_table(path, "label", classes=["b", "a", "never"])
    by_index = csv_table(path, "code", classes=["ok", "worn", "broken"], features=["x"])

    assert (by_name.targets.tolist(), by_name.num_classes) == ([0, 1], 3)
    assert (by_index.targets.tolist(), by_index.class_names) == ([0, 2], ("ok", "worn", "broken"))


def test_a_label_out_of_range_is_named_with_its_line(write):
    """If labels are indices of given classes."""
    with pytest.raises(
        DataError, match=r"data.csv:4: label 3 in 'label' is out of range: 3 classes have indices 0 to 2"
    ):
        csv_table(write("x,label\n1,0\n2,1\n3,3\n"), "label", classes=["a", "b", "c"])


@pytest.mark.parametrize("gap", ["", "NA", "n/a", "nan", "NaN", "null", "None", "?", "  "])
def test_missing_numbers_are_named_or_dropped(write, gap):
    """The message has the line of the first, and the number of others."""
    path = write(f"x,label\n1,a\n{gap},b\n{gap},b\n4,b\n")

    with pytest.raises(
        DataError, match=r"data.csv:3: 'x' has no value here \(nor do 1 other row\); missing = \"drop\" drops"
    ):
        csv_table(path, "label")
    assert csv_table(path, "label", missing="drop").inputs.flatten().tolist() == [1, 4]


def test_unused_columns_may_lack_values(write):
    """Only the columns that go into samples must be complete."""
    assert len(csv_table(write(TABLE), "label", features=["height"])) == 3


def test_dropping_every_row_is_refused(write):
    """Nothing would be left."""
    with pytest.raises(DataError, match="every row lacks a value"):
        csv_table(write("x,y,label\n1,,a\n,2,b\n"), "label", missing="drop")


def test_every_column_can_be_split_by(write):
    """Used or not; whole numbers are integers there."""
    samples = csv_table(write("group,x,label\n1,0.5,a\n2,0.5,b\n1,0.5,b\n"), "label", features=["x"])

    assert samples.column("group").dtype == np.int64
    assert samples.column("label").tolist() == ["a", "b", "b"]
    assert len(split(samples, SplitOptions(by="group", test=[2], validation=0), 0).train) == 2
    with pytest.raises(KeyError, match="no column 'grop'; there are 'group', 'label', 'x'"):
        samples.column("grop")


@pytest.mark.parametrize("value", ["inf", "1e39"])
def test_values_of_a_regression_must_fit_into_float32(write, value):
    """The message has the value and its line."""
    with pytest.raises(DataError, match=r"data.csv:3: .* in 'y' is not a finite float32 number"):
        csv_table(write(f"x,y\n1,2\n2,{value}\n"), "y", task="regression")


@pytest.mark.parametrize(
    "labels, names",
    [
        (["007", "7", "08"], ("7", "007", "08")),
        (["1e3", "1000", "5"], ("1e3", "5", "1000")),
        (["9007199254740993", "9007199254740992", "5"], ("5", "9007199254740992", "9007199254740993")),
        (["1", "1.0", "2"], ("1", "1.0", "2")),
        (["1", "", "1.0"], ("1", "1.0")),
        (["True", "false", "true"], ("True", "false", "true")),
        (["1.0", "2.0", "10.0"], ("1", "2", "10")),
    ],
)
def test_labels_that_look_like_numbers_stay_apart(write, labels, names):
    """Two texts are two classes, two one-hot inputs and two groups, even if they are the same number."""
    rows = "".join(f"{row},{label}\n" for row, label in enumerate(labels * 2))
    path = write(f"x,label\n{rows}")
    samples = csv_table(path, "label", missing="drop")
    one_hot = csv_table(path, "x", task="regression", features=[], one_hot=["label"], missing="drop")

    assert set(samples.class_names) == set(names)
    assert [samples.class_names[target] for target in samples.targets] == [
        dict(zip(("1.0", "2.0", "10.0"), names, strict=True))[label] if labels[2] == "10.0" else label
        for label in labels * 2
        if label
    ]
    assert one_hot.inputs.shape[1] == len(names)
    assert len(set(samples.column("label").tolist())) == len(names)


def test_large_integers_of_json_stay_apart(write):
    """Also beyond 2^53, where float64 has no odd ones."""
    rows = "".join(f'{{"x": {row}, "l": {2**53 + row % 3}}}\n' for row in range(6))

    assert jsonl_table(write(rows, "d.jsonl"), "l").class_names == tuple(str(2**53 + add) for add in range(3))


def test_numbers_in_another_notation_stay_numbers(write):
    """In features, regressions and meta, where the value counts."""
    path = write("x,rpm,y\n007,1500.00,1e3\n7,1.5e3,1000\n08,1500,5\n")
    samples = csv_table(path, "y", task="regression", features=["x"], meta=["rpm"])

    assert samples.inputs.flatten().tolist() == [7, 7, 8]
    assert samples.targets.tolist() == [1000, 1000, 5]
    assert samples[0]["rpm"] == 1500
