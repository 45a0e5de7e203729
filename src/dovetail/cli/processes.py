"""The processes of a run: started together, watched, and ended together."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import math
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

import click

from dovetail.cli.failure import BAD_INPUT, FAILED, INTERRUPTED, LOST, OUT_OF_BUDGET
from dovetail.distributed.environment import PORTS
from dovetail.record.files import ECHO, LAUNCH, WATCHED
from dovetail.record.words import plural
from dovetail.train.signals import ORDERS, handled_signals

#: Seconds that the others have to end by themselves once one has.
_GRACE: Final = 30.0
_LOOK: Final = 0.05
_SAID: Final = 20  # lines of a failed process that are shown
_PR_SET_PDEATHSIG: Final = 1


def to_be_watched(processes: int, max_restarts: int) -> bool:
    """Say whether a process that was started alone is to start those that train, and to watch them."""
    return processes > 1 or (max_restarts > 0 and WATCHED not in os.environ)


def supervise(arguments: Sequence[str], processes: int, max_restarts: int = 0) -> int:
    """Run ``dovetail`` with ``arguments`` in processes of their own, and return the exit code of the whole.

    The first has the console; what the others say is shown if they fail. Ctrl-C, SIGTERM and notices that the time is
    nearly up are passed on to all.

    Args:
        arguments: of the command line, the same for all.
        processes: how many.
        max_restarts: how often to start them anew, from the last checkpoint of the run that they began or went on with,
            when they failed; not where they were told to end.
    """
    launch = {LAUNCH: secrets.token_hex(8)} if max_restarts else {}
    for left in range(max_restarts, -1, -1):
        group = _ProcessGroup(arguments, processes, launch)
        with group.passing_signals_on(), group.keeping_errors():
            code = group.wait()
        if code != FAILED or not left or group.told_to_end:
            break
        click.echo(
            f"dovetail: starting anew from the last checkpoint; {plural(left - 1, 'restart')} left after this", err=True
        )
    return code


class _ProcessGroup:
    """Several processes on this machine that find one another by the variables that torchrun sets too."""

    def __init__(self, arguments: Sequence[str], size: int, known: Mapping[str, str]) -> None:
        shared = {
            **known,
            WATCHED: "1",
            "WORLD_SIZE": str(size),
            "LOCAL_WORLD_SIZE": str(size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(_free_port()),
        }
        if size > 1:  # each would take all cores otherwise, and they would wait for one another
            shared["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", str(max(1, _cores() // size)))
        #: Whether a signal was passed on.
        self.told_to_end = False
        #: Those that did not end by themselves when others had.
        self._late: set[int] = set()
        self._errors: list[IO[bytes] | None] = [None]
        self._processes: list[subprocess.Popen[bytes]] = []
        for rank in range(size):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            output: dict[str, Any] = {}
            if rank:
                self._errors.append(tempfile.TemporaryFile())  # noqa: SIM115 (open as long as its process)
                output = {"stdout": subprocess.DEVNULL, "stderr": self._errors[rank]}
            self._processes.append(
                subprocess.Popen(  # noqa: S603 (our own program, with the arguments that this one got)
                    [sys.executable, *_as_this_one(), "-m", "dovetail", *arguments],
                    env={**os.environ, **shared, **own},
                    start_new_session=True,  # so that Ctrl-C comes here, and goes to each of them once
                    preexec_fn=_end_with_parent,  # noqa: PLW1509 (no thread has been started here)
                    **output,
                )
            )

    @contextlib.contextmanager
    def passing_signals_on(self) -> Iterator[None]:
        """Send signals that a run stops on to all processes, and end them all at once when told so a second time."""
        first = math.inf

        def handle(number: int, _frame: object) -> None:
            nonlocal first
            self.told_to_end = True
            if number in ORDERS:
                now = time.monotonic()
                first = min(first, now)
                if now - first > ECHO:
                    self._end_others()
                    return
            for one in self._processes:
                with contextlib.suppress(ProcessLookupError):
                    one.send_signal(number)

        before = {one: signal.signal(one, handle) for one in handled_signals()}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    @contextlib.contextmanager
    def keeping_errors(self) -> Iterator[None]:
        """Keep what the others say on standard error until the end."""
        try:
            yield
        finally:
            for one in self._errors:
                if one is not None:
                    one.close()

    def wait(self) -> int:
        """Wait for all to end, in bounded time once the first has, or any has failed; return the exit code of all."""
        deadline, order = math.inf, list[int]()
        while None in [one.poll() for one in self._processes]:  # all of them: each is to be noticed when it ends
            order = self._ended_since(order)
            # Where others have ended well, the first may still have to write the report, or to wait for copies.
            if deadline == math.inf and any(not rank or self._processes[rank].returncode for rank in order):
                deadline = time.monotonic() + _GRACE
            if time.monotonic() >= deadline:
                self._end_others()
            time.sleep(_LOOK)
        return self._told(self._ended_since(order))

    def _ended_since(self, order: list[int]) -> list[int]:
        """Return the processes that have ended, the first to end first."""
        ended = [rank for rank, one in enumerate(self._processes) if one.returncode is not None]
        return [*order, *(rank for rank in ended if rank not in order)]

    def _end_others(self) -> None:
        for rank, one in enumerate(self._processes):
            if one.returncode is None:
                self._late.add(rank)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(one.pid, signal.SIGKILL)  # with its loader workers

    def _told(self, order: Sequence[int]) -> int:
        """Say which process is the cause where all did not end well, and return the exit code of all.

        The cause is one that somebody killed, or else failed by itself, or else hung; the others have lost it.
        """
        codes = [one.returncode for one in self._processes]
        failed = [rank for rank in order if codes[rank]]
        if not failed:
            return 0
        culprit = min(failed, key=lambda rank: (codes[rank] == LOST, rank in self._late, codes[rank] > 0, rank > 0))
        code: int = codes[culprit]
        if culprit in self._late and self.told_to_end:
            click.echo("dovetail: ended at once; the last checkpoint stays good", err=True)
        elif culprit in self._late:
            self._say(culprit, f"did not end within {_GRACE:.0f} s of the others, and was killed")
        elif code < 0:
            self._say(culprit, f"was killed by {signal.Signals(-code).name}")
        elif code == LOST:
            self._say(culprit, "lost another one, and none says why it ended")
        elif culprit and code != INTERRUPTED:
            self._say(culprit, f"failed with exit code {code}")
        if code < 0 and self.told_to_end:
            return INTERRUPTED
        return code if code in {BAD_INPUT, OUT_OF_BUDGET, INTERRUPTED} else FAILED

    def _say(self, rank: int, what: str) -> None:
        click.echo(f"dovetail: process {rank} of {len(self._processes)} {what}", err=True)
        said = self._errors[rank]
        if said is not None:
            said.seek(0)
            for line in said.read().decode(errors="replace").splitlines()[-_SAID:]:
                click.echo(f"  {rank}: {line}", err=True)


def _as_this_one() -> list[str]:
    """Return what keeps a ``random.py`` in the current folder from being imported, unless it is here as well."""
    return [] if {"", str(Path.cwd())} & set(sys.path) else ["-P"]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _free_port() -> int:
    """Return a port that nobody has, nor is given by chance before the first process takes it, seconds later."""
    while True:
        port = secrets.choice(PORTS)
        with socket.socket() as one:
            try:
                one.bind(("", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return port


def _end_with_parent() -> None:
    """Let Linux end this process when the one that started it is gone, whatever the reason."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
