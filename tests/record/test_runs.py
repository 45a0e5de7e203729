"""Reading run folders: finding runs, their metrics, and comparing two."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dovetail.record.runs import (
    ABSENT,
    RunLookupError,
    compare,
    find_run,
    find_runs,
    flat,
    load_run,
    read_events,
    read_series,
)
from run_folders import write_run

FIRST, SECOND, OTHER = "2026-11-20T15-36-00-3f9c1a", "2026-11-20T15-40-00-aa9c1a", "2026-11-20T15-50-00-bb9c1a"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Return a folder with two runs of one name and a later one of another."""
    write_run(tmp_path, FIRST)
    write_run(tmp_path, SECOND, status="failed", best=None, test={})
    write_run(tmp_path, OTHER, name="signals")
    return tmp_path


def test_runs_are_listed_oldest_first(output):
    """All runs of all names are found, in the order of their start."""
    assert [run.id for run in find_runs(output)] == [FIRST, SECOND, OTHER]


@pytest.mark.parametrize(
    "reference,expected",
    [
        ("latest", OTHER),
        ("latest~1", SECOND),
        ("latest~2", FIRST),
        ("digits", SECOND),
        ("signals", OTHER),
        (FIRST, FIRST),
        ("2026-11-20T15-36", FIRST),
        ("3f9", FIRST),
        ("aa9c1a", SECOND),
        (f"digits/{FIRST}", FIRST),
    ],
)
def test_a_run_is_found_by_any_reference(output, reference, expected):
    """A reference may be latest, a name, an id, the start of an id or of its digits, or name/id."""
    assert expected == find_run(reference, output).id


def test_a_run_is_found_by_its_path(output, tmp_path):
    """A path is a reference too, and does not depend on the output folder."""
    assert find_run(str(output / "digits" / FIRST), tmp_path / "elsewhere").id == FIRST


@pytest.mark.parametrize(
    "reference,message",
    [
        ("2026", "'2026' could be digits/2026-11-20T15-36-00-3f9c1a, digits/2026"),
        ("nothing", "there is no run 'nothing'"),
        ("latest~3", "there are only 3 runs"),
        ("", "there is no run ''"),
    ],
)
def test_an_ambiguous_or_unknown_reference_is_refused(output, reference, message):
    """The error lists the matching runs, or says that there is none."""
    with pytest.raises(RunLookupError, match=message):
        find_run(reference, output)


def test_an_output_folder_without_runs_is_named(tmp_path):
    """The error names the folder, which need not exist."""
    with pytest.raises(RunLookupError, match="there are no runs in"):
        find_run("latest", tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": ' * 100_000, "\x00"])
def test_an_unreadable_record_is_listed_as_such(output, text):
    """A damaged run.json is listed with status "unreadable", and does not hide other runs."""
    (output / "digits" / FIRST / "run.json").write_text(text)

    assert {run.id: run.status for run in find_runs(output)} == {
        FIRST: "unreadable",
        SECOND: "failed",
        OTHER: "completed",
    }
    with pytest.raises(RunLookupError, match=r"run\.json"):
        load_run(output / "digits" / FIRST)


def test_a_folder_without_a_record_is_refused(tmp_path):
    """The error names the folder."""
    with pytest.raises(RunLookupError, match="is not a run folder"):
        load_run(tmp_path)


def test_metrics_are_read_with_their_names(output):
    """Test metrics get their prefix, lists are left out, and the best value has its metric."""
    run = load_run(output / "digits" / FIRST)

    assert run.test == {"test_loss": 0.05, "test_accuracy": 0.9806}
    assert run.best == ("val_loss", 0.0385)
    assert run.duration == 34.2


def test_values_of_wrong_types_are_ignored(tmp_path):
    """Reading a record never fails because of the types in it."""
    folder = write_run(tmp_path, FIRST, best=[1], test="x", metrics=None, duration_s=True, started=3, git=[])
    run = load_run(folder)

    assert (run.best, run.test, run.metrics, run.duration, run.started) == (None, {}, {}, None, "3")


def test_series_follow_the_steps(output):
    """A metric's values are in the order of steps, each with its epoch."""
    series = read_series(output / "digits" / FIRST)

    assert [point.step for point in series["val_accuracy"]] == [10, 20, 30, 40]
    assert [point.epoch for point in series["val_accuracy"]] == [1, 2, 3, 4]
    assert series["val_accuracy"][0].value == pytest.approx(0.91)


def test_incomplete_lines_are_skipped_and_repeated_steps_replaced(output):
    """A killed run may leave half a line; a resumed one repeats steps, and the later value counts."""
    path = output / "digits" / FIRST / "metrics.jsonl"
    again = {"event": "train", "epoch": 1, "step": 5, "metrics": {"train_loss": 9.0}}
    strange = {"event": "train", "epoch": 1, "step": "x", "metrics": 3}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(again) + "\n" + json.dumps(strange) + '\n[]\n{"event": "train", "st')

    assert read_series(path.parent)["train_loss"][0].value == 9.0
    assert all(isinstance(event, dict) for event in read_events(path.parent))


def test_nan_and_infinity_are_metrics(tmp_path):
    """Both JSON extensions and text, such as `"inf"`, are read."""
    folder = write_run(tmp_path, FIRST)
    (folder / "metrics.jsonl").write_text(
        '{"event":"train","epoch":1,"step":1,"metrics":{"train_loss":NaN,"val_loss":"inf","name":"nan?"}}\n'
    )

    assert {"train_loss", "val_loss"} == set(read_series(folder))


def test_differences_are_named_by_section(tmp_path):
    """Only values that differ are listed: settings, versions, data, device and metrics."""
    left = write_run(tmp_path, FIRST)
    right = write_run(tmp_path, SECOND, device="cuda", versions={"python": "3.11.2", "dovetail": "0.2.0"}, test={})
    (right / "resolved.toml").write_text(
        "[run]\nname = 'digits'\nseed = 43\n[model]\ntype = 'mlp'\nhidden_dims = [64]\n"
    )

    found = {(row.section, row.path): (row.left, row.right) for row in compare(load_run(left), load_run(right))}

    assert found["config", "run.seed"] == (42, 43)
    assert found["config", "model.hidden_dims"] == ([64, 64], [64])
    assert found["config", "training.max_epochs"] == (4, ABSENT)
    assert found["versions", "dovetail"] == ("0.1.0", "0.2.0")
    assert found["run", "device"] == ("cpu", "cuda")
    assert found["metrics", "test_accuracy"] == (0.9806, ABSENT)
    assert ("config", "run.name") not in found


def test_a_run_does_not_differ_from_itself(tmp_path):
    """NaN is equal to itself here."""
    folder = write_run(tmp_path, FIRST, metrics={"val_loss": float("nan")})

    assert compare(load_run(folder), load_run(folder)) == []


def test_tables_are_flattened_with_dotted_keys():
    """Keys are quoted if they need it; an empty table is a value."""
    assert flat({"a": {"b": 1, "x y": 2}, "c": {}, "d": [1]}) == {"a.b": 1, 'a."x y"': 2, "c": {}, "d": [1]}
