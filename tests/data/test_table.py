"""Tests of CSV and JSON Lines files as datasets: what they become, and how hostile ones are told apart."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dovetail.data.errors import DataError
from dovetail.data.loader import make_loader
from dovetail.data.padding import ClassificationCollator
from dovetail.data.rows import read_csv, read_numbers
from dovetail.data.split import SplitOptions, split
from dovetail.data.table import csv_table, jsonl_table
from dovetail.main import run
from small_runs import small

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


# --- what they become -----------------------------------------------------------------------------------------------


def test_numbers_are_features_and_labels_classes(write):
    """By default every column of numbers but the target."""
    samples = csv_table(write(TABLE), "label", missing="drop")

    assert samples.inputs.tolist() == [[pytest.approx(1.7), 60], [pytest.approx(1.8), 80]]
    assert samples.inputs.dtype is torch.float32
    assert samples.class_names == ("no", "yes")
    assert samples.targets.tolist() == [1, 0]
    assert (samples.num_classes, samples.input_shape, len(samples)) == (2, (2,), 2)
    assert samples.fingerprint == hashlib.sha256(TABLE.encode()).hexdigest()


def test_features_have_the_order_they_are_named_in(write):
    """And one_hot columns follow them, their values sorted."""
    samples = csv_table(write(TABLE), "label", features=["height"], one_hot=["sex"])

    assert samples.inputs.tolist() == [
        [pytest.approx(h), *sex] for h, sex in ((1.7, (1, 0)), (1.8, (0, 1)), (1.6, (0, 1)))
    ]


def test_numbers_can_be_one_hot_too(write):
    """Levels 1, 2, 10 sort as numbers; no class is lost to rounding."""
    samples = csv_table(write("level,label\n10,a\n2,b\n12345678,a\n"), "label", one_hot=["level"])

    assert samples.inputs.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]


def test_a_regression_has_one_float_a_sample(write):
    """[rows, 1], so that it meets a model's [batch, 1]."""
    samples = csv_table(write(TABLE), "height", task="regression", one_hot=["sex"], meta=["weight"])

    assert samples[0]["targets"].shape == (1,)
    assert samples.target_values.dtype is torch.float32
    assert samples.targets.tolist() == pytest.approx([1.7, 1.8, 1.6])
    assert samples.class_names is None
    assert samples.num_classes is None


def test_meta_travels_into_the_batch(write):
    """Numbers as tensors, text as a list; and is no feature unless named as one."""
    samples = csv_table(write(TABLE), "label", meta=["name", "weight"])
    batch = make_loader(samples, batch_size=3).batches(0)

    meta = next(batch)["meta"]

    assert samples.input_shape == (1,)
    assert meta["name"] == ["ann", "bob", "cid"]
    assert meta["weight"][:2].tolist() == [60, 80]
    assert math.isnan(meta["weight"][2])
    assert samples[0]["name"] == "ann"


def test_every_column_can_be_split_by(write):
    """Used or not; whole numbers are integers there."""
    samples = csv_table(write("group,x,label\n1,0.5,a\n2,0.5,b\n1,0.5,b\n"), "label", features=["x"])

    assert samples.column("group").dtype == np.int64
    assert samples.column("label").tolist() == ["a", "b", "b"]
    assert len(split(samples, SplitOptions(by="group", test=[2], validation=0), 0).train) == 2
    with pytest.raises(KeyError, match="no column 'grop'; there are 'group', 'label', 'x'"):
        samples.column("grop")


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
def test_classes_are_sorted_as_a_person_would(write, labels, names):
    """And what stands for a missing number is a label like any other in a column of text."""
    rows = "".join(f"0.5,{label}\n" for label in labels)

    assert csv_table(write(f"x,label\n{rows}"), "label").class_names == names


def test_classes_can_be_given(write):
    """As names of labels, or as names of indices."""
    path = write("x,label,code\n1,b,0\n2,a,2\n")

    by_name = csv_table(path, "label", classes=["b", "a", "never"])
    by_index = csv_table(path, "code", classes=["ok", "worn", "broken"], features=["x"])

    assert (by_name.targets.tolist(), by_name.num_classes) == ([0, 1], 3)
    assert (by_index.targets.tolist(), by_index.class_names) == ([0, 2], ("ok", "worn", "broken"))


@pytest.mark.parametrize("gap", ["", "NA", "n/a", "nan", "NaN", "null", "None", "?", "  "])
def test_missing_numbers_are_named_or_dropped(write, gap):
    """With the line of the first, and how many more."""
    path = write(f"x,label\n1,a\n{gap},b\n{gap},b\n4,b\n")

    with pytest.raises(
        DataError, match=r"data.csv:3: 'x' has no value here \(nor have 1 other row\); missing = \"drop\""
    ):
        csv_table(path, "label")
    assert csv_table(path, "label", missing="drop").inputs.flatten().tolist() == [1, 4]


def test_a_missing_value_in_a_column_that_is_not_used_does_not_matter(write):
    """Only what goes into samples must be there."""
    assert len(csv_table(write(TABLE), "label", features=["height"])) == 3


def test_texts_become_bytes_of_their_own_length(write):
    """UTF-8 bytes plus 1; 0 is left for padding."""
    path = write('{"text": "aé", "label": 1}\n{"text": "abcdef", "label": 0}\n', "data.jsonl")
    samples = jsonl_table(path, "label", text="text", max_length=5, meta=["label"])

    batch = next(iter(make_loader(samples, ClassificationCollator(), batch_size=2)))

    assert samples[0]["inputs"].tolist() == [ord("a") + 1, 0xC3 + 1, 0xA9 + 1]
    assert batch["inputs"].tolist() == [[98, 196, 170, 0, 0], [98, 99, 100, 101, 102]]
    assert batch["mask"].sum(1).tolist() == [3, 5]
    assert batch["inputs"].max() < samples.vocab_size
    assert (samples.num_classes, samples.targets.tolist()) == (2, [1, 0])
    assert samples.subset(np.asarray([1]))[0]["inputs"].tolist() == [98, 99, 100, 101, 102]
    assert len(set(samples.row_keys().tolist())) == 2
    with pytest.raises(KeyError, match="no column 'x'"):
        samples.column("x")


def test_the_default_collator_says_which_one_pads(write):
    """Texts of different lengths cannot be stacked."""
    path = write('{"text": "a", "label": 1}\n{"text": "ab", "label": 0}\n', "data.jsonl")

    with pytest.raises(DataError, match="collator type 'classification' pads"):
        next(iter(make_loader(jsonl_table(path, "label", text="text"), batch_size=2)))


def test_json_keeps_numbers_and_text_apart(write):
    """Booleans are numbers, "5" is text, null and absent keys are missing."""
    lines = [
        {"x": 1, "flag": True, "code": "5", "y": "a"},
        {"x": 2.5, "flag": False, "code": "6", "y": "b"},
        {"x": None, "flag": False, "code": "6", "y": "b"},
        {"flag": False, "code": "6", "y": "b"},
    ]
    path = write("\n\n".join(map(json.dumps, lines)), "data.jsonl")

    samples = jsonl_table(path, "y", missing="drop")

    assert samples.inputs.tolist() == [[1, 1], [2.5, 0]]
    assert samples.column("code").tolist() == ["5", "6"]


cells = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8).map(
    lambda text: f"x{text.strip()}x"
)


@given(
    st.lists(st.tuples(st.floats(-1e6, 1e6, width=32), cells, st.sampled_from("ab")), min_size=2, max_size=10),
    st.sampled_from(",;\t|"),
)
def test_what_the_csv_module_writes_is_read(tmp_path_factory, rows, delimiter):
    """Any text, with any delimiter: quotes, delimiters and line ends inside of fields included."""
    if len({label for _, _, label in rows}) == 1:
        rows = [*rows, (0.0, "x", "b" if rows[0][2] == "a" else "a")]
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter).writerows([("number", "text", "label"), *rows])
    path = tmp_path_factory.mktemp("csv") / "data.csv"
    path.write_text(out.getvalue(), encoding="utf-8", newline="")

    samples = csv_table(path, "label", delimiter=delimiter)

    assert samples.column("text").tolist() == [text for _, text, _ in rows]
    assert samples.inputs.flatten().tolist() == [number for number, _, _ in rows]
    assert [samples.class_names[target] for target in samples.targets] == [label for _, _, label in rows]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_marks(write, end, mark):
    """Files from Windows, and blank lines."""
    samples = csv_table(write(mark + end.join(["x,label", "1,a", "", "2,b", "", ""])), "label")

    assert samples.inputs.tolist() == [[1], [2]]


# --- hostile ones (reliability 19) ----------------------------------------------------------------------------------

HOSTILE = {
    "empty": (b"", r"data.csv: the file is empty"),
    "blank": (b"\n\n", r"data.csv: the file is empty"),
    "header only": (b"x,label\n", r"data.csv: there are no rows below the header"),
    "short row": (b"x,label\n1,a\n2\n", r"data.csv:3: expected 2 fields as in the header, found 1"),
    "long row": (b"x,label\n1,a\n2,b,c\n", r"data.csv:3: expected 2 fields as in the header, found 3"),
    "after a field of two lines": (b'x,label\n1,"a\nb"\n2\n', r"data.csv:4: expected 2 fields"),
    "NUL": (b"x,label\n1,a\n2,b\0\n", r"data.csv:3: there is a NUL character"),
    "unclosed quote": (b'x,label\n1,a\n2,"b\n3,c\n', r"data.csv:3: a quote that opens in this row is never closed"),
    "unclosed quote, long": (
        b'x,label\n1,"' + b"a\n" * 100_000,
        r"data.csv:2: a field has more than 131,072 characters; perhaps a quote",
    ),
    "text after a quote": (b'x,label\n1,"a"b\n', r"data.csv:2: ',' expected after '\"'"),
    "not UTF-8": (b"x,label\n1,a\n2,\xff\n", r"data.csv:3: this is not UTF-8 \(byte 0xff\)"),
    "UTF-16": ("x,label\n1,a\n".encode("utf-16"), r"data.csv:1: this is not UTF-8"),
    "double header": (b"x,y,x,label\n1,2,3,a\n", r"data.csv:1: columns 1 and 3 are both named 'x'"),
    "nameless header": (b"x,,label\n1,2,a\n", r"data.csv:1: column 2 has no name"),
    "no target": (b"x,lable\n1,a\n2,b\n", r"data.csv: target: there is no column 'label'; did you mean 'lable'\?"),
    "one class": (b"x,label\n1,a\n2,a\n", r"every row has the same label in 'label': 'a'"),
    "missing label": (b"x,label\n1,a\n2,\n", r"data.csv:3: 'label' has no value here"),
    "a word among numbers": (
        b"x,label\n1,a\noops,b\n",
        r"data.csv:3: column 'x' has numbers, but here 'oops'; name the columns",
    ),
    "no numbers": (b"x,label\nu,a\nv,b\n", r"no column of numbers is left to be the input"),
    "infinity": (b"x,label\n1,a\ninf,b\n", r"data.csv:3: inf in 'x' is not a finite float32 number"),
    "too large": (b"x,label\n1,a\n1e39,b\n", r"data.csv:3: 1e\+39 in 'x' is not a finite float32"),
    "underscores": (b"x,label\n1,a\n1_000,b\n", r"data.csv:3: column 'x' has numbers, but here '1_000'"),
    "fractional label": (
        b"x,label\n1,1\n2,0.5\n",
        r"data.csv:3: 0.5 in 'label' is no class label; .* task = 'regression'",
    ),
}


@pytest.mark.parametrize("content, message", HOSTILE.values(), ids=HOSTILE)
def test_hostile_csv(write, content, message):
    """File and line are named."""
    with pytest.raises(DataError, match=message):
        csv_table(write(content), "label")


HOSTILE_JSON = {
    "empty": (b"\n", "data.jsonl: the file is empty"),
    "no object": (b'{"x": 1, "label": 2}\n[1]\n', r"data.jsonl:2: a JSON object is needed"),
    "cut short": (
        b'{"x": 1, "label": 2}\n{"x": 1, "la',
        r"data.jsonl:2: this is no JSON: Unterminated string .* at character 10",
    ),
    "key twice": (b'{"x": 1, "x": 2, "label": 2}\n', r"data.jsonl:1: .* the key 'x' appears twice"),
    "NaN": (b'{"x": NaN, "label": 2}\n', r"data.jsonl:1: .* NaN is no JSON number; write null"),
    "deep": (b'{"x": ' + b"[" * 100_000 + b"\n", r"data.jsonl:1: .* nested too deeply"),
    "endless integer": (b'{"x": ' + b"9" * 5000 + b', "label": 1}\n', r"data.jsonl:1: this is no JSON of ours"),
    "arrays": (b'{"x": [1, 2], "label": 1}\n{"x": [1, 2], "label": 0}\n', r"no column of numbers"),
    "not UTF-8": (b'{"x": 1}\n\xff', r"data.jsonl:2: this is not UTF-8"),
    "NUL": (b'{"x": 1}\n\0', r"data.jsonl:2: there is a NUL"),
}


@pytest.mark.parametrize("content, message", HOSTILE_JSON.values(), ids=HOSTILE_JSON)
def test_hostile_jsonl(write, content, message):
    """File and line are named."""
    with pytest.raises(DataError, match=message):
        jsonl_table(write(content, "data.jsonl"), "label")


WRONG_OPTIONS = {
    "feature": ({"features": ["hight"]}, "features: there is no column 'hight'; did you mean 'height'?"),
    "text as feature": ({"features": ["name"]}, "features: 'name' is no column of numbers: it is text"),
    "feature twice": ({"features": ["height", "height"]}, "features names a column twice"),
    "target as feature": ({"features": ["label"]}, "the target 'label' is also in features"),
    "meta": ({"meta": ["nam"]}, "meta: there is no column 'nam'; did you mean 'name'?"),
    "text and features": (
        {"text": "name", "features": ["height"]},
        "either `text` or `features` and `one_hot`, not both",
    ),
    "numbers as text": ({"text": "height"}, "text: 'height' is a column of numbers"),
    "classes": (
        {"features": ["height"], "classes": ["yes", "nope"]},
        "data.csv:3: label 'no' in 'label' is none of the classes",
    ),
    "classes twice": ({"features": ["height"], "classes": ["yes", "yes"]}, "classes names 'yes' twice"),
    "classes of a regression": ({"features": ["height"], "task": "regression", "classes": ["a"]}, "has no classes"),
    "text to regress": ({"features": ["height"], "task": "regression"}, "data.csv:2: 'label' is text \\('yes'\\)"),
    "delimiter": ({"delimiter": ",,"}, "delimiter must be one character"),
    "quote as delimiter": ({"delimiter": '"'}, "delimiter must be one character other than a quote"),
    "all rows missing": (
        {"features": ["weight"], "missing": "drop", "path": "x,label,weight\n1,a,\n"},
        "is no column of numbers",
    ),
}


@pytest.mark.parametrize("options, message", WRONG_OPTIONS.values(), ids=WRONG_OPTIONS)
def test_options_that_do_not_fit_the_file(write, options, message):
    """With what there is instead."""
    path = write(options.pop("path", TABLE))
    with pytest.raises(DataError, match=message.replace("?", r"\?")):
        csv_table(path, "label", **options)


def test_a_label_out_of_range_is_named_with_its_line(write):
    """Where labels are indices of given classes."""
    with pytest.raises(
        DataError, match=r"data.csv:4: label 3 in 'label' is out of range: 3 classes have indices 0 to 2"
    ):
        csv_table(write("x,label\n1,0\n2,1\n3,3\n"), "label", classes=["a", "b", "c"])


def test_dropping_every_row_is_refused(write):
    """Nothing would be left."""
    with pytest.raises(DataError, match="every row has a missing value"):
        csv_table(write("x,y,label\n1,,a\n,2,b\n"), "label", missing="drop")


def test_missing_files_are_named(tmp_path):
    """A wrong folder is said to be one, and so is a folder in a file's place."""
    with pytest.raises(FileNotFoundError, match=r"absent.csv: no such file$"):
        csv_table(tmp_path / "absent.csv", "label")
    with pytest.raises(FileNotFoundError, match=r"the folder .*nowhere does not exist"):
        csv_table(tmp_path / "nowhere" / "a.csv", "label")
    with pytest.raises(DataError, match="this is a folder; a file is needed"):
        csv_table(tmp_path, "label")


def test_ten_thousand_columns_are_read_in_bounded_memory(write):
    """Wide is not wrong: genes are columns. The text is held twice, and 8 bytes a cell."""
    names = [f"g{number}" for number in range(10_000)]
    lines = [",".join([*names, "label"]), *(",".join(["0.5"] * 10_000 + [label]) for label in "abab")]
    path = write("\n".join(lines))
    tracemalloc.start()

    samples = csv_table(path, "label")

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert samples.input_shape == (10_000,)
    assert peak < 40e6


def test_a_file_without_header_is_read_as_numbers(write):
    """One column gives one dimension."""
    assert read_numbers(write("1\n2\n3\n")).tolist() == [1, 2, 3]
    assert read_numbers(write("1,2\n3,4\n")).tolist() == [[1, 2], [3, 4]]
    with pytest.raises(DataError, match=r"data.csv:2: 'x' is no number"):
        read_numbers(write("1\nx\n"))
    with pytest.raises(DataError, match=r"data.csv:2: expected 1 fields as in the first row, found 2"):
        read_numbers(write("1\n2,3\n"))
    with pytest.raises(DataError, match="the file is empty"):
        read_numbers(write(""))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    """Never another error than ours."""
    path = tmp_path_factory.mktemp("any") / "data.csv"
    path.write_bytes(content)
    try:
        lines = len(read_csv(path).lines)
    except DataError as error:
        lines = str(error).count("data.csv")

    assert lines


def test_a_run_learns_numbers_from_a_table(tmp_path):
    """The table says how many numbers there are to predict; the model and the loss agree on their shape."""
    path = tmp_path / "line.csv"
    path.write_text("a,b,y\n" + "".join(f"{a},{b},{2 * a - b}\n" for a in range(10) for b in range(10)))
    config = small(
        tmp_path,
        data={"type": "csv", "path": str(path), "target": "y", "task": "regression", "split": {}},
        model={"type": "mlp", "hidden_dims": []},
        loss={"type": "mse"},
        optimizer={"type": "adamw", "lr": 0.1},
        metrics={"accuracy": {"type": "r2"}},
        training={"max_epochs": 50},
    )

    assert run(config).check().test_metrics["test_r2"] > 0.99
