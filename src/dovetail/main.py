"""The main path, readable top to bottom: config → folder → parts → training → outcome."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import evolve

from dovetail.config.freeze import freeze, parts_of
from dovetail.kernel.build import BuildError
from dovetail.record.layout import external_folder
from dovetail.record.recorder import Recorder
from dovetail.record.run_directory import RunDirectory, RunDirectoryError
from dovetail.spec.process import LAUNCH_ID
from dovetail.train.assembly import assemble, choose_device, refusal
from dovetail.train.clock import Stopwatch
from dovetail.train.device import torch_settings
from dovetail.train.errors import MisfitError, explained
from dovetail.train.group import joined
from dovetail.train.interrupt import stopping_on_signals
from dovetail.train.seeds import SEED_LIMIT, set_random_seed
from dovetail.train.state import Outcome

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import torch

    from dovetail.config.schema import RunConfig
    from dovetail.train.context import Run
    from dovetail.train.group import Group
    from dovetail.train.rehearsal import Rehearsal
    from dovetail.train.resuming import Earlier
    from dovetail.train.state import Status

_logger: Final = logging.getLogger("dovetail.run")


def run(config: RunConfig, *, argv: Sequence[str] | None = None, listeners: Iterable[object] = ()) -> Outcome:
    """Train, validate, test and record what ``config`` describes.

    Args:
        config: the resolved config.
        argv: the command line that asked for the run, for its record.
        listeners: further objects with lifecycle hooks, such as the console.

    Returns:
        How it ended. A run that fails while training has the status ``"failed"`` and its error, which
        ``outcome.check()`` raises: a ``ConfigError`` where the parts and the first batch do not fit each other.

    Raises:
        ConfigError: a setting cannot be met here: the device is not there, the output folder cannot be written, a part
            cannot be built from its options.
        PluginError: a part's plugin cannot be used.
    """
    device = choose_device(config)
    with _joined(config, device) as group:
        warnings: list[str] = []
        if config.checkpoint.resume != "never" or os.environ.get(LAUNCH_ID):
            from dovetail.record.resumable import find_resumable

            found = group.share(find_resumable(config) if group.leads else None)
            if found.run is not None:
                return _go_on(found.run.folder, config, device, group, argv=argv, listeners=listeners)
            warnings += [found.warning] if found.warning else []
        with _open(config) if group.leads else _elsewhere() as store:
            return _carry_out(config, device, store, group, argv=argv, listeners=listeners, warnings=warnings)


def resume(
    folder: Path, config: RunConfig, *, argv: Sequence[str] | None = None, listeners: Iterable[object] = ()
) -> Outcome:
    """Go on with a run from its newest checkpoint that is whole; without one it begins again, in the same folder.

    What a checkpoint was not saved of is trained and logged again, so that weights and figures are those of a run that
    was never stopped, to the last bit on a CPU.

    Args:
        folder: the run's folder.
        config: its settings. Only those of :data:`~dovetail.config.freeze.NON_NUMERIC_KEYS`, and how long it is to be,
            may differ from what they were.
        argv: the command line that asked for it, for the record.
        listeners: further objects with lifecycle hooks, such as the console.

    Returns:
        How it ended; of a run that has nothing left to do, how it ended before.

    Raises:
        ConfigError, PluginError: as :func:`run`; and a setting may not change.
        ResumeError: it cannot go on: another process is at it, none of its checkpoints is whole, or its data changed.
        RunLookupError: there is no such run.
    """
    device = choose_device(config)
    with _joined(config, device) as group:
        return _go_on(folder, config, device, group, argv=argv, listeners=listeners)


def _go_on(
    folder: Path,
    config: RunConfig,
    device: torch.device,
    group: Group,
    *,
    argv: Sequence[str] | None,
    listeners: Iterable[object],
) -> Outcome:
    from dovetail.train.resuming import Earlier

    with _take(folder, config) if group.leads else _elsewhere() as store:
        # Read when nobody else can write it any more.
        earlier: Earlier = group.share(Earlier.read(folder, config) if group.leads else None)
        if earlier.finished:
            return earlier.outcome()
        output = folder.absolute().parents[1]
        if config.paths.output.absolute() != output:
            config = evolve(config, paths=evolve(config.paths, output=output))
        return _carry_out(config, device, store, group, argv=argv, listeners=listeners, earlier=earlier)


def _joined(config: RunConfig, device: torch.device) -> AbstractContextManager[Group]:
    return joined(device, sharded=config.hardware.strategy == "fsdp")


def _carry_out(
    config: RunConfig,
    device: torch.device,
    store: RunDirectory,
    group: Group,
    *,
    argv: Sequence[str] | None,
    listeners: Iterable[object],
    earlier: Earlier | None = None,
    warnings: Sequence[str] = (),
) -> Outcome:
    watch = Stopwatch()
    with store.logging(), _settings(config):
        if earlier is None:
            store.freeze(freeze(config))
        recorder = Recorder(
            store,
            config,
            device=str(device),
            plugins=_distributions(config),
            command=list(argv or ()),
            earlier=earlier.record.data if earlier else None,
            listed=group.leads,
        )
        try:
            named: list[tuple[str, object]] = [("record", recorder)]
            if group.leads:
                named += [(type(one).__name__.lower(), one) for one in listeners]
                named.append(("report", LiveReport(config, store.path)))
            ready = assemble(config, device, store, named, group, watch=watch)
            recorder.built(ready, parameters=_trainable(ready))
            if earlier is not None:
                warnings = earlier.take_up(ready, recorder)
            if group.rank:  # the weights are the same in all; what is drawn from now on is not
                set_random_seed((config.run.seed + group.rank) % SEED_LIMIT, config.run.deterministic)
            outcome = _train(ready, warnings)
        except BaseException as error:
            _recorded(_failed(error, watch), recorder)
            if isinstance(error, BuildError):
                raise refusal(config, error.path, error.message) from error
            raise
        outcome = _recorded(outcome, recorder)
    if group.leads:
        _report(config, store.path)
    return outcome


def _train(run: Run, warnings: Iterable[str]) -> Outcome:
    """Fit, and let every part know how it ended."""
    try:
        run.hooks.dovetail_run_start(run=run)
        for warning in warnings:
            run.alert("resume", warning)
        outcome: Outcome = run.parts.trainer.fit(run)
    except Exception as error:
        told = _told(error, run.config)
        outcome = evolve(_failed(told, run.watch), best_epoch=run.state.best_epoch, best_metric=run.state.best_metric)
        _logger.exception("the run failed", exc_info=error)
    except BaseException as error:
        run.hooks.dovetail_run_end.call_all(run=run, outcome=_failed(error, run.watch))
        raise
    outcome = evolve(outcome, total_time=run.elapsed(), folder=run.store.path if run.group.leads else None)
    with stopping_on_signals(run, "the run is ending"):
        failures = run.hooks.dovetail_run_end.call_all(run=run, outcome=outcome)
    for failure in failures:
        _logger.error("%s", failure, exc_info=failure)
        if outcome.error is None:
            outcome = evolve(outcome, status="failed", reason=str(failure), stopped_by=failure.path, error=failure)
    return outcome


def _recorded(outcome: Outcome, recorder: Recorder) -> Outcome:
    """Record how a run ended. What cannot be recorded has failed, though not for that where it failed before."""
    try:
        recorder.finish(outcome)
    except OSError as error:
        _logger.exception("the end of the run was not recorded", exc_info=error)
        if outcome.error is None:
            return evolve(outcome, status="failed", reason=str(error), error=error)
    return outcome


def _told(error: Exception, config: RunConfig) -> Exception:
    """Return what the user is told: bad input at its place, or what helps."""
    if isinstance(error, MisfitError):
        return refusal(config, error.path, error.message)
    return explained(error, config)


def _failed(error: BaseException, watch: Stopwatch) -> Outcome:
    reason = " ".join(str(error).split()) or type(error).__name__
    status: Status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
    return Outcome(status, reason, getattr(error, "path", None), total_time=watch.seconds(), error=error)


def _open(config: RunConfig) -> RunDirectory:
    paths = config.paths
    try:
        return RunDirectory.create(paths.output, config.run.name, models=paths.models, logs=paths.logs)
    except RunDirectoryError as error:
        raise refusal(config, "paths.output", str(error)) from error


@contextlib.contextmanager
def _elsewhere() -> Iterator[RunDirectory]:
    """Give a process other than the leader a folder for what nobody needs."""
    with tempfile.TemporaryDirectory() as folder, RunDirectory(Path(folder)) as store:
        yield store


def _take(folder: Path, config: RunConfig) -> RunDirectory:
    """Take the folder of a run that is resumed into use."""
    from dovetail.record.resumable import ResumeError

    roots = config.paths.models, config.paths.logs
    elsewhere = [external_folder(one, config.run.name, folder.absolute().name) for one in roots]
    try:
        return RunDirectory(folder, checkpoints=elsewhere[0], logs=elsewhere[1])
    except RunDirectoryError as error:
        raise ResumeError(str(error)) from error


def _settings(config: RunConfig) -> AbstractContextManager[None]:
    """Set what holds for the whole process while the run goes on, and seed it."""
    settings = torch_settings(threads=config.hardware.threads, tf32=config.training.precision == "tf32")
    set_random_seed(config.run.seed, config.run.deterministic)
    return settings


def _distributions(config: RunConfig) -> dict[str, str]:
    """Return the version of each distribution that a part of the run comes from."""
    return {
        part.registered.distribution: part.registered.version
        for part in parts_of(config)
        if part.registered is not None
    }


def _trainable(run: Run) -> int:
    return sum(one.numel() for group in run.parts.optimizer.param_groups for one in group["params"])


# --- the report ------------------------------------------------------------------------------------------------------


class LiveReport:
    """Renews ``report.html`` while the run goes on, unless that would take more than a twentieth of its time."""

    def __init__(self, config: RunConfig, folder: Path) -> None:
        """Follow ``report.every``."""
        self._config, self._folder = config, folder
        self._next = 0.0

    def dovetail_epoch_end(self, epoch: int) -> None:
        """Write the report, if it is time."""
        if epoch % self._config.report.every == 0 and time.monotonic() >= self._next:
            began = time.monotonic()
            _report(self._config, self._folder)
            self._next = time.monotonic() + 20 * (time.monotonic() - began)


def _report(config: RunConfig, folder: Path) -> None:
    """Write the report. Its failure is said and does not spoil the run."""
    if not config.report.enabled:
        return
    try:
        from dovetail.record.report.page import write_report

        write_report(folder, plots=config.report.plots)
    except Exception as error:
        _logger.warning("the report could not be written: %s: %s", type(error).__name__, error, exc_info=error)


# --- the dry run -----------------------------------------------------------------------------------------------------


def prepare(config: RunConfig) -> Rehearsal:
    """Build everything that ``config`` describes and try one batch; nothing is written but to a temporary folder.

    Raises:
        ConfigError, PluginError: as :func:`run`; also where the parts and the batch do not fit each other, or a metric
            that is monitored is not there.
        PartError: a part that computes raised when it was told that the run starts.
        TrainingError: the batch cannot be trained on.
    """
    from dovetail.train.rehearsal import rehearse

    device = choose_device(config)
    with (
        _joined(config, device) as group,
        tempfile.TemporaryDirectory() as folder,
        RunDirectory(Path(folder)) as store,
        _settings(config),
    ):
        try:
            ready = assemble(config, device, store, group=group)
            return rehearse(ready, parameters=_trainable(ready))
        except BuildError as error:
            raise refusal(config, error.path, error.message) from error
        except Exception as error:
            told = _told(error, config)
            if told is error:
                raise
            raise told from error
