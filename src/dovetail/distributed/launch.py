"""Start the processes of a run on this machine, supervise them, and end them together."""

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

from dovetail.distributed.environment import PORTS
from dovetail.record.formatting import plural
from dovetail.spec.process import (
    BAD_INPUT,
    DUPLICATE_SIGNAL_SECONDS,
    FAILED,
    INTERRUPTED,
    LAUNCH_ID,
    LOST_CONTACT,
    OUT_OF_BUDGET,
    STOP_SIGNALS,
    SUPERVISED,
    handled_signals,
)

#: Seconds that the other processes have to exit once one has.
_GRACE: Final = 30.0
_POLL_SECONDS: Final = 0.05
_SHOWN_LINES: Final = 20  # the last lines of a failed process's output that are shown
_PR_SET_PDEATHSIG: Final = 1


def needs_supervisor(processes: int, max_restarts: int) -> bool:
    """Return whether this process, which was started alone, must start others to train, and supervise them."""
    return processes > 1 or (max_restarts > 0 and SUPERVISED not in os.environ)


def supervise(arguments: Sequence[str], processes: int, max_restarts: int = 0) -> int:
    """Run ``dovetail`` with ``arguments`` in several processes and return one exit code for all.

    Rank 0 writes to this console. The output of another rank is shown only if it fails. Ctrl-C, SIGTERM and signals
    that time is nearly up are forwarded to all processes.

    Args:
        arguments: the command line, the same for all processes.
        processes: the number of processes.
        max_restarts: how often to restart all processes if one fails. They resume the run this command started or
            resumed; if it had not started one yet, they start again. After a stop signal, nothing is restarted.
    """
    launch = {LAUNCH_ID: secrets.token_hex(8)} if max_restarts else {}
    for left in range(max_restarts, -1, -1):
        group = _ProcessGroup(arguments, processes, launch)
        with group.forwarding_signals(), group.keeping_errors():
            code = group.wait()
        if code != FAILED or not left or group.stopping:
            break
        remaining = plural(left - 1, "restart")
        click.echo(f"dovetail: restarting from the last checkpoint; {remaining} left after this one", err=True)
    return code


class _ProcessGroup:
    """Several processes on this machine, which find one another by the environment variables that torchrun sets too."""

    def __init__(self, arguments: Sequence[str], size: int, launch: Mapping[str, str]) -> None:
        common = {
            **launch,
            SUPERVISED: "1",
            "WORLD_SIZE": str(size),
            "LOCAL_WORLD_SIZE": str(size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(_free_port()),
        }
        if size > 1:  # by default, each process would use all cores and slow down the others
            common["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", str(max(1, _cores() // size)))
        #: Whether a stop signal was forwarded.
        self.stopping = False
        #: The ranks that did not exit by themselves after others had.
        self._hung: set[int] = set()
        self._errors: list[IO[bytes] | None] = [None]
        self._processes: list[subprocess.Popen[bytes]] = []
        for rank in range(size):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            output: dict[str, Any] = {}
            if rank:
                self._errors.append(tempfile.TemporaryFile())  # noqa: SIM115 (open as long as its process)
                output = {"stdout": subprocess.DEVNULL, "stderr": self._errors[rank]}
            self._processes.append(
                subprocess.Popen(  # noqa: S603 (our own program, with the arguments of this process)
                    [sys.executable, *_interpreter_options(), "-m", "dovetail", *arguments],
                    env={**os.environ, **common, **own},
                    start_new_session=True,  # so that Ctrl-C reaches only this process, which forwards it once
                    preexec_fn=_end_with_parent,  # noqa: PLW1509 (this process has no other threads yet)
                    **output,
                )
            )

    @contextlib.contextmanager
    def forwarding_signals(self) -> Iterator[None]:
        """Forward signals that stop a run to all processes; on a second stop signal, kill them all."""
        first = math.inf

        def handle(number: int, _frame: object) -> None:
            nonlocal first
            self.stopping = True
            if number in STOP_SIGNALS:
                now = time.monotonic()
                first = min(first, now)
                if now - first > DUPLICATE_SIGNAL_SECONDS:
                    self._kill_remaining()
                    return
            for process in self._processes:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(number)

        before = {number: signal.signal(number, handle) for number in handled_signals()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def keeping_errors(self) -> Iterator[None]:
        """Keep the standard error of ranks other than 0 until the end."""
        try:
            yield
        finally:
            for file in self._errors:
                if file is not None:
                    file.close()

    def wait(self) -> int:
        """Wait for all processes to exit and return one exit code; kill those that exit too long after a failed one."""
        deadline, order = math.inf, list[int]()
        while None in [process.poll() for process in self._processes]:  # poll all, so that each exit is noticed
            order = self._exited(order)
            # If other ranks have exited well, rank 0 may still write the report or wait for copies.
            if deadline == math.inf and any(not rank or self._processes[rank].returncode for rank in order):
                deadline = time.monotonic() + _GRACE
            if time.monotonic() >= deadline:
                self._kill_remaining()
            time.sleep(_POLL_SECONDS)
        return self._report(self._exited(order))

    def _exited(self, order: list[int]) -> list[int]:
        """Return the ranks that have exited, in the order in which they did."""
        exited = [rank for rank, process in enumerate(self._processes) if process.returncode is not None]
        return [*order, *(rank for rank in exited if rank not in order)]

    def _kill_remaining(self) -> None:
        for rank, process in enumerate(self._processes):
            if process.returncode is None:
                self._hung.add(rank)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # its loader workers too

    def _report(self, order: Sequence[int]) -> int:
        """Print which process caused a failure, if any, and return one exit code for all.

        The cause is a process that was killed, else one that failed by itself, else one that hung. The others only lost
        contact with it.
        """
        codes = [process.returncode for process in self._processes]
        failed = [rank for rank in order if codes[rank]]
        if not failed:
            return 0
        cause = min(
            failed, key=lambda rank: (codes[rank] == LOST_CONTACT, rank in self._hung, codes[rank] > 0, rank > 0)
        )
        code: int = codes[cause]
        if cause in self._hung and self.stopping:
            click.echo("dovetail: killed; the last checkpoint is intact", err=True)
        elif cause in self._hung:
            self._print_cause(cause, f"did not exit within {_GRACE:.0f} s after the others, and was killed")
        elif code < 0:
            self._print_cause(cause, f"was killed by {signal.Signals(-code).name}")
        elif code == LOST_CONTACT:
            self._print_cause(cause, "lost contact with another process; no process reported an error")
        elif cause and code != INTERRUPTED:
            self._print_cause(cause, f"failed with exit code {code}")
        if code < 0 and self.stopping:
            return INTERRUPTED
        return code if code in {BAD_INPUT, OUT_OF_BUDGET, INTERRUPTED} else FAILED

    def _print_cause(self, rank: int, message: str) -> None:
        click.echo(f"dovetail: process {rank} of {len(self._processes)} {message}", err=True)
        output = self._errors[rank]
        if output is not None:
            output.seek(0)
            for line in output.read().decode(errors="replace").splitlines()[-_SHOWN_LINES:]:
                click.echo(f"  {rank}: {line}", err=True)


def _interpreter_options() -> list[str]:
    """Return ``-P`` unless this process imports from the current folder: a ``random.py`` there must not be imported."""
    return [] if {"", str(Path.cwd())} & set(sys.path) else ["-P"]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _free_port() -> int:
    """Return an unused port outside the system's ephemeral range, so that no other program gets it meanwhile."""
    while True:
        port = secrets.choice(PORTS)
        with socket.socket() as candidate:
            try:
                candidate.bind(("", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return port


def _end_with_parent() -> None:
    """Ask Linux to send this process SIGTERM when its parent exits for any reason."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
