"""Confusion matrices: found, computed and drawn."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from dovetail.record.report.confusion import class_names, draw, find_matrices, per_class
from dovetail.record.report.page import write_report
from report_pages import read, words
from run_folders import write_run


def test_recall_precision_and_mistakes_are_correct():
    """Recall is along rows, precision along columns; both are None for a class that never occurs."""
    found = per_class([[8, 2, 0], [1, 9, 0], [0, 0, 0]], ["a", "b", "c"])

    assert [result.recall for result in found] == [0.8, 0.9, None]
    assert [result.precision for result in found] == [8 / 9, 9 / 11, None]
    assert [result.mistaken_for for result in found] == [("b", 2), ("a", 1), None]


@pytest.mark.parametrize(
    "value,expected",
    [
        ({"confusion_matrix": [[1, 2], [3, 4]]}, {"confusion_matrix": [[1, 2], [3, 4]]}),
        (
            {"a": [[1.0, 2.0], [3.0, 4.0]], "b": 1, "c": [[0, 0], [0, 1]]},
            {"a": [[1, 2], [3, 4]], "c": [[0, 0], [0, 1]]},
        ),
        ({"a": [[1, 2], [3]]}, {}),
        ({"a": [[1, -2], [3, 4]]}, {}),
        ({"a": [[0.5, 2], [3, 4]]}, {}),
        ({"a": [1, 2], "b": "x", "c": [[1]]}, {}),
    ],
)
def test_matrices_are_found_among_the_metrics(value, expected):
    """Only a square table of counts is a confusion matrix."""
    assert expected == find_matrices(value)


def test_each_group_of_samples_has_a_matrix(tmp_path):
    """Each matrix has the name and the accuracy of its group; a table of another metric is no group."""
    figures = {
        "test_confusion_matrix": [[5, 1], [2, 4]],
        "test_confusion_matrix_load_0": [[5, 0], [0, 3]],
        "test_confusion_matrix_load_3": [[0, 1], [2, 1]],
        "test_other": [[9, 9], [9, 9]],
    }
    text, tree = read(write_report(write_run(tmp_path, test=figures, data={})))

    assert [title.text for title in tree.findall(".//{*}h3")] == ["load 0", "load 3"]
    assert "100.00 % of 8 samples right" in words(tree)
    assert "25.00 % of 4 samples right" in words(tree)
    assert text.count('aria-label="Confusion matrix"') == 3


def test_a_wrong_number_of_names_is_not_used():
    """If the matrix has another size than the list of names, the classes are numbered."""
    assert class_names([[1, 0], [0, 1]], ["a", "b", "c"]) == ["0", "1"]


@pytest.mark.parametrize("size", [2, 10, 25, 40])
def test_a_matrix_of_any_size_is_drawn(size):
    """Every cell has a rectangle and a hover title."""
    matrix = [[10 if row == column else 1 for column in range(size)] for row in range(size)]
    tree = ET.fromstring(draw(matrix, [f"class number {number}" for number in range(size)]))  # noqa: S314 (we wrote it)

    assert size * size == len(tree.findall(".//{*}rect"))
    assert size * size == len(tree.findall(".//{*}title"))


def test_many_classes_are_not_drawn(tmp_path):
    """With many classes there is no picture, and the table has only those with the lowest recall."""
    size = 200
    matrix = [[10 if row == column else 0 for column in range(size)] for row in range(size)]
    matrix[117] = [10] + [0] * (size - 1)
    folder = write_run(tmp_path, test={"confusion_matrix": matrix}, data={})
    text, tree = read(write_report(folder))

    assert "The 30 of 200 classes with the lowest recall." in words(tree)
    assert "117" in words(tree)
    assert len(text) < 200_000
