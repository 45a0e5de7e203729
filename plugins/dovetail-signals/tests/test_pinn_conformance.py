"""Every part for differential equations passes the conformance kit."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import torch
from hypothesis import strategies as st

import dovetail
import dovetail_signals.pinn
from dovetail.kernel.plugins import Plugins
from dovetail.spec.kinds import KINDS
from dovetail.testkit import conformance

NEEDS_POINTS = "it moves the points of signals.pde, and refuses the kit's table"


@pytest.mark.slow
@conformance("signals.pde", kind="dataset")
def test_the_dataset(check):
    """The check holds."""
    check()


@pytest.mark.slow
@conformance("signals.pde", kind="dataset", example={"problem": "kdv", "interior": 9, "passes": 4, "dtype": "float64"})
def test_a_periodic_dataset(check):
    """The check holds."""
    check()


@pytest.mark.slow
@conformance("signals.pinn", kind="model")
def test_the_network(check):
    """The check holds for a network without a problem."""
    check()


@pytest.mark.slow
@conformance(
    "signals.pinn",
    kind="model",
    example={
        "input_shape": [2],
        "problem": "kdv",
        "hidden_dims": [8, 8],
        "adaptive": "neuron",
        "fourier_features": 4,
        "hard": ["initial", "boundary"],
    },
    batches=st.integers(0, 1000).map(
        lambda seed: torch.rand(4, 2, generator=torch.Generator().manual_seed(seed)) * 0.9 + 0.05
    ),
)
def test_a_network_with_everything(check):
    """The check holds for a network with conditions, features and slopes."""
    check()


@pytest.mark.slow
@conformance("signals.pde", kind="loss")
def test_the_loss_of_data(check):
    """The check holds for batches that are all data."""
    check()


@pytest.mark.slow
@conformance("signals.pinn", kind="trainer")
def test_the_trainer(check):
    """The check holds."""
    check()


@pytest.mark.slow
@conformance("signals.bfgs")
def test_the_optimizer(check):
    """The check holds."""
    check()


@pytest.mark.slow
@conformance("signals.relative_l2")
def test_the_metric(check):
    """The check holds."""
    check()


@pytest.mark.slow
@conformance("signals.relative_l2", example={"magnitude": True})
def test_the_metric_of_lengths(check):
    """The check holds."""
    check()


@pytest.mark.slow
@conformance("signals.residual_adaptive", expected_failures={"callback.takes_part_in_a_run": NEEDS_POINTS})
def test_the_sampler(check):
    """The check holds."""
    check()


@pytest.mark.slow
@conformance("signals.solution_map")
def test_the_map(check):
    """The check holds."""
    check()


def test_every_part_is_tried():
    """No part for differential equations is left out above."""
    tried = set(re.findall(r'@conformance\(\s*"([^"]+)"', Path(__file__).read_text(encoding="utf-8")))
    plugins = Plugins.discover()
    parts = {
        part.name
        for kind in KINDS
        for part in plugins.components(kind)
        if (part.distribution, part.entry_point) == ("dovetail-signals", "signals-pinn")
    }

    assert parts
    assert parts == tried


def test_only_public_names_of_dovetail_are_used():
    """Whatever a module imports of Dovetail is a name that anybody may import, or an addressed draw."""
    imported = [
        (node.module, name.name)
        for path in Path(dovetail_signals.pinn.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "dovetail"
        for name in node.names
    ]

    assert imported
    assert [
        name for name in imported if name != ("dovetail.random", "uniform") and name[1] not in dovetail.__all__
    ] == []
