"""Validation and test: figures, the modes of layers, and several ranks."""

from __future__ import annotations

import math
from typing import Any

import pytest
from attrs import evolve
from torch import nn

from dovetail.data import Splits
from dovetail.data.samples import TensorSamples
from dovetail.distributed.group import Group
from dovetail.main import run
from dovetail.train.evaluate import evaluate
from rank_threads import on_ranks
from small_runs import alerts, blobs, built, small, three_blobs


def test_validation_restores_the_mode_of_each_layer(tmp_path):
    """A layer that a callback put into evaluation mode stays in it."""
    modes: list[bool] = []

    class Freeze:
        def dovetail_epoch_start(self, run: Any) -> None:
            run.parts.model[1].eval()

        def dovetail_batch_end(self, run: Any) -> None:
            modes.append(run.parts.model[1].training)

    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    run(small(tmp_path, model=model, callbacks={"freeze": Freeze()}, training={"validate_every": {"steps": 2}})).check()

    assert not any(modes)
    assert len(modes) == 14


def test_a_second_metric_of_a_type_is_named_after_its_table(tmp_path):
    """Both are reported."""
    metrics = {"accuracy": {"type": "accuracy"}, "strict": {"type": "accuracy"}}
    outcome = run(small(tmp_path, metrics=metrics)).check()

    assert outcome.metrics["val_accuracy"] == outcome.metrics["val_strict_accuracy"]


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("size", [4, 10, 30])
def test_ranks_evaluate_a_split_together(tmp_path, size, sharded):
    """Figures are those of one process, however many batches each rank has; with shards, each calls the model equally.

    A rank without a batch of its own repeats one, which does not count; metrics keep the state of their rank.
    """
    sections = {"loader": {"eval_batch_size": size}, "metrics": {"confusion": {"type": "confusion_matrix"}}}
    alone = built(tmp_path / "alone", **sections)
    expected = evaluate(alone.parts.trainer, alone, alone.parts.loaders.validation, "val")
    runs = [built(tmp_path, Group(rank, 2), **sections) for rank in range(2)]
    calls = [0, 0]

    def rank(group: Group) -> dict[str, Any]:
        run = evolve(runs[group.rank], group=group)
        forward = run.forward

        def counted(batch: Any) -> Any:
            calls[group.rank] += 1
            return forward(batch)

        run = evolve(run, forward=counted)
        return evaluate(run.parts.trainer, run, run.parts.loaders.validation, "val")

    found = on_ranks(rank, mesh=object() if sharded else None)

    batches = math.ceil(30 / size)
    assert calls == ([math.ceil(batches / 2)] * 2 if sharded else [math.ceil(batches / 2), batches // 2])
    assert found[0] == found[1]
    assert found[0].keys() == expected.keys()
    assert found[0]["val_loss"] == pytest.approx(expected["val_loss"])
    assert found[0]["val_confusion_matrix"] == expected["val_confusion_matrix"]
    own = [sum(map(sum, run.parts.metrics["confusion"].compute()["confusion_matrix"])) for run in runs]
    assert sum(own) == 30


def test_a_request_to_stop_at_once_ends_a_validation(tmp_path):
    """There are no figures, and the parts see no more batches; a request that can wait does not end it."""
    seen = []

    class Hurry:
        def __init__(self, status: str) -> None:
            self.status = status

        def dovetail_validation_batch(self, run: Any) -> None:
            seen.append(self.status)
            run.request_stop("stop", by="test", status=self.status)

    for status in ("stopped_early", "interrupted"):
        validated = built(tmp_path, callbacks={"hurry": Hurry(status)}, loader={"eval_batch_size": 10})
        figures = evaluate(validated.parts.trainer, validated, validated.parts.loaders.validation, "val")
        assert (figures is None) == (status == "interrupted")

    assert seen == ["stopped_early"] * 3 + ["interrupted"]


def test_a_validation_loss_of_nan_is_an_alert(tmp_path):
    """It names the split once, and says that no checkpoint can be the best by it."""
    splits = three_blobs()
    inputs = splits.validation.inputs.clone()
    inputs[3] = math.nan
    broken = TensorSamples(inputs, splits.validation.target_values, ("a", "b", "c"), "broken")
    run(small(tmp_path, data=Splits(splits.train, broken, blobs(30, seed=2)))).check()

    (message,) = alerts(tmp_path, "nonfinite_evaluation")
    assert message.startswith(
        "val_loss is nan, so no checkpoint can be the best by it: a sample of the validation split"
    )
