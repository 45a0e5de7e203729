"""What is said where a library is not installed."""

from __future__ import annotations

import sys

import pytest

from dovetail import Config
from dovetail.main import run
from dovetail_trackers.run_info import require_installed


@pytest.mark.parametrize(
    "tracker, module", [("tensorboard", "tensorboard"), ("mlflow", "mlflow"), ("mlflow", "alembic"), ("wandb", "wandb")]
)
def test_a_missing_library_is_named_before_training(tmp_path, monkeypatch, tracker, module):
    """The run is refused at the tracker's place, with what to install."""
    monkeypatch.setitem(sys.modules, module, None)
    config = Config.from_dict(
        {
            "data": {"type": "digits"},
            "model": {"type": "mlp", "hidden_dims": [4]},
            "loss": {"type": "cross_entropy"},
            "paths": {"output": str(tmp_path)},
            "trackers": {"board": {"type": f"trackers.{tracker}"}},
        }
    )
    with pytest.raises(Exception, match=rf"trackers\.board: .*pip install 'dovetail-trackers\[{tracker}\]'"):
        run(config.build())


def test_what_is_installed_is_not_imported():
    """Asking costs no import."""
    before = set(sys.modules)
    require_installed("lib2to3", "any")

    assert set(sys.modules) - before <= {"lib2to3"}
