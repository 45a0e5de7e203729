"""The W&B tracker, read back from its offline files with W&B's record types."""

from __future__ import annotations

import json
import struct
import subprocess
import sys

import pytest
from wandb.proto.wandb_internal_pb2 import Record

pytestmark = pytest.mark.slow

OURS = {"type": "trackers.wandb", "patience": 600}  # seconds: importing W&B alone takes many on a busy machine
BLOCK = 32 * 1024  # bytes; the file is a LevelDB log: https://github.com/google/leveldb/blob/main/doc/log_format.md
HEADER = 7  # bytes: the W&B header of the file, and the header of each fragment: checksum, length, kind
LAST = {1, 4}  # kinds of fragment that end a record: the whole one, and the last of several


def records(path):
    """Yield the records of a ``.wandb`` file."""
    content, at, whole = path.read_bytes(), HEADER, b""
    while at + HEADER <= len(content):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        whole += content[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in LAST:
            yield Record.FromString(whole)
            whole = b""


def read(folder):
    """Return the only offline run in a folder: run record, config, history, summary, exit code."""
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    run, config, history, summary, code = None, {}, [], {}, None
    for record in records(path):
        match record.WhichOneof("record_type"):
            case "run":
                run = record.run
                config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            case "history":
                items = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
                history.append({"_step": record.history.step.num, **items})
            case "summary":
                summary |= {
                    item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.summary.update
                }
            case "exit":
                code = record.exit.exit_code
    return run, config, history, summary, code


def test_without_a_key_the_run_is_offline_and_complete(train, logged, alerts):
    """Settings, every metric with its step, outcome and results are in the run's folder."""
    _, folder = train(board=OURS)
    run, config, history, summary, code = read(folder)

    assert alerts.seen == []
    assert (run.project, run.display_name, run.run_group, list(run.tags)) == ("dovetail", folder.name, "trial", ["one"])
    assert config["optimizer"]["lr"] == 0.01
    assert config["model"]["hidden_dims"] == [4, 3]
    for name, logged_values in logged(folder).items():
        # W&B keeps the last of several values at one step.
        assert [(row["_step"], row[name]) for row in history if name in row] == sorted(dict(logged_values).items())
    assert summary["dovetail.status"] == "completed"
    assert summary["dovetail.folder"] == folder.as_uri()
    assert code == 0


def test_a_key_is_used_and_never_recorded(train, monkeypatch):
    """A key from an environment variable, or written out by mistake, is in no file of the run."""
    key = "0123456789abcdef" * 2 + "hush-hus"
    monkeypatch.setenv("KEY", key)
    for given in ({"env": "KEY"}, key):
        board = {**OURS, "api_key": given, "mode": "offline"}
        _, folder = train(output=f"runs-{type(given).__name__}", board=board)
        _, config, _, _, _ = read(folder)
        kept = [path for path in folder.rglob("wandb/**/*") if path.is_file()]

        assert config["trackers"]["board"]["api_key"] == (given if isinstance(given, dict) else "***")
        assert kept
        assert not [path for path in kept if key.encode() in path.read_bytes()]


def test_a_run_completes_without_its_server(train, alerts, monkeypatch):
    """Online with no server at its address, it raises one alert."""
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    board = {**OURS, "api_key": "0" * 40, "mode": "online", "patience": 1.0}
    outcome, _ = train(board=board)

    assert outcome.status == "completed"
    assert [alert.type for alert in alerts.seen] == ["tracker_failed"]


LOOP = """
import wandb
from dovetail import MetricsEngine, MetricsTracker
from dovetail.monitor.profile import DataProfile
tracker = MetricsTracker(use_wandb=True)
tracker.log_epoch(epoch=5, train_metrics={"loss": 0.42}, val_metrics={"loss": 0.38}, learning_rate=1e-4)
data = {"load": ["low", "high"] * 10}
engine = MetricsEngine(use_wandb=True)
engine.log_epoch(6, {"loss": 0.4}, {"loss": 0.3}, epoch_duration=2.5, reference_profile=DataProfile.build(data),
                 current_profile=data)
wandb.finish()
"""


def test_the_epochs_of_a_hand_written_loop_are_recorded(tmp_path):
    """With ``use_wandb=True``, MetricsTracker and MetricsEngine log to W&B in a program without a W&B run."""
    subprocess.run([sys.executable, "-c", LOOP], cwd=tmp_path, capture_output=True, check=True)
    _, _, history, _, _ = read(tmp_path)

    assert [(row["epoch"], row["train_loss"], row["val_loss"]) for row in history] == [
        (5, 0.42, 0.38),
        (6, 0.4, 0.3),
    ]
    assert (history[1]["epoch_duration"], history[1]["drift"]) == (2.5, 0.0)
