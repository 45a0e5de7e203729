"""What the user reads when something is wrong: lines on standard error, or one JSON document, and an exit code."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import click
from attrs import field, frozen

FAILED = 1
BAD_INPUT = 2
OUT_OF_BUDGET = 3
INTERRUPTED = 130
#: Between a process that lost another one and who started both: it is not the cause, so it leaves telling to that.
LOST = 4


class RunFailedError(Exception):
    """A run failed; the message says why and where the traceback is. Raised from a ``ConfigError``: bad input."""

    def __init__(self, message: str, document: Mapping[str, Any]) -> None:
        """Keep what ``--json`` shows besides the message."""
        super().__init__(message)
        self.document = document


@frozen
class Failure:
    """An error in the words that the user gets."""

    code: int
    #: Lines for standard error.
    lines: list[str]
    #: Places and messages, for ``--json``.
    problems: list[dict[str, Any]] = field(factory=list)
    #: What ``--json`` shows besides.
    document: Mapping[str, Any] = field(factory=dict)
    #: Whether the fault is ours: then the traceback is shown.
    unexpected: bool = False
    #: Whether another of several processes ended first.
    lost: bool = False


def answer(error: Exception, *, as_json: bool) -> int:
    """Tell the user about ``error`` and return the exit code."""
    if isinstance(error, click.exceptions.Exit):
        return int(error.exit_code)
    from dovetail.record.files import WATCHED  # not above: help imports this module

    failure = understand(error)
    if failure.unexpected:
        import traceback

        traceback.print_exception(error, file=sys.stderr)
    if as_json:
        document = {**failure.document, "error": "\n".join(failure.lines), "problems": failure.problems}
        click.echo(json.dumps(document, ensure_ascii=False, indent=2))
    if failure.lost and os.environ.get(WATCHED):
        return LOST
    if not as_json:
        click.echo("\n".join(failure.lines), err=True)
    return failure.code


def understand(error: Exception) -> Failure:
    """Return what ``error`` means to the user."""
    if isinstance(error, click.Abort):
        return Failure(INTERRUPTED, ["dovetail: interrupted"])
    if isinstance(error, click.UsageError):
        return _usage(error)
    if isinstance(error, click.ClickException):
        return Failure(BAD_INPUT, [f"dovetail: {error.format_message()}"])
    if isinstance(error, RunFailedError):
        from dovetail.config.diagnostics import ConfigError
        from dovetail.distributed.errors import GroupError

        cause = _ours(error.__cause__) if isinstance(error.__cause__, ConfigError) else None
        code, problems = (cause.code, cause.problems) if cause else (FAILED, [])
        lost = isinstance(error.__cause__, GroupError)
        return Failure(code, str(error).splitlines(), problems, error.document, lost=lost)
    if isinstance(error, BrokenPipeError):
        # Whoever read our output has gone; nothing is wrong. Python would complain again when it flushes at exit.
        sys.stdout = sys.stderr
        return Failure(FAILED, [])
    return _ours(error) or Failure(
        FAILED,
        [
            f"dovetail: {type(error).__name__}: {error}",
            "This is a fault in Dovetail or in a plugin: see the traceback.",
        ],
        unexpected=True,
    )


def _usage(error: click.UsageError) -> Failure:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return Failure(BAD_INPUT, error.format_message().splitlines())
    path = error.ctx.command_path if error.ctx else "dovetail"
    message = error.format_message().rstrip(".")
    return Failure(BAD_INPUT, [f"{path}: {message[:1].lower()}{message[1:]}", f"Try '{path} --help'."])


def _ours(error: Exception) -> Failure | None:
    """Return what one of Dovetail's own errors means, or None for any other error."""
    from dovetail.checkpoint.manifest import CheckpointError
    from dovetail.config.diagnostics import ConfigError
    from dovetail.distributed.errors import GroupError
    from dovetail.kernel.build import BuildError
    from dovetail.kernel.component import PluginError
    from dovetail.record.earlier import ResumeError
    from dovetail.record.runs import RunLookupError
    from dovetail.storage.errors import StorageError

    if isinstance(error, ConfigError):
        problems = [
            {
                "file": one.origin.source,
                "line": one.origin.line,
                "column": one.origin.column,
                "path": one.path,
                "message": one.message,
            }
            for one in error.problems
        ]
        return Failure(BAD_INPUT, str(error).splitlines(), problems)
    if isinstance(error, BuildError):
        return Failure(BAD_INPUT, [str(error)], [{"path": error.path, "message": error.message}])
    if isinstance(error, PluginError | RunLookupError | ResumeError | CheckpointError | StorageError):
        return Failure(BAD_INPUT, [f"dovetail: {error}"], [{"path": "", "message": str(error)}])
    if isinstance(error, GroupError):
        return Failure(FAILED, [f"dovetail: {error}"], [{"path": "", "message": str(error)}], lost=True)
    return None
