"""What a run monitors: the direction that is better, and figures that will never exist."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from dovetail import check, run
from dovetail.config.diagnostics import ConfigError
from dovetail.data import Splits
from dovetail.losses.result import LossResult
from dovetail.train.checkpoints.lookup import find_saved
from small_runs import blobs, only_run, small

FALLING = [5.0, 4.0, 3.0, 2.0, 1.0]


class Sequence:
    """A metric that gives values in order, one per validation of a run; the trial before training repeats the first."""

    def __init__(self, name: str, values: list[float] = FALLING, higher_is_better: Any = None) -> None:
        self.name, self.values, self.looks = name, values, -1
        self.higher_is_better = higher_is_better

    def reset(self) -> None:
        """Begin the next look."""
        self.looks += 1

    def update(self, outputs: Any, batch: Any) -> None:
        """Do nothing."""

    def compute(self) -> dict[str, float]:
        """Return the value of this look."""
        return {self.name: self.values[max(0, min(self.looks - 1, len(self.values) - 1))]}


def monitoring(output: Path, metric: Sequence, **more: Any) -> Any:
    """Return the config of a run that stops early, and ranks checkpoints, by one metric."""
    name = f"val_{metric.name}"
    stop = {"type": "early_stopping", "monitor": name, "patience": 2} | more.pop("stop", {})
    sections = {
        "training": {"max_epochs": 5, "test": False},
        "metrics": {"accuracy": metric},
        "callbacks": {"stop": stop},
    }
    return small(output, **sections, checkpoint={"monitor": name} | more.pop("checkpoint", {}), **more)


@pytest.mark.parametrize(
    "metric, best",
    [
        (Sequence("acceleration_mae"), 5),
        (Sequence("brier_score"), 5),
        (Sequence("ndcg"), 1),
        (Sequence("odd", higher_is_better={"odd": False}), 5),
        (Sequence("odd", higher_is_better={"odd": True}), 1),
        (Sequence("odd", higher_is_better=True), 1),
        (Sequence("accuracy", higher_is_better={"accuracy": False}), 5),
    ],
    ids=lambda value: f"{value.name}-{value.higher_is_better}" if isinstance(value, Sequence) else str(value),
)
def test_the_metric_or_whole_words_of_its_name_say_what_is_better(tmp_path: Path, metric: Sequence, best: int) -> None:
    """Checkpoints, early stopping and the commands that read the run's folder later all act alike."""
    outcome = run(monitoring(tmp_path, metric)).check()
    saved = find_saved(str(only_run(tmp_path)), tmp_path)

    assert outcome.best_epoch == best
    assert outcome.status == ("completed" if best == 5 else "stopped_early")
    assert saved.retention.mode == ("min" if best == 5 else "max")


@pytest.mark.parametrize(
    "metric, said",
    [
        (Sequence("odd"), 'mode: nothing says whether a lower or a higher val_odd is better: set mode = "min"'),
        (Sequence("accuracy", higher_is_better=False), 'mode: a lower val_accuracy is better: set mode = "min"'),
    ],
)
def test_what_nothing_says_must_be_said_before_the_first_step(tmp_path: Path, metric: Sequence, said: str) -> None:
    """The dry run refuses it too; followed, the advice works for the early stopping as well."""
    with pytest.raises(ConfigError, match=said):
        check(monitoring(tmp_path, metric))
    outcome = run(monitoring(tmp_path / "run", metric))
    metric.looks = -1

    assert outcome.status == "failed"
    assert said in outcome.reason
    assert run(monitoring(tmp_path / "said", metric, checkpoint={"mode": "min"})).check().best_epoch == 5


class OfParts(torch.nn.Module):
    """A loss with a part of a name that says nothing."""

    def forward(self, outputs: Any, batch: Any) -> LossResult:
        """Return the loss."""
        loss = torch.nn.functional.cross_entropy(outputs.logits, batch["targets"])
        return LossResult(loss, {"oddness": loss.detach()}, len(batch["targets"]))


@pytest.mark.parametrize("split", ["val", "train"])
def test_parts_of_a_loss_are_minimised(tmp_path: Path, split: str) -> None:
    """Whatever their name; also in the training figures."""
    config = small(tmp_path, loss=OfParts(), checkpoint={"monitor": f"{split}_oddness"}, training={"max_epochs": 4})
    check(config)
    outcome = run(config).check()
    values = [
        event["metrics"][f"{split}_oddness"]
        for event in map(json.loads, (only_run(tmp_path) / "metrics.jsonl").read_text().splitlines())
        if event["event"] == "epoch"
    ]

    assert outcome.best_metric == min(values)


def rates(output: Path) -> list[float]:
    """Return the learning rate at the end of each epoch."""
    events = map(json.loads, (only_run(output) / "metrics.jsonl").read_text().splitlines())
    return [event["metrics"]["lr"] for event in events if event["event"] == "epoch"]


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_plateau_goes_the_metrics_way(tmp_path: Path, wrapped: bool) -> None:
    """While accuracy rises the rate stays; the monitor and direction of one inside a warm-up hold too."""
    plateau: dict[str, Any] = {"type": "plateau", "monitor": "val_accuracy", "patience": 1}
    if wrapped:
        plateau = {"type": "with_warmup", "warmup": 0, "base_scheduler": plateau}
    metric = Sequence("accuracy", [0.1, 0.2, 0.3, 0.4, 0.4, 0.4])
    config = small(tmp_path, metrics={"accuracy": metric}, scheduler=plateau, training={"max_epochs": 7, "test": False})
    run(config).check()

    assert rates(tmp_path) == pytest.approx([*[1e-2] * 6, 1e-3])


def test_a_plateau_that_goes_the_other_way_is_refused(tmp_path: Path) -> None:
    """Torch's own class from Python has a default mode, not an accuracy's; a mode in the run file holds."""
    model = torch.nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    parts = {"model": model, "optimizer": optimizer, "checkpoint": {"monitor": "val_accuracy"}}
    with pytest.raises(ConfigError, match=r'scheduler.mode: a higher val_accuracy is better: set mode = "max"'):
        check(small(tmp_path, **parts, scheduler=ReduceLROnPlateau(optimizer)))
    check(small(tmp_path, **parts, scheduler=ReduceLROnPlateau(optimizer, mode="max")))
    check(small(tmp_path, scheduler={"type": "plateau", "monitor": "val_accuracy", "mode": "min"}))


def test_a_plateau_of_negative_values() -> None:
    """A slightly worse value below 0 is no improvement, and a clearly better one is."""
    from dovetail.schedulers import plateau

    for mode, worse, better in (("min", -9.9995, -10.1), ("max", -10.0005, -9.9)):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        made = plateau(optimizer, mode=mode, patience=0)
        made.step(-10.0)
        made.step(better)
        assert optimizer.param_groups[0]["lr"] == 1.0
        made.step(worse)
        assert optimizer.param_groups[0]["lr"] == 0.1
        assert isinstance(made, ReduceLROnPlateau)


def test_a_plateau_steps_when_there_was_a_validation(tmp_path: Path) -> None:
    """With ``validate_every = 2`` it steps after the second and the fourth epoch; the run completes."""
    metric = Sequence("mae", [1.0, 2.0])
    training = {"max_epochs": 5, "validate_every": 2, "test": False}
    plateau = {"type": "plateau", "monitor": "val_mae", "patience": 0}
    run(small(tmp_path, metrics={"accuracy": metric}, scheduler=plateau, training=training)).check()

    assert rates(tmp_path) == pytest.approx([1e-2, 1e-2, 1e-2, 1e-2, 1e-3])


@pytest.mark.parametrize(
    "sections, said",
    [
        ({"checkpoint": {"monitor": "accuracy"}}, "checkpoint.monitor: .* did you mean 'val_accuracy'"),
        ({"scheduler": {"type": "plateau", "monitor": "accuracy"}}, "scheduler.monitor: .* 'val_accuracy'"),
        ({"callbacks": {"e": {"type": "early_stopping", "monitor": "accuracy"}}}, "callbacks.e: .* val_accuracy"),
        ({"checkpoint": {"monitor": "train_accuracy"}}, "checkpoint.monitor: there is no metric 'train_accuracy'"),
        ({"checkpoint": {"monitor": "train_los"}}, "checkpoint.monitor: .* did you mean 'train_loss'"),
        (
            {"data": Splits(blobs(50)), "scheduler": {"type": "plateau"}},
            "scheduler.monitor: there is no validation split, so val_loss is never measured",
        ),
        (
            {"data": Splits(blobs(50)), "checkpoint": {"monitor": "val_accuracy"}},
            "checkpoint.monitor: there is no validation split",
        ),
    ],
)
def test_figures_that_will_not_exist_are_refused_before_the_first_step(
    tmp_path: Path, sections: dict[str, Any], said: str
) -> None:
    """By a dry run, at the setting that names them."""
    with pytest.raises(ConfigError, match=said):
        check(small(tmp_path, **sections))
