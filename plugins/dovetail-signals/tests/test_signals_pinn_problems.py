"""Problems: their definition, their names, and training on each."""

from __future__ import annotations

import json
import sys
import types

import pytest
import torch

from dovetail.main import run
from dovetail_signals.pinn.data import pde_points
from dovetail_signals.pinn.problems import PROBLEMS, Problem
from signals_runs import heat_config, run_folder


@pytest.mark.parametrize(
    "options, message",
    [
        ({"problem": "navier"}, "unknown 'navier'; use one of burgers, schrodinger"),
        ({"problem": "no_such_module:thing"}, "cannot import"),
        ({"problem": "math:pi"}, "not a Problem"),
        ({"problem": "heat", "coefficients": {"viscosity": 1.0}}, "it has diffusivity"),
    ],
)
def test_unknown_problems_raise(options, message):
    """The error lists the known names or says why an import failed."""
    with pytest.raises(ValueError, match=message):
        pde_points(**options)


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"domain": {"t": (0, 1), "x": (0, 1)}}, "time 't' must come last"),
        ({"domain": {"x": (1, 1), "t": (0, 1)}}, "an interval for each coordinate"),
        ({"domain": {"x": (0, 1)}}, "no time"),
    ],
)
def test_invalid_domains_raise(changed, message):
    """Each coordinate needs an interval, time comes last, and an initial condition needs time."""
    options = {
        "equation": PROBLEMS["heat"].equation,
        "domain": {"x": (0, 1), "t": (0, 1)},
        "initial": lambda p: p[:, :1],
    }
    with pytest.raises(ValueError, match=message):
        Problem(**{**options, **changed})


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
def test_data_model_and_loss_need_the_same_problem(tmp_path, section, table, message):
    """Otherwise the run would train on the wrong equation unnoticed; stating a default coefficient is fine."""
    outcome = run(heat_config(tmp_path, {section: table, "training": {"max_epochs": 1}}))

    assert (outcome.status == "failed") == bool(message)
    assert message in outcome.reason


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
    """In double precision, with soft or hard conditions, the loss of every problem falls."""
    outcome = run(
        heat_config(
            tmp_path,
            {
                "data": {"problem": problem, "dtype": "float64"},
                "model": {"problem": problem, "dtype": "float64", "hard": hard},
                "loss": {"problem": problem},
                "training": {"max_epochs": 10},
            },
        )
    )
    lines = [json.loads(line) for line in (run_folder(tmp_path) / "metrics.jsonl").read_text().splitlines()]
    losses = [line["metrics"]["train_loss"] for line in lines if line["event"] == "epoch"]

    assert outcome.status == "completed"
    assert losses[-1] < losses[0]
    if hard:
        kept = {"train_initial"} if "initial" in hard else set()
        parts = {"train_periodic", "train_boundary", *kept} & set(lines[0]["metrics"])
        assert max(lines[0]["metrics"][name] for name in parts) < 1e-20


def test_a_problem_of_your_own_trains(tmp_path):
    """A run file names a Problem in your own module, with coefficients of its own."""
    module = types.ModuleType("own_pde")

    def decay(u, rate=1.0):
        """u_t + rate u = 0, independently at every position."""
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
            heat_config(
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
