"""What goes wrong in loader workers: their errors come as they are, their deaths where somebody waits for them."""

from __future__ import annotations

import multiprocessing.queues
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, final

from attrs import define, frozen

from dovetail.data.errors import LoaderWorkerError
from dovetail.data.signals import leave_signals_to_parent

if TYPE_CHECKING:
    from types import FrameType

    from torch.utils.data import DataLoader

    from dovetail.data.batch import Batch
    from dovetail.data.loader import Fetcher
    from dovetail.data.sampler import Address

#: Seconds that a worker has to be seen ended once what it sends is broken off.
_PATIENCE: Final = 1.0
_ADVICE: Final = "Mostly memory ran out: fewer workers (loader.num_workers) or a smaller loader.batch_size need less"


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
    leave_signals_to_parent(worker)
    # Python's own prints a traceback and drops the batch, for which the parent would wait for ever.
    multiprocessing.queues.Queue._on_queue_feeder_error = _send_error  # type: ignore[attr-defined]  # noqa: SLF001


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
    batches = _waited_for(workers, lambda: iter(workers))
    _deaths.take_over()
    return _received(workers, batches)


def _received(workers: DataLoader[Any], batches: Iterator[Batch | _Failed]) -> Iterator[Batch]:
    while (batch := _waited_for(workers, lambda: next(batches, None))) is not None:
        if isinstance(batch, _Failed):
            raise batch.error
        yield batch


def _waited_for(workers: DataLoader[Any], get: Callable[[], Any]) -> Any:
    try:
        return _deaths.raised_in(get)
    except Exception as error:
        told = _death(getattr(workers._iterator, "_workers", ()))  # noqa: SLF001 (torch tells it in no other way)
        if told is None and "DataLoader worker" in str(error):  # it may be another loader's
            told = LoaderWorkerError(f"a loader worker died: {str(error).strip().rstrip('.')}. {_ADVICE}")
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
    return LoaderWorkerError(f"a loader worker was killed by {signal.Signals(-code).name}. {_ADVICE}")


@define
class _Deaths:
    """Lets torch's handler of SIGCHLD raise only where a worker is waited for.

    It raises wherever the process happens to be when a worker dies: amid a save, a line of the log, a part's hook.
    """

    _waiting: bool = False
    _seen: bool = False
    _torch: Callable[[int, FrameType | None], Any] | None = None

    def take_over(self) -> None:
        """Stand before torch's handler, which torch sets once, for the first workers of all."""
        handler: Any = signal.getsignal(signal.SIGCHLD)
        ours = getattr(handler, "__module__", "") == "torch.utils.data._utils.signal_handling"
        if ours and threading.current_thread() is threading.main_thread():
            self._torch = handler
            signal.signal(signal.SIGCHLD, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._seen = True
        if self._waiting:
            self._look(number, frame)

    def _look(self, number: int = signal.SIGCHLD, frame: FrameType | None = None) -> None:
        self._seen = False
        if self._torch is not None:
            self._torch(number, frame)

    def raised_in(self, get: Callable[[], Any]) -> Any:
        """Call ``get``, with the handler at work; a death since the last time is looked at first."""
        self._waiting = True
        try:
            if self._seen:
                self._look()
            return get()
        finally:
            self._waiting = False


_deaths: Final = _Deaths()
