"""Whole runs of PINNs, from run files."""

from __future__ import annotations

import json
import math
import sys
import types
from pathlib import Path

import pytest
import torch

from dovetail import Config
from dovetail.main import run
from dovetail_signals.pinn import equations
from dovetail_signals.pinn.adaptive_sampling import ResidualAdaptive
from dovetail_signals.pinn.points import Where
from dovetail_signals.pinn.problems import Problem

HEAT = {
    "run": {"name": "heat"},
    "data": {"type": "signals.pde", "problem": "heat", "interior": 100, "initial": 20, "boundary": 20, "passes": 5},
    "loader": {"batch_size": 140, "shuffle": False},
    "model": {"type": "signals.pinn", "problem": "heat", "hidden_dims": [8, 8]},
    "loss": {"type": "signals.pde", "problem": "heat"},
    "optimizer": {"type": "adam", "lr": 0.01},
    "trainer": {"type": "signals.pinn"},
    "training": {"max_epochs": 3},
    "metrics": {"error": {"type": "signals.relative_l2"}},
    "checkpoint": {"monitor": "train_loss"},
    "hardware": {"device": "cpu", "threads": 1},
    "logging": {"console": False},
    "report": {"enabled": False},
}


def laid(*layers):
    """Tables laid over one another."""
    found = {}
    for layer in layers:
        for section, table in layer.items():
            found[section] = {**found.get(section, {}), **table}
    return found


def config(folder, *layers):
    """The config of a run in a folder."""
    return Config.from_dict(laid(HEAT, {"paths": {"output": str(folder)}}, *layers)).build()


def folder_of(output) -> Path:
    """The folder of the only run in it."""
    (found,) = (path for path in output.glob("*/*") if path.is_dir())
    return found


@pytest.mark.parametrize(
    "section, table, message",
    [
        ("loss", {"problem": "wave"}, "loss.problem and data.problem differ"),
        ("model", {"problem": "wave"}, "model.problem and data.problem differ"),
        ("loss", {"coefficients": {"diffusivity": 0.2}}, "loss.coefficients give {'diffusivity': 0.2}, but data.coeff"),
        ("data", {"coefficients": {"diffusivity": 0.2}}, "data.coefficients {'diffusivity': 0.2}; set both"),
        ("loss", {"coefficients": {"diffusivity": 0.1}}, ""),
    ],
)
def test_data_model_and_loss_are_about_one_problem(tmp_path, section, table, message):
    """Points of one equation and the residual of another would train without a word; a default may be said."""
    outcome = run(config(tmp_path, {section: table, "training": {"max_epochs": 1}}))

    assert (outcome.status == "failed") == bool(message)
    assert message in outcome.reason


class Watch:
    """Keeps the interior points of every epoch."""

    def __init__(self):
        self.points = []

    def dovetail_epoch_end(self, run):
        """Look."""
        samples = run.parts.loaders.train.dataset
        self.points.append(samples.inputs[samples.where == Where.INTERIOR].clone())


def test_a_run_from_a_file(tmp_path):
    """Every part of the loss is logged, the error of the solution is measured on the grid, and it repeats itself."""
    first, second = (run(config(tmp_path / name)) for name in "ab")
    epoch = json.loads((folder_of(tmp_path / "a") / "metrics.jsonl").read_text().splitlines()[0])["metrics"]

    assert first.status == "completed"
    assert {"train_residual", "train_initial", "train_boundary"} <= set(epoch)
    assert 0 < first.test_metrics["test_relative_l2"] < 1
    assert first.test_metrics == second.test_metrics


@pytest.mark.slow
@pytest.mark.parametrize(
    "problem, hard",
    [
        *((name, []) for name in ("burgers", "schrodinger", "kdv", "allen_cahn", "wave")),
        *((name, ["boundary"]) for name in ("schrodinger", "allen_cahn")),
        *((name, ["initial", "boundary"]) for name in ("burgers", "kdv", "wave")),
    ],
)
def test_every_problem_trains(tmp_path, problem, hard):
    """In double precision, with conditions in the loss or in the network, the loss of every problem falls."""
    outcome = run(
        config(
            tmp_path,
            {
                "data": {"problem": problem, "dtype": "float64"},
                "model": {"problem": problem, "dtype": "float64", "hard": hard},
                "loss": {"problem": problem},
                "training": {"max_epochs": 10},
            },
        )
    )
    lines = [json.loads(line) for line in (folder_of(tmp_path) / "metrics.jsonl").read_text().splitlines()]
    losses = [line["metrics"]["train_loss"] for line in lines if line["event"] == "epoch"]

    assert outcome.status == "completed"
    assert losses[-1] < losses[0]
    if hard:
        kept = {"train_initial"} if "initial" in hard else set()
        parts = {"train_periodic", "train_boundary", *kept} & set(lines[0]["metrics"])
        assert max(lines[0]["metrics"][name] for name in parts) < 1e-20


def test_points_move_to_large_residuals(tmp_path):
    """Every second epoch the points are drawn anew; they lie where the residual is larger than elsewhere."""
    watch, outcome = Watch(), None
    residuals = {}

    class Look:
        """Measures residuals of the points and of the domain, after a draw."""

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
    outcome = run(config(tmp_path, tables), listeners=[watch, Look()])

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
def test_points_that_cannot_move(tmp_path, layer, message):
    """Copies in workers, and data that are no points, are refused with a word on what to do."""
    tables = laid(
        HEAT, {"callbacks": {"rad": {"type": "signals.residual_adaptive"}}}, {"paths": {"output": str(tmp_path)}}
    )
    outcome = run(Config.from_dict({**tables, **layer, "metrics": {}}).build())

    assert outcome.status == "failed"
    assert message in outcome.reason


def test_a_problem_of_ones_own(tmp_path):
    """A Problem in a module of one's own is named by the run file, with coefficients of its own."""
    module = types.ModuleType("own_pde")

    def decay(u, rate=1.0):
        """u_t + rate u = 0, at every place by itself."""
        return u("t") + rate * u.value

    module.decay = Problem(
        equation=decay,
        domain={"x": (0, 1), "t": (0, 1)},
        initial=lambda p: 1 + p[:, :1],
        exact=lambda p, rate: (1 + p[:, :1]) * torch.exp(-rate * p[:, 1:]),
    )
    sys.modules["own_pde"] = module
    own = {"problem": "own_pde:decay", "coefficients": {"rate": 2.0}}
    try:
        outcome = run(
            config(
                tmp_path,
                {
                    "data": {**own, "boundary": 0, "passes": 100},
                    "loader": {"batch_size": 120},
                    "model": {"problem": "own_pde:decay", "hard": ["initial"]},
                    "loss": own,
                },
            )
        )
    finally:
        del sys.modules["own_pde"]

    assert outcome.status == "completed"
    assert outcome.test_metrics["test_relative_l2"] < 0.02


def test_pictures_of_the_solution(tmp_path):
    """At the end the report has the solution and its error on the grid of the test."""
    tables = {"callbacks": {"map": {"type": "signals.solution_map"}}, "report": {"enabled": True}}
    run(config(tmp_path, tables))
    folder = folder_of(tmp_path)
    page = (folder / "report.html").read_text(encoding="utf-8")

    assert sorted(path.name for path in (folder / "pictures").iterdir()) == ["pde-1-solution.svg", "pde-2-error.svg"]
    assert 'aria-label="solution"' in page
    assert 'aria-label="absolute error"' in page


def test_equations_have_sources():
    """Every equation of the vocabulary names where it comes from."""
    named = [getattr(equations, name) for name in ("burgers", "schrodinger", "kdv", "allen_cahn", "heat", "wave")]

    assert all("Source:" in equation.__doc__ for equation in named)


def test_relative_error_is_over_all_samples_together():
    """Not a mean of errors of batches; the length of a complex number where asked for."""
    from dovetail import ModelOutput
    from dovetail_signals.pinn.metrics import RelativeL2

    metric, length = RelativeL2(), RelativeL2(magnitude=True)
    for found, true in (([3.0, 4.0], [0.0, 4.0]), ([0.0, 5.0], [3.0, 4.0])):
        for measured in (metric, length):
            measured.update(ModelOutput(torch.tensor([found])), {"targets": torch.tensor([true])})

    assert metric.compute()["relative_l2"] == pytest.approx(math.sqrt((9 + 9 + 1) / (16 + 25)))
    assert length.compute()["relative_l2"] == pytest.approx(math.sqrt(1 / (16 + 25)))
    metric.reset()
    assert math.isnan(metric.compute()["relative_l2"])


def test_moved_points_come_back(tmp_path):
    """What a sampler saved, loaded into another, is where the other run's points lie from its first update on."""
    options = {"every": 1, "candidates": 1000}
    first, second, watch = ResidualAdaptive(**options), ResidualAdaptive(**options), Watch()
    run(config(tmp_path / "a", {"callbacks": {"rad": first}}))
    second.load_state_dict(first.state_dict())
    run(config(tmp_path / "b", {"callbacks": {"rad": second}, "training": {"max_epochs": 1}}), listeners=[watch])

    assert torch.equal(watch.points[0], first.state_dict()["points"])


def test_a_compiled_network_is_refused(tmp_path):
    """Before the first update, with what to do about it."""
    outcome = run(config(tmp_path, {"hardware": {"device": "cpu", "compile": True}}))

    assert outcome.status == "failed"
    assert "set it to false" in outcome.reason
