"""What the user reads when something is wrong: lines on standard error or one JSON document, and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

import click
from attrs import field, frozen

from dovetail.cli.output import echo_json
from dovetail.spec.process import BAD_INPUT, FAILED, INTERRUPTED, LOST_CONTACT, SUPERVISED


class RunFailedError(Exception):
    """A run failed; the message says why and where the traceback is. A ``ConfigError`` as its cause is bad input."""

    def __init__(self, message: str, document: Mapping[str, Any]) -> None:
        """Set the message, and the document that ``--json`` prints besides."""
        super().__init__(message)
        self.document = document


@frozen
class Failure:
    """How an error is reported to the user."""

    code: int
    #: Lines for standard error.
    lines: list[str]
    #: Places and messages, for ``--json``.
    problems: list[dict[str, Any]] = field(factory=list)
    #: Further keys for ``--json``.
    document: Mapping[str, Any] = field(factory=dict)
    #: Whether it is a bug: then the traceback is printed.
    unexpected: bool = False
    #: Whether another process of the run ended first.
    lost_contact: bool = False


def report_error(error: Exception, *, as_json: bool) -> int:
    """Print ``error`` for the user and return the exit code."""
    if isinstance(error, click.exceptions.Exit):
        return int(error.exit_code)
    failure = explain(error)
    if failure.unexpected:
        import traceback

        traceback.print_exception(error, file=sys.stderr)
    if as_json:
        echo_json({**failure.document, "error": "\n".join(failure.lines), "problems": failure.problems})
    if failure.lost_contact and os.environ.get(SUPERVISED):
        return LOST_CONTACT
    if not as_json:
        click.echo("\n".join(failure.lines), err=True)
    return failure.code


def explain(error: Exception) -> Failure:
    """Return how to report ``error``."""
    if isinstance(error, click.Abort):
        return Failure(INTERRUPTED, ["dovetail: interrupted"])
    if isinstance(error, click.UsageError):
        return _usage(error)
    if isinstance(error, click.ClickException):
        return Failure(BAD_INPUT, [f"dovetail: {error.format_message()}"])
    if isinstance(error, RunFailedError):
        from dovetail.config.diagnostics import ConfigError
        from dovetail.distributed.errors import GroupError

        cause = _known(error.__cause__) if isinstance(error.__cause__, ConfigError) else None
        code, problems = (cause.code, cause.problems) if cause else (FAILED, [])
        lost_contact = isinstance(error.__cause__, GroupError)
        return Failure(code, str(error).splitlines(), problems, error.document, lost_contact=lost_contact)
    if isinstance(error, BrokenPipeError):
        # The reader of our output has gone, which is no error. Python would raise it again when it flushes at exit.
        sys.stdout = sys.stderr
        return Failure(FAILED, [])
    return _known(error) or Failure(
        FAILED,
        [
            f"dovetail: {type(error).__name__}: {error}",
            "This is a bug in Dovetail or in a plugin; the traceback is above.",
        ],
        unexpected=True,
    )


def _usage(error: click.UsageError) -> Failure:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return Failure(BAD_INPUT, error.format_message().splitlines())
    path = error.ctx.command_path if error.ctx else "dovetail"
    message = error.format_message().rstrip(".")
    return Failure(BAD_INPUT, [f"{path}: {message[:1].lower()}{message[1:]}", f"Try '{path} --help'."])


def _known(error: Exception) -> Failure | None:
    """Return how to report an error that Dovetail raises on purpose; None for any other error."""
    from dovetail.checkpoint.manifest import CheckpointError
    from dovetail.config.diagnostics import ConfigError
    from dovetail.distributed.errors import GroupError
    from dovetail.kernel.build import BuildError
    from dovetail.kernel.component import PluginError
    from dovetail.record.resumable import ResumeError
    from dovetail.record.runs import RunLookupError
    from dovetail.storage.errors import StorageError

    if isinstance(error, ConfigError):
        problems = [
            {
                "file": problem.origin.source,
                "line": problem.origin.line,
                "column": problem.origin.column,
                "path": problem.path,
                "message": problem.message,
            }
            for problem in error.problems
        ]
        return Failure(BAD_INPUT, str(error).splitlines(), problems)
    if isinstance(error, BuildError):
        return Failure(BAD_INPUT, [str(error)], [{"path": error.path, "message": error.message}])
    if isinstance(error, PluginError | RunLookupError | ResumeError | CheckpointError | StorageError):
        return Failure(BAD_INPUT, [f"dovetail: {error}"], [{"path": "", "message": str(error)}])
    if isinstance(error, GroupError):
        return Failure(FAILED, [f"dovetail: {error}"], [{"path": "", "message": str(error)}], lost_contact=True)
    return None
