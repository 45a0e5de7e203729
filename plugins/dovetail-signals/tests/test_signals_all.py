"""All parts of dovetail-signals: the conformance kit, and the public API."""

from __future__ import annotations

import ast
import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

import dovetail
import dovetail_signals
from dovetail.spec.kinds import KINDS
from dovetail.spec.plugins import Plugins
from dovetail.testkit import NotApplicable, conformance
from dovetail.testkit.runner import select_checks
from dovetail.testkit.subject import Subject

PLUGINS = Plugins.discover()
#: Public modules of Dovetail, besides ``dovetail`` itself.
PUBLIC = {"dovetail.ops", "dovetail.random"}


def _npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _table(rows):
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


_NOISE = np.random.default_rng(0).standard_normal((4, 400)).astype(np.float32)
#: The files that the examples of the datasets need.
FILES = {
    "signals.recordings": {
        "recordings/metadata.csv": _table(
            [{"file": f"{row}.npz", "fault": f"f{row % 2}", "rpm": 1700, "sample_rate_hz": 1000} for row in range(4)]
        ),
        **{f"recordings/{row}.npz": _npz(DE=_NOISE[row]) for row in range(4)},
    },
    "signals.clips": {"clips.npz": _npz(audio=_NOISE[0], offsets=[0, 50, 200, 400], label=[0, 1, 0], sample_rate=8000)},
}


def _representations(seed):
    generator = torch.Generator().manual_seed(seed)
    return {
        "stft": torch.randn(4, 1, 16, 12, generator=generator),
        "envelope": torch.randn(4, 1, 32, generator=generator),
    }


#: Inputs of the parts that do not take one tensor.
BATCHES = {"signals.multi_tfr_fusion": st.integers(0, 1000).map(_representations)}


def _everything():
    for kind in KINDS:
        for part in PLUGINS.components(kind):
            # The parts for differential equations follow below, with examples of their own.
            if part.distribution == "dovetail-signals" and part.entry_point == "signals":
                subject = Subject.find(
                    part.qualified,
                    kind=kind,
                    files=FILES.get(part.name),
                    batches=BATCHES.get(part.name),
                    plugins=PLUGINS,
                )
                for check in select_checks(subject, {}):
                    yield pytest.param(subject, check, id=f"{kind}:{part.name}-{check.name}")


@pytest.mark.parametrize("subject, check", list(_everything()))
def test_every_part_conforms(subject, check):
    """Every check of the kit holds for every part."""
    try:
        check.run(subject)
    except NotApplicable as reason:
        pytest.skip(str(reason))


NEEDS_POINTS = "it needs the dataset signals.pde, which the kit does not use"


@pytest.mark.slow
@conformance("signals.pde", kind="dataset")
def test_the_dataset_of_points(check):
    """Every check of the kit holds."""
    check()


@pytest.mark.slow
@conformance("signals.pde", kind="dataset", example={"problem": "kdv", "interior": 9, "passes": 4, "dtype": "float64"})
def test_a_periodic_dataset(check):
    """Every check of the kit holds."""
    check()


@pytest.mark.slow
@conformance("signals.pinn", kind="model")
def test_the_network(check):
    """Every check of the kit holds without a problem."""
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
    """Every check of the kit holds with hard conditions, Fourier features and trained slopes."""
    check()


@pytest.mark.slow
@conformance("signals.pde", kind="loss")
def test_the_loss(check):
    """Every check of the kit holds for batches without ``meta.where``."""
    check()


@pytest.mark.slow
@conformance("signals.pinn", kind="trainer")
def test_the_trainer(check):
    """Every check of the kit holds."""
    check()


@pytest.mark.slow
@conformance("signals.bfgs")
def test_the_optimizer(check):
    """Every check of the kit holds."""
    check()


@pytest.mark.slow
@conformance("signals.relative_l2")
def test_the_metric(check):
    """Every check of the kit holds."""
    check()


@pytest.mark.slow
@conformance("signals.relative_l2", example={"magnitude": True})
def test_the_metric_of_magnitudes(check):
    """Every check of the kit holds."""
    check()


@pytest.mark.slow
@conformance("signals.residual_adaptive", expected_failures={"callback.takes_part_in_a_run": NEEDS_POINTS})
def test_the_adaptive_sampling(check):
    """Every check of the kit holds."""
    check()


@pytest.mark.slow
@conformance("signals.solution_map")
def test_the_solution_map(check):
    """Every check of the kit holds."""
    check()


def test_every_part_for_equations_is_tested():
    """Every part of the entry point `signals-pinn` has a test above."""
    tried = set(re.findall(r'@conformance\(\s*"([^"]+)"', Path(__file__).read_text(encoding="utf-8")))
    parts = {
        part.name
        for kind in KINDS
        for part in PLUGINS.components(kind)
        if (part.distribution, part.entry_point) == ("dovetail-signals", "signals-pinn")
    }

    assert parts
    assert parts == tried


def test_the_plugin_loads():
    """It is not broken, and its datasets are registered."""
    assert [str(broken) for broken in PLUGINS.broken if broken.distribution == "dovetail-signals"] == []
    assert {part.name for part in PLUGINS.components("dataset")} >= set(FILES)


def test_only_public_names_of_dovetail_are_imported():
    """Modules import from Dovetail only names in `dovetail.__all__`, `dovetail.ops` and `dovetail.random`."""
    imported = [
        (str(path.name), node.module, name.name)
        for path in Path(dovetail_signals.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "dovetail"
        for name in node.names
    ]

    assert imported
    assert [
        name
        for name in imported
        if name[1] not in PUBLIC and (name[1] != "dovetail" or name[2] not in dovetail.__all__)
    ] == []
