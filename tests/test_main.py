"""The main path: what run() and resume() accept, and how a run that fails is recorded."""

from __future__ import annotations

import json
import logging

import pytest
import torch

import dovetail
from dovetail.checkpoint.format import read_model
from dovetail.config.diagnostics import ConfigError
from dovetail.record.runs import RunLookupError
from small_runs import only_run, small


class Fails:
    """A callback that raises in one hook."""

    def __init__(self, hook: str, error: BaseException) -> None:
        def fail() -> None:
            raise error

        setattr(self, hook, fail)


def record(output):
    """Return the run.json of the only run."""
    return json.loads((only_run(output) / "run.json").read_text())


def test_a_run_file_a_config_and_a_built_config_are_the_same_run(tmp_path):
    """Weights and figures are equal to the bit, and a resumed finished run returns its outcome."""
    path = tmp_path / "run.toml"
    path.write_text(
        """
        [data]
        type = "digits"
        [model]
        type = "mlp"
        hidden_dims = [8]
        [loss]
        type = "cross_entropy"
        [training]
        max_steps = 3
        test = false
        [hardware]
        device = "cpu"
        threads = 1
        [report]
        enabled = false
        """
    )
    config = dovetail.Config.load(path).with_parts(paths={"output": str(tmp_path / "python")})
    other = tmp_path / "other.toml"
    other.write_text(path.read_text().replace("[data]", f'[paths]\noutput = "{tmp_path / "file"}"\n[data]'))
    outcomes = [dovetail.run(given).check() for given in (other, str(other), config, config.build())]

    weights = [read_model(next((outcome.folder / "checkpoints").glob("step-*"))) for outcome in outcomes]
    assert all(torch.equal(weights[0][name], other[name]) for other in weights[1:] for name in other)
    assert dovetail.resume(outcomes[0].folder).metrics == outcomes[0].metrics


def test_a_run_that_fails_while_training_returns_its_error(tmp_path):
    """The status is "failed", in run.json too, and check() raises what the part raised."""
    outcome = dovetail.run(small(tmp_path, callbacks={"bad": Fails("dovetail_epoch_start", ValueError("no tide"))}))

    assert outcome.status == record(tmp_path)["status"] == "failed"
    assert outcome.stopped_by == "callbacks.bad"
    assert outcome.folder == only_run(tmp_path)
    with pytest.raises(dovetail.TrainingError, match="no tide"):
        outcome.check()


def test_a_part_that_fails_at_the_end_fails_the_run(tmp_path, caplog):
    """Every other part still hears of the end; the first failure is the run's."""
    seen = []

    class Ends:
        def dovetail_run_end(self, outcome):
            seen.append(outcome.status)

    callbacks = {
        "first": Fails("dovetail_run_end", ValueError("first")),
        "second": Fails("dovetail_run_end", ValueError("second")),
        "last": Ends(),
    }
    with caplog.at_level(logging.ERROR):
        outcome = dovetail.run(small(tmp_path, callbacks=callbacks))

    assert seen == ["completed"]
    assert outcome.status == record(tmp_path)["status"] == "failed"
    assert outcome.stopped_by == "callbacks.first"
    assert {record.name for record in caplog.records} == {"dovetail.run"}
    assert len(caplog.records) == 2


def test_an_interruption_is_recorded_and_raised(tmp_path):
    """A Ctrl-C in a part reaches the caller, and run.json says how the run ended."""
    with pytest.raises(KeyboardInterrupt):
        dovetail.run(small(tmp_path, callbacks={"bad": Fails("dovetail_run_start", KeyboardInterrupt())}))

    assert record(tmp_path)["status"] == "interrupted"


def test_parts_that_do_not_fit_are_bad_input(tmp_path):
    """A ConfigError at the part's place, and a run that is recorded as failed."""
    with pytest.raises(ConfigError, match="loss"):
        dovetail.run(small(tmp_path, loss={"type": "mse"})).check()

    assert record(tmp_path)["status"] == "failed"


def test_a_folder_without_a_run_cannot_be_resumed(tmp_path):
    """The message names the folder."""
    with pytest.raises((RunLookupError, ConfigError), match=str(tmp_path)):
        dovetail.resume(tmp_path)
