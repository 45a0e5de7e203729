"""A run recorded with Weights & Biases."""

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
    """Records settings as config, figures as history over optimizer updates, the end and the results as summary.

    What is kept on this machine lies in ``wandb/`` in the run's folder; ``wandb sync`` uploads it later. Everything is
    sent in the background: training does not wait for a server.

    Args:
        project: the project.
        entity: the team or user; your default one unless set.
        name: by default the name of the run's folder.
        group: by default ``run.experiment``.
        mode: by default what the environment variable ``WANDB_MODE`` says, else online where there is a key, else
            offline.
        api_key: write ``{ env = "NAME" }``; by default ``WANDB_API_KEY``.
        patience: seconds to wait at the start for the server, and at the end until all is sent.

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
        #: None leaves it to ``WANDB_MODE``.
        self.mode = mode or (None if os.environ.get("WANDB_MODE") else "online" if has_key else "offline")
        self._sender: Sender | None = None
        self._run: Any = None

    def dovetail_run_start(self, run: Run) -> None:
        """Begin to send, with the settings; a resumed run goes on in the W&B run that it had, where that is online."""
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
        """Send figures."""
        if self._sender is not None:
            figures = without_repeats(event, metrics)
            self._sender.post(lambda: self._run.log(figures, step=step))

    def dovetail_run_end(self, run: Run, outcome: Outcome) -> None:
        """Send the end and where the results are, and wait until all is sent."""
        sender, self._sender = self._sender, None
        if sender is None:
            return
        told = {f"dovetail.{name}": value for name, value in {**outcome_facts(outcome), **result_uris(run)}.items()}
        failed = outcome.status == "failed"
        sender.post(lambda: self._close(told, failed=failed))
        sender.close(self.patience)

    def _open(self, start: Mapping[str, Any]) -> None:
        import wandb

        options = wandb.Settings(silent=True, console="off", init_timeout=self.patience)
        if self._key:
            options.api_key = self._key
        self._run = wandb.init(**start, reinit="create_new", settings=options)

    def _close(self, told: Mapping[str, str], *, failed: bool) -> None:
        self._run.summary.update(told)
        self._run.finish(exit_code=int(failed))
