"""Which direction of a figure is better, by the metric and by whole words of the name."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from dovetail.metrics.direction import direction


@pytest.mark.parametrize(
    "names, expected",
    [
        ("val_loss train_loss loss_G test_dice_loss val_loss_accuracy", "min"),
        ("val_acceleration_mae val_brier_score fid_score val_mse val_rmse val_nll perplexity val_wer val_error", "min"),
        ("val_ndcg val_kappa val_mcc val_psnr val_mAP val_Accuracy val_top5_accuracy val_f1_macro r2 mAP50", "max"),
        ("val/accuracy val_recall@5 val_iou_2", "max"),
        ("val_inaccuracy val_score val_odd val_auction val_accuracy_error val_dicentric lr", None),
    ],
)
def test_whole_words_decide(names: str, expected: str | None) -> None:
    """Known words decide, in any case, with numbers behind them; parts of words and contradictions do not."""
    assert {name: direction(name) for name in names.split()} == dict.fromkeys(names.split(), expected)


def test_the_metric_is_believed_first() -> None:
    """A dict of its figures overrides the name; a bool speaks only where the name is silent and all bools agree."""
    gap = SimpleNamespace(higher_is_better={"gap": False, "accuracy": False})
    good, bad = SimpleNamespace(higher_is_better=True), SimpleNamespace(higher_is_better=False)

    assert direction("val_gap", [gap]) == direction("val_accuracy", [gap]) == "min"
    assert direction("val_odd", [gap]) is None
    assert direction("val_odd", [gap, good]) == "max"
    assert direction("val_odd", [good, bad]) is None
    assert direction("val_accuracy", [bad]) == "max"
