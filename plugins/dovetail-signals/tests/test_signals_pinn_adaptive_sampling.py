"""Residual-based adaptive sampling, in whole runs."""

from __future__ import annotations

import pytest
import torch

from dovetail import Config
from dovetail.main import run
from dovetail_signals.pinn.adaptive_sampling import ResidualAdaptive
from dovetail_signals.pinn.points import Where
from signals_runs import HEAT, InteriorPoints, heat_config, overlay


def test_points_move_to_large_residuals(tmp_path):
    """Every second epoch, points are redrawn to where the residual is larger than elsewhere."""
    watch, outcome = InteriorPoints(), None
    residuals = {}

    class Look:
        """Measures the residuals of the points and of the whole domain after each epoch."""

        def dovetail_epoch_end(self, run, epoch):
            """Measure."""
            from dovetail_signals.pinn.loss import residual_at

            samples = run.parts.loaders.train.dataset
            even = torch.rand(4000, 2, generator=torch.Generator().manual_seed(0))
            for name, points in (("drawn", samples.inputs[samples.where == Where.INTERIOR]), ("even", even)):
                found = residual_at(lambda inputs: run.forward({"inputs": inputs}), samples.problem, points)
                residuals.setdefault(name, []).append(found.square().mean().item())

    tables = {
        "training": {"max_epochs": 4},
        "optimizer": {"lr": 1e-5},
        "callbacks": {
            "rad": {"type": "signals.residual_adaptive", "every": 2, "candidates": 4000, "exponent": 2.0, "offset": 0.0}
        },
    }
    outcome = run(heat_config(tmp_path, tables), listeners=[watch, Look()])

    assert outcome.status == "completed"
    assert torch.equal(watch.points[0], watch.points[1])
    assert not torch.equal(watch.points[1], watch.points[2])
    assert torch.equal(watch.points[2], watch.points[3])
    assert residuals["drawn"][2] > 1.5 * residuals["even"][2]


@pytest.mark.parametrize(
    "layer, message",
    [
        ({"loader": {"batch_size": 140, "num_workers": 1}}, "set loader.num_workers = 0"),
        (
            {
                "data": {"type": "digits"},
                "model": {"type": "mlp"},
                "loss": {"type": "cross_entropy"},
            },
            'set data.type = "signals.pde"',
        ),
    ],
    ids=["workers", "other data"],
)
def test_points_that_cannot_move_raise(tmp_path, layer, message):
    """Copies in loader workers, and datasets without points; the error says what to do."""
    tables = overlay(
        HEAT, {"callbacks": {"rad": {"type": "signals.residual_adaptive"}}}, {"paths": {"output": str(tmp_path)}}
    )
    outcome = run(Config.from_dict({**tables, **layer, "metrics": {}}).build())

    assert outcome.status == "failed"
    assert message in outcome.reason


def test_moved_points_are_restored(tmp_path):
    """Points saved by one run are the points of another from its first update."""
    options = {"every": 1, "candidates": 1000}
    first, second, watch = ResidualAdaptive(**options), ResidualAdaptive(**options), InteriorPoints()
    run(heat_config(tmp_path / "a", {"callbacks": {"rad": first}}))
    second.load_state_dict(first.state_dict())
    run(heat_config(tmp_path / "b", {"callbacks": {"rad": second}, "training": {"max_epochs": 1}}), listeners=[watch])

    assert torch.equal(watch.points[0], first.state_dict()["points"])
