"""Every part passes the conformance kit, and only public names of Dovetail are used."""

from __future__ import annotations

import ast
import csv
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

import dovetail
import dovetail_signals
from dovetail.kernel.plugins import Plugins
from dovetail.spec.kinds import KINDS
from dovetail.testkit import NotApplicable
from dovetail.testkit.runner import select_checks
from dovetail.testkit.subject import Subject

PLUGINS = Plugins.discover()
#: Modules of Dovetail that anybody may import, beside the names in ``dovetail`` itself.
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
#: The files that the examples of our datasets name.
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


#: What to feed the parts that take no plain tensor.
BATCHES = {"signals.multi_tfr_fusion": st.integers(0, 1000).map(_representations)}


def _everything():
    for kind in KINDS:
        for part in PLUGINS.components(kind):
            # Parts for differential equations have tests of their own.
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
def test_ours_conform(subject, check):
    """The check holds for the part."""
    try:
        check.run(subject)
    except NotApplicable as reason:
        pytest.skip(str(reason))


def test_nothing_of_ours_is_broken():
    """The plugin loads, and is known to offer parts."""
    assert [str(broken) for broken in PLUGINS.broken if broken.distribution == "dovetail-signals"] == []
    assert {part.name for part in PLUGINS.components("dataset")} >= set(FILES)


def test_only_public_names_of_dovetail_are_used():
    """Whatever a module imports of Dovetail is public: a name of `dovetail`, or its modules `ops` and `random`."""
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
