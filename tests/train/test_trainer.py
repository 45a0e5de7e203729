"""The standard trainer: equal to a hand-written loop, with seams that can be replaced."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from dovetail.losses.result import LossResult
from dovetail.main import run
from dovetail.train.trainer import StandardTrainer
from small_runs import Keep, small, three_blobs


@pytest.mark.parametrize("clip", [None, 0.1])
def test_training_equals_a_hand_written_loop(tmp_path, clip):
    """Without clipping the weights are bit-identical; with it, equal up to rounding."""
    keep = Keep()
    config = small(tmp_path, training={"max_epochs": 3, "max_grad_norm": clip, "test": False}, callbacks={"keep": keep})
    run(config).check()

    data = three_blobs().train
    torch.manual_seed(config.run.seed)
    again = Keep()
    twin = small(tmp_path / "twin", training={"max_steps": 1, "test": False}, callbacks={"keep": again})
    initial = initial_weights(twin)
    model = again.run.parts.model
    model.load_state_dict(initial)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.01, fused=True)
    for epoch in (1, 2, 3):
        for _, indices in keep.run.parts.loaders.train.sampler.batches(epoch):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(data.inputs[indices]), data.target_values[indices]).backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()

    for (name, ours), bare in zip(keep.run.parts.model.named_parameters(), model.parameters(), strict=True):
        # Clipping uses our own op, which adds in another order.
        tolerance = {"rtol": 0, "atol": 0} if clip is None else {"rtol": 1e-6, "atol": 1e-7}
        torch.testing.assert_close(ours, bare, **tolerance, msg=name)


def initial_weights(config: Any) -> dict[str, torch.Tensor]:
    """Run ``config`` and return the initial weights of its model."""
    weights: dict[str, torch.Tensor] = {}

    class Note:
        def dovetail_run_start(self, run: Any) -> None:
            weights.update({name: value.clone() for name, value in run.parts.model.state_dict().items()})

    table = {name: part.live for name, part in config.callbacks.items()}
    run(
        small(config.paths.output, training={"max_steps": 1, "test": False}, callbacks={**table, "note": Note()})
    ).check()
    return weights


def test_each_seam_can_be_replaced(tmp_path):
    """A trainer overrides only what differs: batches, their preparation, the loss, the update, the evaluation."""
    called: set[str] = set()

    class Own(StandardTrainer):
        def batches(self, run: Any) -> Any:
            called.add("batches")
            return list(super().batches(run))[:2]

        def prepare_batch(self, run: Any, batch: Any) -> Any:
            called.add("prepare_batch")
            return {**super().prepare_batch(run, batch), "inputs": batch["inputs"] * 2}

        def compute_loss(self, run: Any, batch: Any) -> LossResult:
            called.add("compute_loss")
            result = super().compute_loss(run, batch)
            return LossResult(result.total * 3, {"tripled": result.total}, result.weight)

        def update(self, run: Any, closure: Any) -> torch.Tensor:
            called.add("update")
            return super().update(run, closure)

        def evaluation_step(self, run: Any, batch: Any) -> Any:
            called.add("evaluation_step")
            outputs, result = super().evaluation_step(run, batch)
            return outputs, LossResult(result.total * 0 + 7, {}, result.weight)

    outcome = run(small(tmp_path, trainer=Own())).check()

    assert called == {"batches", "prepare_batch", "compute_loss", "update", "evaluation_step"}
    assert outcome.metrics["val_loss"] == pytest.approx(7)
    assert outcome.metrics["train_loss"] == pytest.approx(3 * outcome.metrics["train_tripled"])
