"""The moving average of a model's weights: its values, its use in a run, and its state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dovetail.checkpoint.format import read_checkpoint
from dovetail.main import run
from dovetail.train.ema import WeightAverage
from small_runs import Keep, small


@given(decay=st.floats(0, 1), updates=st.integers(0, 30), seed=st.integers(0, 99))
def test_the_average_follows_its_formula(decay: float, updates: int, seed: int) -> None:
    """Random weights are averaged with a decay that is small at first."""
    torch.manual_seed(seed)
    model = nn.Linear(2, 2, dtype=torch.float64)
    average, expected = WeightAverage(model, decay), model.weight.detach().clone()
    for number in range(1, updates + 1):
        with torch.no_grad():
            model.weight.add_(torch.randn(2, 2, dtype=torch.float64))
        average.update()
        now = min(decay, (1 + number) / (10 + number))
        expected = now * expected + (1 - now) * model.weight.detach()

    own = model.weight.detach().clone()
    with average.applied():
        torch.testing.assert_close(model.weight.detach(), expected)
    assert torch.equal(model.weight, own)


def test_frozen_parameters_and_buffers_are_not_averaged() -> None:
    """They stay the model's own while the average is applied; the weights are restored even after an error."""
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model[0].bias.requires_grad_(False)
    average = WeightAverage(model, 0.9)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    after = {name: value.clone() for name, value in model.state_dict().items()}

    def look() -> None:
        with average.applied():
            changed.update(name for name, value in model.state_dict().items() if not torch.equal(value, after[name]))
            raise KeyError

    changed: set[str] = set()
    with pytest.raises(KeyError):
        look()

    assert changed == {"0.weight", "1.weight", "1.bias"}
    assert all(torch.equal(value, after[name]) for name, value in model.state_dict().items())


def test_an_average_of_other_parameters_is_refused() -> None:
    """The message has the names that do not fit."""
    saved = WeightAverage(nn.Linear(2, 2), 0.9).state_dict()

    with pytest.raises(ValueError, match=r"only one of them has 0\.bias, 0\.weight, bias, weight"):
        WeightAverage(nn.Sequential(nn.Linear(2, 2)), 0.9).load_state_dict(saved)


def test_a_run_validates_and_tests_its_average(tmp_path: Path) -> None:
    """Training is unaffected, the figures are those of the average, and a checkpoint holds its state."""
    outcomes, runs = {}, {}
    for name, training in {
        "none": {},
        "average": {"ema_decay": 0.99},
        "weights": {"ema_decay": 0.99, "ema_validate": False},
    }.items():
        keep = Keep()
        config = small(tmp_path / name, training={"max_epochs": 3, **training}, callbacks={"keep": keep})
        outcomes[name], runs[name] = run(config).check(), keep.run
    plain = {name: value for name, value in outcomes["none"].metrics.items() if name != "samples_per_second"}

    assert plain == {name: outcomes["weights"].metrics[name] for name in plain}
    assert plain["train_loss"] == outcomes["average"].metrics["train_loss"]
    assert plain["val_loss"] != outcomes["average"].metrics["val_loss"]
    assert outcomes["none"].test_metrics != outcomes["average"].test_metrics
    average = runs["average"]
    saved = read_checkpoint(average.checkpoints.latest().path)
    assert saved["ema"]["updates"] == average.state.step == 21
    assert saved["ema"]["weights"].keys() == dict(average.parts.model.named_parameters()).keys()


def test_the_best_average_is_tested(tmp_path: Path) -> None:
    """The test uses the average of the best checkpoint, not of the last."""
    seen: list[dict[str, torch.Tensor]] = []

    class Notes:
        """A metric that notes the weights it is evaluated with."""

        def update(self, outputs: Any, batch: Any) -> None:
            """Note the weights."""

        def compute(self) -> dict[str, float]:
            seen.append({name: weight.detach().clone() for name, weight in keep.run.parts.model.named_parameters()})
            return {"worse": float(len(seen))}

        def reset(self) -> None:
            """Do nothing."""

    keep = Keep()
    config = small(
        tmp_path,
        training={"max_epochs": 3, "ema_decay": 0.9},
        metrics={"notes": Notes()},
        checkpoint={"monitor": "val_worse", "mode": "min"},
        callbacks={"keep": keep},
    )
    assert run(config).check().best_epoch == 1

    _, first, *_, tested = seen  # the first evaluation is the trial of one batch
    assert all(torch.equal(first[name], tested[name]) for name in first)
    assert all(not torch.equal(first[name], seen[2][name]) for name in first)
