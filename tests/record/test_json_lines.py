"""Files of JSON lines: what is written, and what is cut off when a run resumes."""

from __future__ import annotations

import json
import math
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from dovetail.record.json_lines import LineFile, event_line, jsonable, truncate


@given(
    st.dictionaries(
        st.text(), st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists)
    )
)
def test_an_event_is_one_line_of_strict_json(metrics):
    """For any values, the line is valid JSON without NaN, and has the metrics' names and finite values."""

    def refuse(constant):
        raise ValueError(constant)

    line = event_line("train", epoch=1, step=2, time=0.5, metrics=metrics)
    read = json.loads(line, parse_constant=refuse)

    assert line.count("\n") == 1
    assert {"event": "train", "epoch": 1, "step": 2, "time": 0.5}.items() <= read.items()
    assert read["metrics"] == jsonable(metrics)


def test_what_json_cannot_represent_becomes_text():
    """NaN, infinities, paths and keys of other types become text; tuples become lists."""
    values = {1: (math.nan, math.inf, -math.inf), "path": Path("a/b"), "fine": [1, True, None, "x"]}

    assert jsonable(values) == {"1": ["nan", "inf", "-inf"], "path": "a/b", "fine": [1, True, None, "x"]}


def test_a_file_in_the_runs_folder_goes_back_to_the_checkpoint(tmp_path):
    """Lines written after the state was saved are cut off, also without a line break at their end."""
    first = LineFile(Path("more/own.jsonl"))
    first.open(tmp_path)
    first.append("é\n")
    state = first.state_dict()
    first.append("lost\n")
    with first.path.open("a", encoding="utf-8") as file:
        file.write("cut sho")
    second = LineFile(Path("more/own.jsonl"))
    second.load_state_dict(state)
    second.open(tmp_path)
    second.append("new\n")

    assert second.path.read_text(encoding="utf-8") == "é\nnew\n"
    assert second.state_dict() == {"size": len("é\nnew\n".encode())}


def test_a_file_elsewhere_is_never_truncated(tmp_path):
    """A file outside the run's folder may have other writers."""
    shared = tmp_path / "shared.jsonl"
    shared.write_text("theirs\n", encoding="utf-8")
    file = LineFile(shared)
    file.open(tmp_path / "run")
    file.append("ours\n")

    assert shared.read_text(encoding="utf-8") == "theirs\nours\n"


def test_lost_lines_are_reported(tmp_path, caplog):
    """A file that is shorter than at the checkpoint is kept, with a warning; a missing file is not created."""
    path = tmp_path / "own.jsonl"
    path.write_text("one\n", encoding="utf-8")
    truncate(path, 10)
    truncate(tmp_path / "missing.jsonl", 10)

    assert path.read_text(encoding="utf-8") == "one\n"
    assert [record.getMessage() for record in caplog.records] == [
        f"{path} has lost 6 bytes since the checkpoint; new lines are appended"
    ]
    assert list(tmp_path.iterdir()) == [path]
