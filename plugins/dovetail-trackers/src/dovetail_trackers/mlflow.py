"""A run recorded with MLflow."""

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
#: What MLflow takes in one call, in a parameter's value, in a tag's, and in a name.
_PARAMETERS_AT_ONCE: Final = 100
_LONGEST_VALUE: Final = 6000
_LONGEST_TAG: Final = 5000
_NOT_IN_A_NAME: Final = re.compile(r"[^\w./: -]")
_ENDINGS: Final = {"failed": "FAILED", "interrupted": "KILLED"}


class MLflowTracker:
    """Records settings as parameters, figures as metrics over optimizer updates, the end and the results as tags.

    Everything is sent in the background: training does not wait for a server.

    Args:
        experiment_name: the experiment; by default ``run.experiment``, else the run's name.
        run_name: by default the name of the run's folder.
        tracking_uri: where to, such as ``"http://127.0.0.1:5000"`` or ``"sqlite:///mlflow.db"``. By default what the
            environment variable ``MLFLOW_TRACKING_URI`` says, else ``mlflow.db`` inside ``paths.output``.
        patience: seconds to wait at the end until all is sent.

    Raises:
        ModuleNotFoundError: mlflow-skinny, or what a database needs besides it, is not installed.
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
        """Begin to send, with the settings; a resumed run goes on in the MLflow run that it had."""
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
        """Send figures."""
        if self._sender is not None:
            figures, now = without_repeats(event, metrics), time.time_ns() // 1_000_000
            self._sender.post(lambda: self._mlflow_run.figures(figures, step, now))

    def dovetail_run_end(self, run: Run, outcome: Outcome) -> None:
        """Send the end and where the results are, and wait until all is sent."""
        sender, self._sender = self._sender, None
        if sender is None:
            return
        told = {f"dovetail.{name}": value for name, value in {**outcome_facts(outcome), **result_uris(run)}.items()}
        status = _ENDINGS.get(outcome.status, "FINISHED")
        sender.post(lambda: self._mlflow_run.close(told, status))
        sender.close(self.patience)


@frozen
class _RunStart:
    """What an MLflow run begins with."""

    uri: str
    artifacts: str | None
    experiment: str
    name: str
    tags: Mapping[str, str]
    parameters: Mapping[str, Any]
    resumed: bool


class _MlflowRun:
    """The MLflow run that is written to; used by the sender's thread alone, which also imports MLflow."""

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
        tags = {_name(name): value[:_LONGEST_TAG] for name, value in start.tags.items()}
        self._run_id = client.create_run(experiment, run_name=start.name, tags=tags).info.run_id
        told = [Param(_name(name), str(value)[:_LONGEST_VALUE]) for name, value in start.parameters.items()]
        for first in range(0, len(told), _PARAMETERS_AT_ONCE):
            client.log_batch(self._run_id, params=told[first : first + _PARAMETERS_AT_ONCE])

    def figures(self, metrics: Mapping[str, float], step: int, milliseconds: int) -> None:
        from mlflow.entities import Metric

        if self._client is not None:
            told = [Metric(_name(name), value, milliseconds, step) for name, value in metrics.items()]
            self._client.log_batch(self._run_id, metrics=told)

    def close(self, tags: Mapping[str, str], status: str) -> None:
        from mlflow.entities import RunTag

        if self._client is not None:
            told = [RunTag(_name(name), value[:_LONGEST_TAG]) for name, value in tags.items()]
            self._client.log_batch(self._run_id, tags=told)
            self._client.set_terminated(self._run_id, status)


def _experiment(client: MlflowClient, name: str, artifacts: str | None) -> str:
    """Return the id of the experiment, which is made if there is none; another process may be making it as well."""
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
    return _NOT_IN_A_NAME.sub("_", text)
