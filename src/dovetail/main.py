"""The main path, top to bottom: open a workspace → assemble the parts → train → record the outcome."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import evolve

from dovetail.config.api import Config, build_config
from dovetail.config.schema import RunConfig
from dovetail.kernel.build import BuildError
from dovetail.record.live_report import LiveReport
from dovetail.record.recorder import Recorder
from dovetail.train.assembly import assemble
from dovetail.train.clock import Stopwatch
from dovetail.train.errors import config_error, describe_error
from dovetail.train.hardware import settings_of
from dovetail.train.seeds import SEED_LIMIT, set_random_seed
from dovetail.train.signals import stopping_on_signals
from dovetail.train.state import Outcome
from dovetail.train.workspace import open_workspace

if TYPE_CHECKING:
    from dovetail.train.context import Run

_logger: Final = logging.getLogger("dovetail.run")


def run(
    config: RunConfig | Config | str | PathLike[str],
    *,
    folder: Path | None = None,
    argv: Sequence[str] = (),
    listeners: Iterable[object] = (),
) -> Outcome:
    """Train, validate, test and record what ``config`` describes.

    Args:
        config: a run file, or a config from Python, built or not.
        folder: the folder of a run to resume, as :func:`resume` passes it.
        argv: the command line, for the record.
        listeners: further objects with lifecycle hooks, such as the console.

    Returns:
        The outcome. A run that fails while training has the status ``"failed"`` and its error, which
        ``outcome.check()`` raises: a ``ConfigError`` if the parts and the first batch do not fit each other.

    Raises:
        ConfigError: the config has mistakes, or its settings cannot be met on this machine.
        PluginError: a part's plugin cannot be used.
    """
    watch = Stopwatch()
    with open_workspace(build_config(config), folder) as space:
        config, group, store, earlier = space.config, space.group, space.store, space.earlier
        if earlier is not None and earlier.finished:
            return earlier.outcome()
        report = LiveReport(config, store.path)
        with store.logging(), settings_of(config):
            recorder = Recorder(store, config, space.device, argv, earlier=earlier, listed=group.leads)
            watching = [*listeners, report] if group.leads else []
            try:
                ready = assemble(config, space.device, store, group, watch=watch, recorder=recorder, listeners=watching)
                recorder.built(ready)
                warnings = space.warnings if earlier is None else earlier.restore(ready, recorder)
                if group.rank:  # all ranks start from the same weights, but draw different numbers from now on
                    set_random_seed((config.run.seed + group.rank) % SEED_LIMIT, config.run.deterministic)
                outcome = _train(ready, warnings)
            except BaseException as error:
                recorder.finish(Outcome.of_error(error, watch.seconds()))
                if isinstance(error, BuildError):
                    raise config_error(config, error.path, error.message) from error
                raise
            outcome = recorder.finish(outcome)
        if group.leads:
            report.write()
        return outcome


def resume(
    folder: str | PathLike[str],
    config: RunConfig | Config | str | PathLike[str] | None = None,
    *,
    argv: Sequence[str] = (),
    listeners: Iterable[object] = (),
) -> Outcome:
    """Resume a run from its newest intact checkpoint; without one it starts again in the same folder.

    Updates after that checkpoint are trained and logged again, so weights and figures are those of a run that was never
    stopped; on a CPU they are bit-identical.

    Args:
        folder: the run's folder.
        config: its settings; by default those that it was started with. Only the keys of
            :data:`~dovetail.config.freeze.NON_NUMERIC_KEYS` and the length of the run may differ.
        argv: the command line, for the record.
        listeners: further objects with lifecycle hooks, such as the console.

    Returns:
        The outcome; for a run that has nothing left to do, its earlier outcome.

    Raises:
        ConfigError, PluginError: as for :func:`run`; also if a setting may not change.
        ResumeError: another process trains it, no checkpoint is intact, or its data changed.
        RunLookupError: there is no such run.
    """
    folder = Path(folder)
    return run(build_config(config or folder / "resolved.toml"), folder=folder, argv=argv, listeners=listeners)


def _train(run: Run, warnings: Iterable[str]) -> Outcome:
    """Fit, and tell every part how the run ended."""
    try:
        run.hooks.dovetail_run_start(run=run)
        for warning in warnings:
            run.alert("resume", warning)
        outcome: Outcome = run.parts.trainer.fit(run)
    except Exception as error:
        failed = Outcome.of_error(describe_error(error, run.config), run.watch.seconds())
        outcome = evolve(failed, best_epoch=run.state.best_epoch, best_metric=run.state.best_metric)
        _logger.exception("the run failed", exc_info=error)
    except BaseException as error:
        run.hooks.dovetail_run_end.call_all(run=run, outcome=Outcome.of_error(error, run.watch.seconds()))
        raise
    outcome = evolve(outcome, total_time=run.elapsed(), folder=run.store.path if run.group.leads else None)
    with stopping_on_signals(run, "the run is ending"):
        failures = run.hooks.dovetail_run_end.call_all(run=run, outcome=outcome)
    for failure in failures:
        _logger.error("%s", failure, exc_info=failure)
        if outcome.error is None:
            outcome = evolve(outcome, status="failed", reason=str(failure), stopped_by=failure.path, error=failure)
    return outcome
