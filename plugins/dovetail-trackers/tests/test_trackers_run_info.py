"""What trackers record of a run, without secrets, and what they need to be installed."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dovetail import Config
from dovetail.main import run
from dovetail_trackers.run_info import _clean, _flat, require_installed

WORDS = st.text("abcxyz019-._~!$&'()*+,;=:%", min_size=1, max_size=12)


@given(WORDS, st.text("abc019.-", min_size=1, max_size=9), st.text("abc/@:?", max_size=9))
def test_credentials_in_a_url_are_hidden(secret, host, rest):
    """Any password is replaced, and the rest of the address is kept."""
    shown = _clean(f"http://user:{secret}@{host}/{rest}")

    assert shown == f"http://***@{host}/{rest}"


@pytest.mark.parametrize("name", ["api_key", "apikey", "db_password", "PASSWORD", "client_secret"])
def test_secrets_that_were_written_out_are_hidden(name):
    """At any depth the value is replaced; a reference to an environment variable is kept."""
    table = {"trackers": [{name: "hush"}], "model": {name: {"env": "NAME"}, "eos_token": "</s>", "key": "signal"}}

    assert _clean(table) == {
        "trackers": [{name: "***"}],
        "model": {name: {"env": "NAME"}, "eos_token": "</s>", "key": "signal"},
    }


def test_settings_are_flattened():
    """Tables become dotted names; secrets, lists and unset values become text."""
    table = {"a": {"b": 1, "c": [1, 2]}, "d": None, "e": {"env": "NAME"}, "f": True, "g": {}}

    assert dict(_flat("", table)) == {"a.b": 1, "a.c": "[1, 2]", "d": "", "e": "env:NAME", "f": True}


@pytest.mark.parametrize(
    "tracker, module", [("tensorboard", "tensorboard"), ("mlflow", "mlflow"), ("mlflow", "alembic"), ("wandb", "wandb")]
)
def test_a_missing_library_is_an_error_before_training(tmp_path, monkeypatch, tracker, module):
    """The error names the tracker's table, the library and the command to install it."""
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
    expected = rf"trackers\.board: .*{module} is not installed: pip install 'dovetail-trackers\[{tracker}\]'"
    with pytest.raises(Exception, match=expected):
        run(config.build())


def test_an_installed_library_is_not_imported():
    """The check costs no import."""
    before = set(sys.modules)
    require_installed("lib2to3", "any")

    assert set(sys.modules) - before <= {"lib2to3"}
