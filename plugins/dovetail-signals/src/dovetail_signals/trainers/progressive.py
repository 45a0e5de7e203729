"""Progressive resizing: train on short signals first and on longer ones later."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, Literal, final

import torch
from torch import Tensor

from dovetail import Batch, Run, StandardTrainer

Resize = Literal["interpolate", "truncate", "pad"]
#: Pairs of a signal length and its number of epochs.
SCHEDULE: Final[tuple[tuple[int, int], ...]] = ((25_600, 20), (51_200, 15), (76_800, 10), (102_400, 5))


def resize(signals: Tensor, length: int, method: Resize = "interpolate") -> Tensor:
    """Resize signals [..., time] to another length.

    Args:
        signals: floating-point values along time.
        length: new length, in samples.
        method: ``interpolate`` keeps the whole signal and changes its sampling rate; ``truncate`` keeps the beginning;
            ``pad`` adds zeros. ``truncate`` pads signals that are too short, ``pad`` truncates those that are too long.

    Raises:
        ValueError: the length is below 1.
    """
    if length < 1:
        raise ValueError(f"length must be at least 1, got {length}")
    if signals.shape[-1] == length:
        return signals
    if method == "interpolate":
        rows = signals.reshape(1, -1, signals.shape[-1])
        found = torch.nn.functional.interpolate(rows, size=length, mode="linear", align_corners=True)
        return found.reshape(*signals.shape[:-1], length)
    cut = signals[..., :length]
    return torch.nn.functional.pad(cut, (0, length - cut.shape[-1]))


class ResizableSignalDataset(torch.utils.data.Dataset[Any]):
    """Wrap a dataset and resize its signals to one length.

    Args:
        base_dataset: its samples are (signal, target) or dicts with ``inputs``.
        target_length: length of the signals, in samples.
        resize_method: as in :func:`resize`.
    """

    def __init__(self, base_dataset: Any, target_length: int, resize_method: Resize = "interpolate") -> None:
        self.base_dataset, self.target_length, self.resize_method = base_dataset, target_length, resize_method

    def __len__(self) -> int:
        return len(self.base_dataset)

    def __getitem__(self, index: int) -> Any:
        sample = self.base_dataset[index]
        if isinstance(sample, dict):
            return {**sample, "inputs": resize(sample["inputs"], self.target_length, self.resize_method)}
        return resize(sample[0], self.target_length, self.resize_method), *sample[1:]


@final
class ProgressiveResizingTrainer(StandardTrainer):
    """Train on signals whose length grows by a schedule, which makes early epochs cheap.

    Validation uses the length of its epoch. The model must take signals of any length. The length depends only on the
    epoch, so resuming does not change it.

    Args:
        schedule: pairs of a length, in samples, and its number of epochs; the last length stays until the end.
        resize_method: ``interpolate``, ``truncate``, or ``pad``.

    Raises:
        ValueError: the schedule is empty, or has a number below 1.
    """

    def __init__(
        self, *, schedule: Sequence[tuple[int, int]] = SCHEDULE, resize_method: Resize = "interpolate"
    ) -> None:
        if not schedule or min(min(step) for step in schedule) < 1:
            raise ValueError(
                f"schedule: needs pairs of a length and a number of epochs, both at least 1, got {schedule}"
            )
        self._schedule, self._method = tuple(schedule), resize_method

    def length_in(self, epoch: int) -> int:
        """Return the length of the signals in an epoch, counted from 1."""
        last = 0
        for length, epochs in self._schedule:
            last += epochs
            if epoch <= last:
                return length
        return self._schedule[-1][0]

    def dovetail_run_start(self, run: Run) -> None:
        """Raise an alert if the run ends before signals reach their full length."""
        before = sum(epochs for _, epochs in self._schedule[:-1])
        if run.plan.max_epochs <= before:
            run.alert(
                "schedule",
                f"signals reach a length of {self.length_in(run.plan.max_epochs)} and never {self._schedule[-1][0]}: "
                f"trainer.schedule reaches it in epoch {before + 1}, but training.max_epochs = {run.plan.max_epochs}",
                cooldown=math.inf,
            )

    def prepare_batch(self, run: Run, batch: Batch) -> Batch:
        """Return the batch on the device, with signals of the epoch's length."""
        moved = super().prepare_batch(run, batch)
        inputs = moved["inputs"]
        if not isinstance(inputs, Tensor):
            raise ValueError("signals.progressive_resizing needs inputs that are one tensor of signals")  # noqa: TRY004 (data)
        return {**moved, "inputs": resize(inputs, self.length_in(run.state.epoch), self._method)}
