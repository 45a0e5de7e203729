"""What can go wrong while training, in messages that say what to change."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import torch

from dovetail.config.diagnostics import ConfigError, Problem
from dovetail.config.tree import origin_of
from dovetail.distributed.errors import process_lost
from dovetail.kernel.build import BuildError

if TYPE_CHECKING:
    from dovetail.config.schema import RunConfig

_Made = TypeVar("_Made")


class TrainingError(RuntimeError):
    """Training cannot continue."""


class NonFiniteLossError(TrainingError):
    """The loss became NaN or infinite."""


class OutOfMemoryError(TrainingError):
    """The device or the machine has too little memory for the run's settings."""


class NoBatchesError(TrainingError):
    """An epoch had nothing to train on."""

    def __init__(self, epoch: int) -> None:
        """Name the epoch, and where batches come from."""
        super().__init__(f"epoch {epoch} had no batches: the trainer's batches() yielded none")


class MisfitError(TrainingError):
    """Settings do not fit each other or the data: bad input, found before anything was trained."""

    def __init__(self, path: str, message: str) -> None:
        """Keep the path in the config, and what is wrong there."""
        self.path, self.message = path, message
        super().__init__(f"{path}: {message}")


class PartError(TrainingError):
    """A part of the run raised an error in one of its hooks; the message begins with the part's config path."""

    def __init__(self, path: str, hook: str, error: Exception) -> None:
        """Name the part and the hook."""
        self.path, self.hook = path, hook
        super().__init__(f"{path} failed in {hook}: {type(error).__name__}: {error}")


def config_error(config: RunConfig, path: str, message: str) -> ConfigError:
    """Return an error about the setting at ``path``, located where it is written."""
    steps = (int(index) if index else name for index, name in re.findall(r"\[(\d+)\]|([^.\[]+)", path))
    return ConfigError([Problem(origin_of(config.tree, tuple(steps)), path, message)])


def build_at(path: str, make: Callable[[], _Made]) -> _Made:
    """Return ``make()``; an error about its input becomes a build error at ``path``.

    Raises:
        BuildError: ``make`` raised ValueError, TypeError, LookupError or OSError.
    """
    try:
        return make()
    except (ValueError, TypeError, LookupError, OSError) as error:
        raise BuildError(path, str(error) or type(error).__name__) from error


def describe_error(error: Exception, config: RunConfig) -> Exception:
    """Return the error that the user should see: bad input at its place, advice for known errors, else ``error``."""
    if isinstance(error, MisfitError | BuildError):
        return config_error(config, error.path, error.message)
    return known_error(error, config) or error


def known_error(error: Exception, config: RunConfig) -> Exception | None:
    """Return an error that says what to do about ``error``, or None if it speaks for itself."""
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text:
        return OutOfMemoryError(_out_of_memory(config, text))
    if any(phrase in text for phrase in ("Expected to have finished reduction", "mark a variable ready only once")):
        unused = re.search(r"did not receive grad for rank \d+: ([\d ]+)", text)
        which = f" (parameters {unused[1].strip()} did not, counted from 0, the model's first)" if unused else ""
        return TrainingError(
            "with several processes, every parameter that requires gradients must take part in the loss of every "
            f"batch, and in no other loss on which backward() is called{which}. Call requires_grad_(False) on "
            "parameters that the loss does not train; a trainer with a second loss can use torch.autograd.grad. "
            f"Torch says: {text.split('. ', maxsplit=1)[0]}"
        )
    if "more than 1 value per channel when training" in text:
        return TrainingError(
            "a batch norm cannot train on a batch of one sample, which the last batch of an epoch may be: set "
            f"loader.drop_last = true, or another loader.batch_size than {config.loader.batch_size}. Torch says: {text}"
        )
    return process_lost(error, config.hardware.devices)


def _out_of_memory(config: RunConfig, text: str) -> str:
    size, groups = config.loader.batch_size, config.training.accumulate
    advice = [f"loader.batch_size = {max(1, size // 2)} with training.accumulate = {groups * 2}, which trains alike"]
    if config.training.precision in {"fp32", "tf32"}:
        advice.append('training.precision = "bf16"')
    if config.loader.eval_batch_size and config.loader.eval_batch_size > size:
        advice.append(f"loader.eval_batch_size = {size}")
    return (
        f'out of memory with loader.batch_size = {size} and training.precision = "{config.training.precision}". '
        f"Try {'; '.join(advice)}; or a smaller model. Torch says: {text.splitlines()[0]}"
    )
