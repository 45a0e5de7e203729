"""What goes wrong between processes."""

from __future__ import annotations


class GroupError(RuntimeError):
    """Processes cannot connect to one another, or one of them has exited."""


class ProcessLostError(GroupError):
    """Another process of the run exited or does not respond."""


def process_lost(error: Exception, size: int) -> ProcessLostError | None:
    """Return what ``error`` means where another of ``size`` processes has exited, else None."""
    text = str(error)
    from_connection = any(word in text for word in ("gloo", "NCCL", "Connection closed by peer"))
    if size == 1 or isinstance(error, ProcessLostError) or not from_connection:
        return None
    return ProcessLostError(
        f"lost contact with another of the {size} processes; its own output, or that of its launcher, says why it "
        f"ended. The connection reported: {text.splitlines()[0]}"
    )
