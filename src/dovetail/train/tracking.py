"""Trackers of a run: each called at a cadence of its own, and none able to spoil the training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from dovetail.config.schema import Every
from dovetail.kernel.build import BuildError

if TYPE_CHECKING:
    from dovetail.config.schema import RunConfig
    from dovetail.train.context import Run

_logger: Final = logging.getLogger("dovetail.record")

#: The hooks that bring figures, to which the cadence applies.
_FIGURES: Final = ("dovetail_log", "dovetail_validation_end", "dovetail_epoch_end")
#: The type of the alert that tells of a tracker that failed.
FAILED: Final = "tracker_failed"


class TrackerGuard:
    """Stands between a run and one of its trackers.

    Lets figures through when they are due: with no cadence all that are logged; with one in epochs those of validations
    and ends of every so many epochs, and none in between; with one in updates the training figures of every so many
    updates, and those of every validation and epoch. The test's figures always pass.

    A tracker that raises is reported once and no longer called, but for the run's end, so that it can let go of what it
    holds.
    """

    def __init__(self, path: str, every: Every | None) -> None:
        """Guard the tracker at ``path`` of the config."""
        self._path, self._every = path, every
        self._failed = False

    def __call__(self, hook: str, arguments: Mapping[str, Any], call: Callable[[], object]) -> None:
        """Call the tracker, if it is time."""
        if self._failed and hook != "dovetail_run_end":
            return
        if hook in _FIGURES and not self._due(arguments):
            return
        try:
            call()
        except Exception as error:
            _logger.warning("%s failed in %s", self._path, hook, exc_info=error)
            if not self._failed:
                self._failed = True
                self._report(arguments["run"], hook, error)

    def _due(self, arguments: Mapping[str, Any]) -> bool:
        every, event = self._every, arguments.get("event", "epoch")
        if every is None or event == "test":
            return True
        if event == "train":
            return every.steps is not None and arguments["step"] % every.steps == 0
        return every.steps is not None or arguments["run"].state.epoch % (every.epochs or 1) == 0

    def _report(self, run: Run, hook: str, error: Exception) -> None:
        why = " ".join(str(error).split()) or type(error).__name__
        run.alert(
            FAILED,
            f"{self._path} failed and records no more of this run, which goes on without it: {why}",
            tracker=self._path,
            hook=hook,
            error=type(error).__name__,
        )


def tracker_guards(config: RunConfig) -> dict[str, TrackerGuard]:
    """Return a guard for each tracker, by its config path.

    Raises:
        BuildError: a cadence asks for figures at updates at which none are made.
    """
    guards = {}
    for name, part in config.trackers.items():
        path, every = f"trackers.{name}", part.reserved.get("every")
        every = Every(epochs=every) if isinstance(every, int) else every
        if every is not None and every.minutes is not None:
            raise BuildError(f"{path}.every", "a tracker counts epochs or steps, not minutes")
        if every is not None and every.steps is not None and every.steps % config.logging.every:
            message = (
                f"training figures are made every {config.logging.every} updates (logging.every), so a tracker can "
                f"have them every so many times that, not every {every.steps}"
            )
            raise BuildError(f"{path}.every", message)
        guards[path] = TrackerGuard(path, every)
    return guards
