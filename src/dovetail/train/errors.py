"""What can go wrong while training, said so that the reader knows what to change."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

from dovetail.distributed.environment import GroupError

if TYPE_CHECKING:
    from dovetail.config.schema import RunConfig


class TrainingError(RuntimeError):
    """Training cannot go on."""


class NonFiniteLossError(TrainingError):
    """The loss became NaN or infinite."""


class OutOfMemoryError(TrainingError):
    """The device, or the machine, has not enough memory for the run's settings."""


class ProcessLostError(TrainingError, GroupError):
    """Another of the processes that train together ended, or does not answer."""


class NoBatchesError(TrainingError):
    """An epoch had nothing to train on."""

    def __init__(self, epoch: int) -> None:
        """Say which, and where batches come from."""
        super().__init__(f"epoch {epoch} had no batches: the trainer's batches() gave none")


class MisfitError(TrainingError):
    """Settings do not fit each other or the data: bad input, found before anything was trained."""

    def __init__(self, path: str, message: str) -> None:
        """Keep the place in the config, and what is wrong there."""
        self.path, self.message = path, message
        super().__init__(f"{path}: {message}")


class PartError(TrainingError):
    """A part of the run raised an error in one of its hooks; the part's config path comes first in the message."""

    def __init__(self, path: str, hook: str, error: Exception) -> None:
        """Say whose hook it was."""
        self.path, self.hook = path, hook
        super().__init__(f"{path} failed in {hook}: {type(error).__name__}: {error}")


def explained(error: Exception, config: RunConfig) -> Exception:
    """Return an error that says what to do about ``error``, or ``error`` itself where it speaks for itself."""
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text:
        return OutOfMemoryError(_out_of_memory(config, text))
    if any(word in text for word in ("Expected to have finished reduction", "mark a variable ready only once")):
        unused = re.search(r"did not receive grad for rank \d+: ([\d ]+)", text)
        which = f" (those at {unused[1].strip()} did not, from 0, the model's before the loss's)" if unused else ""
        return TrainingError(
            "where several processes train, each parameter that requires gradients takes part in the loss of every "
            f"batch, and in no other that is taken back with backward(){which}. What this loss does not train gets "
            f"requires_grad_(False); a trainer with a loss besides uses torch.autograd.grad. Torch says: "
            f"{text.split('. ', maxsplit=1)[0]}"
        )
    if "more than 1 value per channel when training" in text:
        return TrainingError(
            "a batch norm cannot train on a batch of one sample, as the last of an epoch may be: "
            f"loader.drop_last = true leaves that out, and another loader.batch_size "
            f"than {config.loader.batch_size} makes it larger. Torch says: {text}"
        )
    return process_lost(error, config.hardware.devices) or error


def process_lost(error: Exception, size: int) -> ProcessLostError | None:
    """Return what ``error`` means where it tells that another of ``size`` processes is gone, else None."""
    text = str(error)
    told = any(word in text for word in ("gloo", "NCCL", "Connection closed by peer"))
    if size == 1 or isinstance(error, ProcessLostError) or not told:
        return None
    return ProcessLostError(
        f"lost another of the {size} processes that train together: it, or what started it, "
        f"says why it ended. The connection says: {text.splitlines()[0]}"
    )


def _out_of_memory(config: RunConfig, text: str) -> str:
    size, groups = config.loader.batch_size, config.training.accumulate
    advice = [f"loader.batch_size = {max(1, size // 2)} with training.accumulate = {groups * 2}, which trains alike"]
    if config.training.precision in {"fp32", "tf32"}:
        advice.append('training.precision = "bf16"')
    if config.loader.eval_batch_size and config.loader.eval_batch_size > size:
        advice.append(f"loader.eval_batch_size = {size}")
    return (
        f'out of memory with loader.batch_size = {size} and training.precision = "{config.training.precision}". '
        f"What helps: {'; '.join(advice)}; a smaller model. Torch says: {text.splitlines()[0]}"
    )
