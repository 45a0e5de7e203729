"""Every built-in component passes the conformance kit, as the components of any plugin must."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from dovetail.spec.kinds import KINDS
from dovetail.spec.plugins import Plugins
from dovetail.testkit import NotApplicable
from dovetail.testkit.runner import select_checks
from dovetail.testkit.subject import Subject

PLUGINS = Plugins.discover()


def _npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


_SIGNALS = np.arange(80.0).reshape(10, 8)
#: The files that the examples of built-in datasets refer to.
FILES = {
    "csv": {"data.csv": "a,b,label\n" + "".join(f"{row},{row / 2},{row % 2}\n" for row in range(10))},
    "jsonl": {"data.jsonl": "".join(json.dumps({"text": f"word {row}", "label": row % 2}) + "\n" for row in range(10))},
    "npz": {"data.npz": _npz(inputs=_SIGNALS, targets=np.arange(10) % 2)},
    "folder": {
        "recordings/metadata.csv": "file,label\n" + "".join(f"{row}.npz,{row % 2}\n" for row in range(6)),
        **{f"recordings/{row}.npz": _npz(signal=_SIGNALS[row]) for row in range(6)},
    },
    "characters": {"input.txt": "to be, or not to be, that is the question. " * 60},
}


def _parameters():
    for kind in KINDS:
        for registered in PLUGINS.components(kind):
            if registered.distribution == "dovetail":
                name = registered.name
                subject = Subject.find(registered.qualified, kind=kind, files=FILES.get(name), plugins=PLUGINS)
                for check in select_checks(subject, {}):
                    yield pytest.param(subject, check, id=f"{kind}:{name}-{check.name}")


@pytest.mark.parametrize("subject, check", list(_parameters()))
def test_builtin_components_conform(subject, check):
    """The component passes the check."""
    try:
        check.run(subject)
    except NotApplicable as reason:
        pytest.skip(str(reason))


def test_builtin_components_are_found():
    """Discovery finds components of the main kinds and no broken built-in plugin."""
    assert [str(broken) for broken in PLUGINS.broken if broken.distribution == "dovetail"] == []
    assert all(PLUGINS.components(kind) for kind in ("loss", "model", "optimizer", "scheduler", "storage"))
