"""Where a run happens: its device, its processes, its folder, and the earlier run that it resumes."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from attrs import evolve, frozen

from dovetail.distributed.group import Group, joined
from dovetail.record.layout import external_folder
from dovetail.record.run_directory import RunDirectory, RunDirectoryError
from dovetail.spec.process import LAUNCH_ID
from dovetail.train.assembly import choose_device
from dovetail.train.errors import config_error

if TYPE_CHECKING:
    from dovetail.config.schema import RunConfig
    from dovetail.train.checkpoints.resume import Earlier


@frozen
class Workspace:
    """Where a run happens."""

    config: RunConfig
    device: torch.device
    group: Group
    #: The run's folder; for ranks above 0 a temporary one.
    store: RunDirectory
    #: The run to resume; None for a new one.
    earlier: Earlier | None = None
    #: What the user should know before training starts.
    warnings: tuple[str, ...] = ()


@contextlib.contextmanager
def open_workspace(config: RunConfig, folder: Path | None) -> Iterator[Workspace]:
    """Connect the processes of a run, and open its folder.

    Args:
        config: the resolved config.
        folder: the folder of a run to resume; None starts a new run, or resumes one as ``checkpoint.resume`` says.

    Raises:
        ConfigError: the device is not available, the folder cannot be written, or a setting may not change on resume.
        ResumeError: another process uses the folder.
        RunLookupError: the folder holds no run.
    """
    device = choose_device(config)
    with joined(device, sharded=config.hardware.strategy == "fsdp") as group:
        warnings: tuple[str, ...] = ()
        if folder is None and (config.checkpoint.resume != "never" or os.environ.get(LAUNCH_ID)):
            from dovetail.record.resumable import find_resumable

            found = group.broadcast(find_resumable(config) if group.leads else None)
            folder = None if found.run is None else found.run.folder
            warnings = (found.warning,) if found.warning else ()
        with _open_folder(config, folder, group) as store:
            earlier = None
            if folder is not None:
                from dovetail.train.checkpoints.resume import Earlier

                # Read under the lock, so that no other process changes it.
                earlier = group.broadcast(Earlier.read(folder, config) if group.leads else None)
                output = folder.absolute().parents[1]
                if config.paths.output.absolute() != output:
                    config = evolve(config, paths=evolve(config.paths, output=output))
            yield Workspace(config, device, group, store, earlier, warnings)


@contextlib.contextmanager
def temporary_workspace(config: RunConfig) -> Iterator[Workspace]:
    """Connect the processes of a dry run, in a temporary folder.

    Raises:
        ConfigError: the device is not available.
    """
    device = choose_device(config)
    with joined(device, sharded=config.hardware.strategy == "fsdp") as group, _temporary_folder() as store:
        yield Workspace(config, device, group, store)


def _open_folder(config: RunConfig, folder: Path | None, group: Group) -> AbstractContextManager[RunDirectory]:
    if not group.leads:
        return _temporary_folder()
    paths, name = config.paths, config.run.name
    if folder is None:
        try:
            return RunDirectory.create(paths.output, name, models=paths.models, logs=paths.logs)
        except RunDirectoryError as error:
            raise config_error(config, "paths.output", str(error)) from error
    from dovetail.record.resumable import ResumeError

    checkpoints, logs = (external_folder(root, name, folder.absolute().name) for root in (paths.models, paths.logs))
    try:
        return RunDirectory(folder, checkpoints=checkpoints, logs=logs)
    except RunDirectoryError as error:
        raise ResumeError(str(error)) from error


@contextlib.contextmanager
def _temporary_folder() -> Iterator[RunDirectory]:
    with tempfile.TemporaryDirectory() as folder, RunDirectory(Path(folder)) as store:
        yield store
