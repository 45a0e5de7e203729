"""The MLflow tracker, read back with MLflow's client from a database file and a real server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from mlflow.tracking import MlflowClient

pytestmark = pytest.mark.slow

OURS = {"type": "trackers.mlflow", "patience": 600}  # seconds; importing MLflow alone takes many on a busy machine


def only_run(uri, experiment="trial"):
    """Return a client and the only run of an experiment."""
    client = MlflowClient(tracking_uri=uri)
    (found,) = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return client, found


def check(client, found, folder, metrics):
    """Check that the run is complete."""
    data = found.data
    assert found.info.status == "FINISHED"
    assert data.params["optimizer.lr"] == "0.01"
    assert data.params["model.hidden_dims"] == "[4, 3]"
    assert data.tags["dovetail.status"] == "completed"
    assert data.tags["dovetail.folder"] == folder.as_uri()
    assert data.tags["dovetail.best_checkpoint"].startswith((folder / "checkpoints").as_uri())
    assert data.tags["mlflow.note.content"] == "a note"
    for name, expected in metrics.items():
        history = client.get_metric_history(found.info.run_id, name)
        assert {(metric.step, metric.value) for metric in history} == set(expected)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Run a real MLflow server on this machine, and return its address."""
    folder = tmp_path_factory.mktemp("server")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'server.db'}", "--artifacts-destination", str(folder)]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "HOME": str(folder)}
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                with urllib.request.urlopen(f"{address}/health"):  # noqa: S310 (our own server)
                    break
            except OSError:
                assert process.poll() is None, (folder / "log.txt").read_text()
                time.sleep(0.5)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_database_file_has_the_whole_run(train, logged, alerts, tmp_path):
    """By default, mlflow.db in the folder of all runs has the parameters, every metric with its step, and the end."""
    _, folder = train(board=OURS)
    client, found = only_run(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")

    assert alerts.seen == []
    assert found.info.run_name == folder.name
    check(client, found, folder, logged(folder))


def test_a_server_has_the_whole_run(server, train, logged, alerts, monkeypatch):
    """So has a server over HTTP; its address comes from a secret, of which only the name is recorded."""
    monkeypatch.setenv("WHERE", server)
    table = {**OURS, "tracking_uri": {"env": "WHERE"}, "experiment_name": "remote", "run_name": "mine"}
    _, folder = train(board=table)
    client, found = only_run(server, "remote")

    assert alerts.seen == []
    assert found.info.run_name == "mine"
    assert found.data.params["trackers.board.tracking_uri"] == "env:WHERE"
    check(client, found, folder, logged(folder))


def test_a_password_in_an_address_is_used_but_not_recorded(server, train, tmp_path):
    """Neither MLflow nor another tracker of the run records it."""
    address = server.replace("://", "://somebody:hush-hush@")
    train(board={**OURS, "tracking_uri": address, "experiment_name": "hidden"}, db={"type": "trackers.tensorboard"})
    _, found = only_run(server, "hidden")

    assert found.data.params["trackers.board.tracking_uri"] == server.replace("://", "://***@")
    assert "hush-hush" not in str(found.data)
    (events,) = tmp_path.glob("runs/small/*/tensorboard/events*")
    assert b"hush-hush" not in events.read_bytes()


def test_metrics_that_are_not_finite_are_kept(tmp_path):
    """NaN and infinity arrive unchanged."""
    from dovetail_trackers.mlflow import _MlflowRun, _RunStart

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    mlflow_run = _MlflowRun()
    mlflow_run.open(_RunStart(uri, tmp_path.as_uri(), "trial", "one", {"dovetail.run": "one"}, {}, resumed=False))
    mlflow_run.log({"loss [train]": float("nan"), "norm": float("inf")}, 3, 1)
    mlflow_run.close({}, "FINISHED")
    _, found = only_run(uri)

    assert str(found.data.metrics["loss _train_"]) == "nan"
    assert found.data.metrics["norm"] > 1e300


def test_a_resumed_run_continues_its_mlflow_run(tmp_path):
    """The MLflow run is found by the tag with the run's folder; another folder starts a new one."""
    from dovetail_trackers.mlflow import _MlflowRun, _RunStart

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    for folder, resumed in (("one", False), ("one", True), ("two", False)):
        start = _RunStart(uri, tmp_path.as_uri(), "trial", folder, {"dovetail.run": folder}, {}, resumed=resumed)
        mlflow_run = _MlflowRun()
        mlflow_run.open(start)
        mlflow_run.close({}, "FINISHED")
    client = MlflowClient(tracking_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name("trial").experiment_id])

    assert sorted(run.data.tags["dovetail.run"] for run in runs) == ["one", "two"]


def test_a_run_completes_without_its_server(train, alerts):
    """It does not wait for the client's retries, and raises one alert."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        outcome, _ = train(board={**OURS, "tracking_uri": address, "patience": 0.2})

    assert outcome.status == "completed"
    assert [alert.type for alert in alerts.seen] == ["tracker_failed"]
    assert "not everything was sent within 0.2 s" in alerts.seen[0].message


def test_a_database_that_is_none_raises_an_alert(train, alerts, tmp_path):
    """The run completes and the file stays unchanged."""
    (tmp_path / "no.db").write_text("no database at all")
    outcome, _ = train(board={**OURS, "tracking_uri": f"sqlite:///{tmp_path / 'no.db'}"})

    assert outcome.status == "completed"
    assert [alert.type for alert in alerts.seen] == ["tracker_failed"]
    assert "file is not a database" in alerts.seen[0].message
    assert (tmp_path / "no.db").read_text() == "no database at all"
