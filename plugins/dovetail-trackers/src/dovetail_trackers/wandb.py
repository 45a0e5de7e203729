"""Record runs with Weights & Biases."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from dovetail import AtLeast, Outcome, Run
from dovetail_trackers.run_info import (
    outcome_facts,
    require_installed,
    result_uris,
    settings_without_secrets,
    without_repeats,
)
from dovetail_trackers.sender import Sender


class WandbTracker:
    """Record settings as config, metrics as history over optimizer updates, and outcome and results as summary.

    Local files are in ``wandb/`` in the run's folder; ``wandb sync`` uploads an offline run. Everything is sent in the
    background, so training never waits for a server.

    Args:
        project: name of the project.
        entity: team or user; your default entity if not set.
        name: name of the W&B run; by default the name of the run's folder.
        group: group of the run; by default ``run.experiment``.
        mode: by default the environment variable ``WANDB_MODE``, or online if there is an API key, else offline.
        api_key: the API key, as ``{ env = "NAME" }``; by default the environment variable ``WANDB_API_KEY``.
        patience: seconds to wait for the server at the start, and for unsent messages at the end.

    Raises:
        ModuleNotFoundError: wandb is not installed.
    """

    def __init__(
        self,
        project: str = "dovetail",
        *,
        entity: str | None = None,
        name: str | None = None,
        group: str | None = None,
        mode: Literal["online", "offline"] | None = None,
        api_key: str | None = None,
        patience: Annotated[float, AtLeast(0)] = 30.0,
    ) -> None:
        require_installed("wandb", "wandb")
        self.project, self.entity, self.name, self.group = project, entity, name, group
        self.patience, self._key = patience, api_key
        has_key = bool(api_key or os.environ.get("WANDB_API_KEY"))
        #: None if ``WANDB_MODE`` decides.
        self.mode = mode or (None if os.environ.get("WANDB_MODE") else "online" if has_key else "offline")
        self._sender: Sender | None = None
        self._run: Any = None

    def dovetail_run_start(self, run: Run) -> None:
        """Start the W&B run with the settings; a resumed online run continues its W&B run."""
        about = run.config.run
        start = {
            "project": self.project,
            "entity": self.entity,
            "id": run.store.id,
            "name": self.name or run.store.id,
            "group": self.group or about.experiment,
            "notes": about.notes or None,
            "tags": about.tags,
            "config": settings_without_secrets(run),
            "dir": str(run.store.path),
            "mode": self.mode,
            "resume": None if self.mode == "offline" else "allow",
        }
        self._sender = Sender("dovetail-wandb")
        self._sender.post(lambda: self._open(start))

    def dovetail_log(self, event: str, metrics: Mapping[str, float], step: int) -> None:
        """Send metrics."""
        if self._sender is not None:
            new = without_repeats(event, metrics)
            self._sender.post(lambda: self._run.log(new, step=step))

    def dovetail_run_end(self, run: Run, outcome: Outcome) -> None:
        """Send the outcome and the results' places, and wait until everything is sent."""
        sender, self._sender = self._sender, None
        if sender is None:
            return
        summary = {f"dovetail.{name}": value for name, value in {**outcome_facts(outcome), **result_uris(run)}.items()}
        failed = outcome.status == "failed"
        sender.post(lambda: self._close(summary, failed=failed))
        sender.close(self.patience)

    def _open(self, start: Mapping[str, Any]) -> None:
        import wandb

        options = wandb.Settings(silent=True, console="off", init_timeout=self.patience)
        if self._key:
            options.api_key = self._key
        self._run = wandb.init(**start, reinit="create_new", settings=options)

    def _close(self, summary: Mapping[str, str], *, failed: bool) -> None:
        self._run.summary.update(summary)
        self._run.finish(exit_code=int(failed))
