"""Real data through datasets, splits and loaders, if ``DOVETAIL_DATA`` has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dovetail.data import (
    ClassificationCollator,
    SplitOptions,
    characters,
    csv_table,
    folder,
    jsonl_table,
    make_loader,
    npz_arrays,
    split,
)
from places import DATA


def data(name: str) -> Path:
    """Return the path of a data set, or skip the test."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"there is no {name} in {DATA}")
    return path


def test_abalone_as_a_regression_stratified_by_binned_age():
    """The sex, text, becomes three inputs; the split bins the rings by five."""
    samples = csv_table(data("age_tabular/abalone.csv"), "rings", task="regression", one_hot=["sex"])

    splits = split(samples, SplitOptions(stratify="rings", bin_size=5, validation=0.15, test=0.15), 42)

    assert (len(samples), samples.input_shape) == (4177, (10,))
    assert [len(part) for _, part in splits] == [2924, 627, 626]
    fractions = [np.bincount(part.targets.astype(int) // 5, minlength=6)[:4] / len(part) for _, part in splits]
    np.testing.assert_allclose(fractions[1], fractions[0], atol=0.002)
    np.testing.assert_allclose(fractions[2], fractions[0], atol=0.002)


def test_pima_by_decades_of_age():
    """The only person of 81 joins the seventies."""
    samples = csv_table(data("age_tabular/pima_diabetes.csv"), "outcome")

    splits = split(samples, SplitOptions(stratify="age", bin_size=10), 0)

    assert [len(part) for _, part in splits] == [614, 77, 77]
    decades = [np.bincount(part.column("age") // 10, minlength=9)[2:6] / len(part) for _, part in splits]
    np.testing.assert_allclose(decades[2], decades[0], atol=0.01)


def test_bearings_split_by_load():
    """The test has a load that training never saw, so nothing leaks."""
    samples = folder(data("cwru_bearing"), "class", keys=["DE"], length=2048, meta=["rpm"])

    splits = split(samples, SplitOptions(by="load_hp", test=[3], validation=[2]), 0)

    assert {name: sorted(set(part.column("load_hp").tolist())) for name, part in splits} == {
        "train": [0, 1],
        "validation": [2],
        "test": [3],
    }
    batch = next(iter(make_loader(splits.test, batch_size=9)))
    assert batch["inputs"].shape == (9, 1, 2048)
    assert batch["meta"]["rpm"].min() > 1700


def test_a_second_machine():
    """Ten recordings of two faults."""
    samples = folder(data("mfpt_bearing"), "fault", keys=["gs"], length=4096)

    assert (len(samples), samples.class_names, samples.input_shape) == (10, ("inner_race", "outer_race"), (1, 4096))


def test_news_as_bytes():
    """Texts of any length on four topics."""
    samples = jsonl_table(data("text_classification/agnews_train.jsonl"), "class", text="text", max_length=256)

    batch = next(iter(make_loader(samples, ClassificationCollator(num_classes=4), batch_size=16, shuffle=True)))

    assert len(samples) == 5600
    assert samples.class_names == ("Business", "Sci/Tech", "Sports", "World")
    assert batch["inputs"].shape == batch["mask"].shape
    assert batch["inputs"].max() < samples.vocab_size


def test_proteins_under_interventions():
    """Levels of eleven proteins; the class is the protein intervened on."""
    samples = csv_table(data("sachs/sachs_discrete_interventional.csv"), "INT")

    assert (len(samples), samples.num_classes, samples.input_shape) == (5400, 6, (11,))


def test_shakespeare():
    """A million characters; the first nine tenths train."""
    splits = characters(data("tinyshakespeare/input.txt"), window=64)

    assert (splits.train.vocab_size, len(splits.train), len(splits.validation)) == (65, 15685, 1742)


def test_spoken_digits_cannot_be_read_as_equal_samples():
    """One array holds all recordings end to end: the message shows both shapes."""
    with pytest.raises(ValueError, match=r"'label' has shape \(2500,\) for 8,201,580 samples in 'audio'"):
        npz_arrays(data("fsdd/fsdd.npz"), inputs="audio", targets="label")
