"""The figures of epochs as a table."""

from __future__ import annotations

import sys

import pytest

from dovetail import MetricsTracker


def test_the_summary_has_a_row_an_epoch():
    """Columns are named by split, and what an epoch has not is NaN."""
    tracker = MetricsTracker()
    tracker.log_epoch(epoch=4, train_metrics={"loss": 0.5})
    tracker.log_epoch(
        epoch=5, train_metrics={"loss": 0.42}, val_metrics={"loss": 0.38}, learning_rate=1e-4, gradient_norm=0.5
    )
    summary = tracker.get_summary()

    assert list(summary.columns) == ["epoch", "train_loss", "val_loss", "learning_rate", "gradient_norm"]
    assert summary[["epoch", "train_loss"]].to_numpy().tolist() == [[4, 0.5], [5, 0.42]]
    assert summary["val_loss"].isna().tolist() == [True, False]


def test_an_epoch_logged_again_takes_the_place_of_the_old():
    """As after a resume: one row for each epoch."""
    tracker = MetricsTracker()
    for loss in (2.0, 1.0):
        tracker.log_epoch(1, {"loss": loss})

    assert tracker.get_summary().to_dict("records") == [{"epoch": 1, "train_loss": 1.0}]


def test_nothing_logged_is_an_empty_table():
    """It has its column and no rows."""
    summary = MetricsTracker().get_summary()

    assert (list(summary.columns), len(summary)) == (["epoch"], 0)


@pytest.mark.parametrize(
    "module, use",
    [("pandas", lambda: MetricsTracker().get_summary()), ("wandb", lambda: MetricsTracker(use_wandb=True))],
)
def test_a_missing_library_is_named_with_its_extra(monkeypatch, module, use):
    """The message says what to install."""
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(ModuleNotFoundError, match=rf"pip install 'dovetail[a-z-]*\[{module}\]'"):
        use()
