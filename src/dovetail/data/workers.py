"""Loader workers: their signals, their errors, and their deaths."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, final

from attrs import frozen

from dovetail.data.errors import LoaderWorkerError

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from dovetail.data.batch import Batch
    from dovetail.data.fetcher import Fetcher
    from dovetail.data.sampler import Address

#: Seconds to wait for the exit code of a worker after its connection broke.
_EXIT_TIMEOUT: Final = 5.0
#: Signals that a terminal, Slurm or systemd sends to every process of a run.
_RUN_SIGNALS: Final = (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
#: Seconds between two checks that the parent process is alive.
_PARENT_CHECK_INTERVAL: Final = 1.0


# --- in the worker ----------------------------------------------------------------------------------------------------


@frozen
class _Failure:
    """Carries an error out of a worker unchanged; torch would turn its traceback into the message."""

    error: Exception


@final
@frozen
class WorkerDataset:
    """The dataset that ``DataLoader`` sees: its indices are addresses, its items whole batches."""

    fetch: Fetcher

    def __getitems__(self, address: Address) -> Batch | _Failure:
        try:
            return self.fetch(address)
        except Exception as error:  # noqa: BLE001 (raised in the parent, at this batch)
            return _Failure(_portable(error))

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError  # torch's type requires it; batches come from __getitems__


def _portable(error: Exception) -> Exception:
    """Return an error that can be pickled, with the worker's traceback as a note."""
    error.add_note("In the loader worker:\n" + "".join(traceback.format_exception(error)).rstrip())
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 (pickled on the same line)
    except Exception:  # noqa: BLE001 (a user's error class may raise anything)
        replacement = RuntimeError(f"{type(error).__name__}: {error}")
        replacement.__notes__ = error.__notes__
        return replacement
    return error


def init_worker(worker: int) -> None:
    """Prepare a worker process: leave signals to the parent, and report a batch that cannot be pickled."""
    # Imported here, because a run without workers does not need it.
    from multiprocessing.queues import Queue

    _leave_signals_to_parent(worker)
    # Python's own handler prints a traceback and drops the batch, and the parent would wait for the batch forever.
    Queue._on_queue_feeder_error = _send_error  # type: ignore[attr-defined]  # noqa: SLF001


def _send_error(queue: Any, error: Exception, sent: Any) -> None:
    failure = TypeError(f"a loader worker cannot send its batch, because a part of it cannot be pickled: {error}")
    queue.put((sent[0], _Failure(failure)))


def _leave_signals_to_parent(_worker: int) -> None:
    """Ignore the signals of the run, and SIGTERM unless the parent sends it; exit when the parent is gone.

    A terminal, Slurm and systemd signal every process of a run. If a worker died of that, the parent would raise an
    error in the middle of an update that it means to finish before it saves a checkpoint. Python sends SIGTERM to the
    remaining workers when the parent exits, and workers obey. If the parent is killed, torch ends a worker only when
    the worker asks for its next batch; one that hangs in a sample would stay.
    """
    for number in _RUN_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    # Blocked, and received by a thread, because a Python handler does not know the sender.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    parent = os.getppid()
    threading.Thread(target=_exit_with, args=(parent,), name="dovetail-sigterm", daemon=True).start()


def _exit_with(parent: int) -> None:
    while os.getppid() == parent:
        received = signal.sigtimedwait([signal.SIGTERM], _PARENT_CHECK_INTERVAL)
        if received is not None and received.si_pid == parent:
            break
    # Exit code 0: torch would report a worker that was killed.
    os._exit(0)


# --- in the process that trains ---------------------------------------------------------------------------------------


def worker_batches(workers: DataLoader[Any]) -> Iterator[Batch]:
    """Request the batches of an epoch from the workers, and return an iterator over them.

    Raises:
        LoaderWorkerError: a worker died; also while iterating.
        Exception: while iterating: the error that a worker raised.
    """
    before = signal.getsignal(signal.SIGCHLD)
    batches = _wait_for(workers, lambda: iter(workers))
    _remove_torch_handler(before)
    return _unwrap(workers, batches)


def _remove_torch_handler(before: Any) -> None:
    """Undo torch's handler of SIGCHLD, which raises wherever the process is when a worker dies.

    That may be in the middle of a save, of a line of the log or of a hook. torch also checks for deaths every five
    seconds while it waits for a batch, which suffices.
    """
    if _is_torch_handler(signal.getsignal(signal.SIGCHLD)) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL if before is None or _is_torch_handler(before) else before)


def _is_torch_handler(handler: Any) -> bool:
    return getattr(handler, "__module__", "") == "torch.utils.data._utils.signal_handling"


def _unwrap(workers: DataLoader[Any], batches: Iterator[Batch | _Failure]) -> Iterator[Batch]:
    while (batch := _wait_for(workers, lambda: next(batches, None))) is not None:
        if isinstance(batch, _Failure):
            raise batch.error
        yield batch


def _wait_for(workers: DataLoader[Any], get: Callable[[], Any]) -> Any:
    try:
        return get()
    except Exception as error:
        death = _describe_death(getattr(workers._iterator, "_workers", ()))  # noqa: SLF001 (torch has no public way)
        if death is None:
            raise
        raise death from error


def _describe_death(workers: Iterable[Any]) -> LoaderWorkerError | None:
    """Return the error for a worker that died, if any; its exit code may arrive after its connection breaks."""
    until = time.monotonic() + _EXIT_TIMEOUT
    while not (codes := [code for worker in workers if (code := worker.exitcode) is not None]):
        if time.monotonic() >= until:
            return None
        time.sleep(0.01)
    code = min(codes)  # a worker killed by a signal before one that exited
    if code >= 0:
        return LoaderWorkerError(
            f"a loader worker exited with code {code} without an error; set loader.num_workers = 0 to see the cause"
        )
    return LoaderWorkerError(
        f"a loader worker was killed by {signal.Signals(-code).name}. The usual cause is a lack of memory: try fewer "
        "workers (loader.num_workers) or a smaller loader.batch_size"
    )
