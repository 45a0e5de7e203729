"""Reading CSV, JSON Lines and numbers, also from damaged and hostile files."""

from __future__ import annotations

import csv
import io
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dovetail.data.errors import DataError
from dovetail.data.table import csv_table, jsonl_table
from dovetail.data.table_files import read_csv, read_numbers


@pytest.fixture
def write(tmp_path):
    """Write a file and return its path."""

    def written(content, name="data.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return written


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
    "no numbers": (b"x,label\nu,a\nv,b\n", r"no column of numbers is left for the input"),
    "infinity": (b"x,label\n1,a\ninf,b\n", r"data.csv:3: inf in 'x' is not a finite float32 number"),
    "too large": (b"x,label\n1,a\n1e39,b\n", r"data.csv:3: 1e\+39 in 'x' is not a finite float32"),
    "underscores": (b"x,label\n1,a\n1_000,b\n", r"data.csv:3: column 'x' has numbers, but here '1_000'"),
    "fractional label": (
        b"x,label\n1,1\n2,0.5\n",
        r"data.csv:3: 0.5 in 'label' is not a class label; .* task = 'regression'",
    ),
}


@pytest.mark.parametrize("content, message", HOSTILE.values(), ids=HOSTILE)
def test_hostile_csv_is_refused(write, content, message):
    """The message names file and line (reliability 19)."""
    with pytest.raises(DataError, match=message):
        csv_table(write(content), "label")


HOSTILE_JSON = {
    "empty": (b"\n", "data.jsonl: the file is empty"),
    "no object": (b'{"x": 1, "label": 2}\n[1]\n', r"data.jsonl:2: a JSON object is needed"),
    "cut short": (
        b'{"x": 1, "label": 2}\n{"x": 1, "la',
        r"data.jsonl:2: this is not JSON: Unterminated string .* at character 10",
    ),
    "key twice": (b'{"x": 1, "x": 2, "label": 2}\n', r"data.jsonl:1: .* the key 'x' appears twice"),
    "NaN": (b'{"x": NaN, "label": 2}\n', r"data.jsonl:1: .* NaN is not a JSON number; write null"),
    "deep": (b'{"x": ' + b"[" * 100_000 + b"\n", r"data.jsonl:1: .* nested too deeply"),
    "endless integer": (b'{"x": ' + b"9" * 5000 + b', "label": 1}\n', r"data.jsonl:1: this JSON cannot be read"),
    "arrays": (b'{"x": [1, 2], "label": 1}\n{"x": [1, 2], "label": 0}\n', r"no column of numbers"),
    "not UTF-8": (b'{"x": 1}\n\xff', r"data.jsonl:2: this is not UTF-8"),
    "NUL": (b'{"x": 1}\n\0', r"data.jsonl:2: there is a NUL"),
}


@pytest.mark.parametrize("content, message", HOSTILE_JSON.values(), ids=HOSTILE_JSON)
def test_hostile_jsonl_is_refused(write, content, message):
    """The message names file and line (reliability 19)."""
    with pytest.raises(DataError, match=message):
        jsonl_table(write(content, "data.jsonl"), "label")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_marks_are_read(write, end, mark):
    """Files from Windows, and blank lines."""
    samples = csv_table(write(mark + end.join(["x,label", "1,a", "", "2,b", "", ""])), "label")

    assert samples.inputs.tolist() == [[1], [2]]


def test_missing_files_are_named(tmp_path):
    """So are a missing folder, and a folder in a file's place."""
    with pytest.raises(FileNotFoundError, match=r"absent.csv: no such file$"):
        csv_table(tmp_path / "absent.csv", "label")
    with pytest.raises(FileNotFoundError, match=r"the folder .*nowhere does not exist"):
        csv_table(tmp_path / "nowhere" / "a.csv", "label")
    with pytest.raises(DataError, match="this is a folder; a file is needed"):
        csv_table(tmp_path, "label")


def test_a_file_without_header_is_read_as_numbers(write):
    """One column gives one dimension."""
    assert read_numbers(write("1\n2\n3\n")).tolist() == [1, 2, 3]
    assert read_numbers(write("1,2\n3,4\n")).tolist() == [[1, 2], [3, 4]]
    with pytest.raises(DataError, match=r"data.csv:2: 'x' is not a number"):
        read_numbers(write("1\nx\n"))
    with pytest.raises(DataError, match=r"data.csv:2: expected 1 fields as in the first row, found 2"):
        read_numbers(write("1\n2,3\n"))
    with pytest.raises(DataError, match="the file is empty"):
        read_numbers(write(""))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    """No other error occurs."""
    path = tmp_path_factory.mktemp("any") / "data.csv"
    path.write_bytes(content)
    try:
        lines = len(read_csv(path).lines)
    except DataError as error:
        lines = str(error).count("data.csv")

    assert lines


cells = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8).map(
    lambda text: f"x{text.strip()}x"
)


@given(
    st.lists(st.tuples(st.floats(-1e6, 1e6, width=32), cells, st.sampled_from("ab")), min_size=2, max_size=10),
    st.sampled_from(",;\t|"),
)
def test_what_the_csv_module_writes_is_read(tmp_path_factory, rows, delimiter):
    """Any text, with any delimiter, and with quotes, delimiters and line ends inside fields."""
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


def test_ten_thousand_columns_are_read_in_bounded_memory(write):
    """Genes are columns. The text is held twice, and 8 bytes per cell."""
    names = [f"g{number}" for number in range(10_000)]
    lines = [",".join([*names, "label"]), *(",".join(["0.5"] * 10_000 + [label]) for label in "abab")]
    path = write("\n".join(lines))
    tracemalloc.start()

    samples = csv_table(path, "label")

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert samples.input_shape == (10_000,)
    assert peak < 40e6


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path):
    """A sparse file of more than 1 GiB; the message says what to do."""
    with (tmp_path / "data.csv").open("wb") as file:
        file.truncate((1 << 30) + 1)

    with pytest.raises(DataError, match=r"data.csv: the file is larger than 1 GiB; save its arrays as .npz"):
        read_csv(tmp_path / "data.csv")


def test_an_integer_beyond_float64_is_text(write):
    """Its column is then a mixed one, which the features cannot use."""
    path = write('{"x": 1, "label": 0}\n{"x": ' + "9" * 400 + ', "label": 1}\n', "data.jsonl")

    with pytest.raises(DataError, match=r"data.jsonl:2: column 'x' has numbers, but here '\"9999"):
        jsonl_table(path, "label")
