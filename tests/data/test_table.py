"""CSV and JSON Lines tables as datasets."""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np
import pytest
import torch

from dovetail.data.collators import ClassificationCollator
from dovetail.data.errors import DataError
from dovetail.data.loader import make_loader
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


def test_numbers_are_features_and_labels_classes(write):
    """By default every column of numbers except the target."""
    samples = csv_table(write(TABLE), "label", missing="drop")

    assert samples.inputs.tolist() == [[pytest.approx(1.7), 60], [pytest.approx(1.8), 80]]
    assert samples.inputs.dtype is torch.float32
    assert samples.class_names == ("no", "yes")
    assert samples.targets.tolist() == [1, 0]
    assert (samples.num_classes, samples.input_shape, len(samples)) == (2, (2,), 2)
    assert samples.fingerprint == hashlib.sha256(TABLE.encode()).hexdigest()


def test_features_keep_the_given_order(write):
    """One-hot columns follow them, their values sorted."""
    samples = csv_table(write(TABLE), "label", features=["height"], one_hot=["sex"])

    assert samples.inputs.tolist() == [
        [pytest.approx(h), *sex] for h, sex in ((1.7, (1, 0)), (1.8, (0, 1)), (1.6, (0, 1)))
    ]


def test_numbers_can_be_one_hot_too(write):
    """Levels 1, 2, 10 sort as numbers, and rounding merges none."""
    samples = csv_table(write("level,label\n10,a\n2,b\n12345678,a\n"), "label", one_hot=["level"])

    assert samples.inputs.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]


def test_a_regression_has_one_float_per_sample(write):
    """The shape [rows, 1] matches a model's [batch, 1]."""
    samples = csv_table(write(TABLE), "height", task="regression", one_hot=["sex"], meta=["weight"])

    assert samples[0]["targets"].shape == (1,)
    assert samples.target_values.dtype is torch.float32
    assert samples.targets.tolist() == pytest.approx([1.7, 1.8, 1.6])
    assert samples.class_names is None
    assert samples.num_classes is None


def test_meta_travels_into_the_batch(write):
    """Numbers as tensors, text as a list; a meta column is not a feature."""
    samples = csv_table(write(TABLE), "label", meta=["name", "weight"])
    batch = make_loader(samples, batch_size=3).batches(0)

    meta = next(batch)["meta"]

    assert samples.input_shape == (1,)
    assert meta["name"] == ["ann", "bob", "cid"]
    assert meta["weight"][:2].tolist() == [60, 80]
    assert math.isnan(meta["weight"][2])
    assert samples[0]["name"] == "ann"


def test_texts_become_bytes_of_their_own_length(write):
    """UTF-8 bytes plus 1; 0 is for padding."""
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


def test_the_default_collator_suggests_one_that_pads(write):
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


WRONG_OPTIONS = {
    "feature": ({"features": ["hight"]}, "features: there is no column 'hight'; did you mean 'height'?"),
    "text as feature": ({"features": ["name"]}, "features: column 'name' is not numeric: it is text"),
    "feature twice": ({"features": ["height", "height"]}, "features names a column twice"),
    "target as feature": ({"features": ["label"]}, "the target 'label' is also in features"),
    "meta": ({"meta": ["nam"]}, "meta: there is no column 'nam'; did you mean 'name'?"),
    "text and features": (
        {"text": "name", "features": ["height"]},
        "either `text` or `features` and `one_hot`, not both",
    ),
    "numbers as text": ({"text": "height"}, "text: column 'height' is numeric"),
    "classes": (
        {"features": ["height"], "classes": ["yes", "nope"]},
        "data.csv:3: label 'no' in 'label' is not one of the classes",
    ),
    "classes twice": ({"features": ["height"], "classes": ["yes", "yes"]}, "classes names 'yes' twice"),
    "classes of a regression": ({"features": ["height"], "task": "regression", "classes": ["a"]}, "has no classes"),
    "text to regress": ({"features": ["height"], "task": "regression"}, "data.csv:2: 'label' is text \\('yes'\\)"),
    "delimiter": ({"delimiter": ",,"}, "delimiter must be one character"),
    "quote as delimiter": ({"delimiter": '"'}, "delimiter must be one character other than a quote"),
    "all rows missing": (
        {"features": ["weight"], "missing": "drop", "path": "x,label,weight\n1,a,\n"},
        "is not numeric",
    ),
}


@pytest.mark.parametrize("options, message", WRONG_OPTIONS.values(), ids=WRONG_OPTIONS)
def test_options_that_do_not_match_the_file_are_refused(write, options, message):
    """The message names the alternatives."""
    path = write(options.pop("path", TABLE))
    with pytest.raises(DataError, match=message.replace("?", r"\?")):
        csv_table(path, "label", **options)


def test_a_run_learns_a_regression_from_a_table(tmp_path):
    """The table gives the number of outputs; model and loss agree on their shape."""
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
