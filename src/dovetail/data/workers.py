"""What goes wrong in loader workers: their errors come as they are, their deaths where somebody waits for them."""

from __future__ import annotations

import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, final

from attrs import frozen

from dovetail.data.errors import LoaderWorkerError
from dovetail.data.signals import leave_signals_to_parent

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from dovetail.data.batch import Batch
    from dovetail.data.loader import Fetcher
    from dovetail.data.sampler import Address

#: Seconds that a worker has to be seen ended once what it sends is broken off.
_PATIENCE: Final = 5.0


# --- in the worker ----------------------------------------------------------------------------------------------------


@frozen
class _Failed:
    """Carries an error out of a worker as it is; torch would make its traceback the message."""

    error: Exception


@final
@frozen
class InWorker:
    """What a ``DataLoader`` believes to be its dataset: an address goes in, a batch comes out."""

    fetch: Fetcher

    def __getitems__(self, address: Address) -> Batch | _Failed:
        try:
            return self.fetch(address)
        except Exception as error:  # noqa: BLE001 (raised where the batch is waited for)
            return _Failed(_portable(error))

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError  # torch's type asks for it; batches come through __getitems__


def _portable(error: Exception) -> Exception:
    """Return an error that another process can read, with the traceback for whoever looks into the log."""
    error.add_note("In the loader worker:\n" + "".join(traceback.format_exception(error)).rstrip())
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 (made in the line itself)
    except Exception:  # noqa: BLE001 (whatever somebody's class of errors does)
        told = RuntimeError(f"{type(error).__name__}: {error}")
        told.__notes__ = error.__notes__
        return told
    return error


def begin_worker(worker: int) -> None:
    """Prepare a worker process: the run acts on signals, and what cannot be sent is told."""
    # Only here, as a run without workers has no use for it.
    from multiprocessing.queues import Queue

    leave_signals_to_parent(worker)
    # Python's own prints a traceback and drops the batch, for which the parent would wait for ever.
    Queue._on_queue_feeder_error = _send_error  # type: ignore[attr-defined]  # noqa: SLF001


def _send_error(queue: Any, error: Exception, sent: Any) -> None:
    told = TypeError(f"a loader worker cannot hand its batch on, since not all that is in it can be pickled: {error}")
    queue.put((sent[0], _Failed(told)))


# --- in the process that trains ---------------------------------------------------------------------------------------


def received(workers: DataLoader[Any]) -> Iterator[Batch]:
    """Ask workers for the batches of an epoch, and return what gives them.

    Raises:
        LoaderWorkerError: one died; also while iterating.
        Exception: while iterating: what a worker raised.
    """
    before = signal.getsignal(signal.SIGCHLD)
    batches = _waited_for(workers, lambda: iter(workers))
    _take_handler_away(before)
    return _received(workers, batches)


def _take_handler_away(before: Any) -> None:
    """Undo that torch handles SIGCHLD: it raises wherever the process is when a worker dies.

    That may be amid a save, a line of the log or a part's hook. While it waits for a batch, torch looks for deaths too,
    every five seconds.
    """
    if _is_of_torch(signal.getsignal(signal.SIGCHLD)) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL if before is None or _is_of_torch(before) else before)


def _is_of_torch(handler: Any) -> bool:
    return getattr(handler, "__module__", "") == "torch.utils.data._utils.signal_handling"


def _received(workers: DataLoader[Any], batches: Iterator[Batch | _Failed]) -> Iterator[Batch]:
    while (batch := _waited_for(workers, lambda: next(batches, None))) is not None:
        if isinstance(batch, _Failed):
            raise batch.error
        yield batch


def _waited_for(workers: DataLoader[Any], get: Callable[[], Any]) -> Any:
    try:
        return get()
    except Exception as error:
        told = _death(getattr(workers._iterator, "_workers", ()))  # noqa: SLF001 (torch tells it in no other way)
        if told is None:
            raise
        raise told from error


def _death(workers: Iterable[Any]) -> LoaderWorkerError | None:
    """Say how a worker died, if one did: what it was about to send may break off before it is seen to have ended."""
    until = time.monotonic() + _PATIENCE
    while not (codes := [code for one in workers if (code := one.exitcode) is not None]):
        if time.monotonic() >= until:
            return None
        time.sleep(0.01)
    code = min(codes)  # one that a signal killed before one that ended
    if code >= 0:
        return LoaderWorkerError(
            f"a loader worker ended with exit code {code}, and did not say why; with loader.num_workers = 0 what ended "
            "it shows itself"
        )
    return LoaderWorkerError(
        f"a loader worker was killed by {signal.Signals(-code).name}. Mostly memory ran out: fewer workers "
        "(loader.num_workers) or a smaller loader.batch_size need less"
    )
