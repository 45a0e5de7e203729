"""Record runs with MLflow."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

from attrs import frozen

from dovetail import AtLeast, Outcome, Run
from dovetail_trackers.run_info import flat_settings, outcome_facts, require_installed, result_uris, without_repeats
from dovetail_trackers.sender import Sender

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_RUN: Final = "dovetail.run"
# MLflow's limits: parameters in one call, length of a parameter's and a tag's value, characters of a name.
_PARAMETERS_PER_CALL: Final = 100
_MAX_VALUE: Final = 6000
_MAX_TAG: Final = 5000
_FORBIDDEN_IN_NAMES: Final = re.compile(r"[^\w./: -]")
_STATUS: Final = {"failed": "FAILED", "interrupted": "KILLED"}


class MLflowTracker:
    """Record settings as parameters, metrics over optimizer updates, and the outcome and results as tags.

    Everything is sent in the background, so training never waits for a server.

    Args:
        experiment_name: name of the experiment; by default ``run.experiment``, or the run's name.
        run_name: name of the MLflow run; by default the name of the run's folder.
        tracking_uri: a server or database, such as ``"http://127.0.0.1:5000"`` or ``"sqlite:///mlflow.db"``. By default
            the environment variable ``MLFLOW_TRACKING_URI``, or ``mlflow.db`` inside ``paths.output``.
        patience: seconds to wait at the end for unsent messages.

    Raises:
        ModuleNotFoundError: mlflow-skinny, sqlalchemy or alembic is not installed.
    """

    def __init__(
        self,
        experiment_name: str | None = None,
        run_name: str | None = None,
        tracking_uri: str | None = None,
        patience: Annotated[float, AtLeast(0)] = 30.0,
    ) -> None:
        for module in ("mlflow", "sqlalchemy", "alembic"):
            require_installed(module, "mlflow")
        self.experiment_name, self.run_name, self.patience = experiment_name, run_name, patience
        self.tracking_uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        self._sender: Sender | None = None
        self._mlflow_run = _MlflowRun()

    def dovetail_run_start(self, run: Run) -> None:
        """Start the MLflow run with the settings; a resumed run continues its MLflow run."""
        about, output = run.config.run, run.config.paths.output.absolute()
        start = _RunStart(
            uri=self.tracking_uri or f"sqlite:///{output / 'mlflow.db'}",
            artifacts=None if self.tracking_uri else (output / "mlartifacts").as_uri(),
            experiment=self.experiment_name or about.experiment or about.name,
            name=self.run_name or run.store.id,
            tags={_RUN: run.store.id, "mlflow.note.content": about.notes, **{f"tag.{tag}": "" for tag in about.tags}},
            parameters=flat_settings(run),
            resumed=run.state.step > 0,
        )
        self._sender = Sender("dovetail-mlflow")
        self._sender.post(lambda: self._mlflow_run.open(start))

    def dovetail_log(self, event: str, metrics: Mapping[str, float], step: int) -> None:
        """Send metrics."""
        if self._sender is not None:
            new, now = without_repeats(event, metrics), time.time_ns() // 1_000_000
            self._sender.post(lambda: self._mlflow_run.log(new, step, now))

    def dovetail_run_end(self, run: Run, outcome: Outcome) -> None:
        """Send the outcome and the results' places, and wait until everything is sent."""
        sender, self._sender = self._sender, None
        if sender is None:
            return
        tags = {f"dovetail.{name}": value for name, value in {**outcome_facts(outcome), **result_uris(run)}.items()}
        status = _STATUS.get(outcome.status, "FINISHED")
        sender.post(lambda: self._mlflow_run.close(tags, status))
        sender.close(self.patience)


@frozen
class _RunStart:
    """The data that start an MLflow run."""

    uri: str
    artifacts: str | None
    experiment: str
    name: str
    tags: Mapping[str, str]
    parameters: Mapping[str, Any]
    resumed: bool


class _MlflowRun:
    """The MLflow run being written; only the sender's thread uses it, which also imports MLflow."""

    def __init__(self) -> None:
        self._client: MlflowClient | None = None
        self._run_id = ""

    def open(self, start: _RunStart) -> None:
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        client = self._client = MlflowClient(tracking_uri=start.uri)
        experiment = _experiment(client, start.experiment, start.artifacts)
        found = start.resumed and client.search_runs(
            [experiment], filter_string=f"tags.`{_RUN}` = '{start.tags[_RUN]}'", max_results=1
        )
        if found:
            self._run_id = found[0].info.run_id
            client.update_run(self._run_id, status="RUNNING")
            return
        tags = {_name(name): value[:_MAX_TAG] for name, value in start.tags.items()}
        self._run_id = client.create_run(experiment, run_name=start.name, tags=tags).info.run_id
        params = [Param(_name(name), str(value)[:_MAX_VALUE]) for name, value in start.parameters.items()]
        for first in range(0, len(params), _PARAMETERS_PER_CALL):
            client.log_batch(self._run_id, params=params[first : first + _PARAMETERS_PER_CALL])

    def log(self, metrics: Mapping[str, float], step: int, milliseconds: int) -> None:
        from mlflow.entities import Metric

        if self._client is not None:
            entities = [Metric(_name(name), value, milliseconds, step) for name, value in metrics.items()]
            self._client.log_batch(self._run_id, metrics=entities)

    def close(self, tags: Mapping[str, str], status: str) -> None:
        from mlflow.entities import RunTag

        if self._client is not None:
            entities = [RunTag(_name(name), value[:_MAX_TAG]) for name, value in tags.items()]
            self._client.log_batch(self._run_id, tags=entities)
            self._client.set_terminated(self._run_id, status)


def _experiment(client: MlflowClient, name: str, artifacts: str | None) -> str:
    """Return the id of the experiment, creating it if needed; another process may create it at the same time."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifacts))
        except MlflowException:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


def _name(text: str) -> str:
    return _FORBIDDEN_IN_NAMES.sub("_", text)
