"""Temporal smoothness: a machine does not change from one moment to the next."""

from __future__ import annotations

import math
from typing import Annotated, Any

from torch import Tensor, nn

from dovetail import AtLeast, Batch, LossResult, ModelOutput, MoreThan, Run
from dovetail.ops import Windows, consecutive, physical_terms
from dovetail_signals.losses.inputs import read_logits, read_meta

_WHO = "temporal_smoothness"


class TemporalSmoothnessLoss(nn.Module):
    """``lambda_smooth`` times the mean of ``(time_step / Δt)² Σ_c (q_c(t) - q_c(t - Δt))²``, q being probabilities.

    The mean is over the windows of which an earlier one of the same recording is in the batch: the latest of these is
    Δt before. ``meta.recording`` says which recording a window is of, in numbers or names, ``meta.time`` when it
    begins. Without recordings, all are of one; without times, windows follow one another as they come in the batch, one
    time step apart, which only makes sense for batches that are not shuffled.

    Args:
        lambda_smooth: factor, ≥ 0.
        time_step: the time between two windows, in the unit of ``meta.time``, at which a change counts as it is.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        lambda_smooth: Annotated[float, AtLeast(0)] = 0.1,
        *,
        time_step: Annotated[float, MoreThan(0)] = 1.0,
    ) -> None:
        super().__init__()
        if lambda_smooth < 0 or not time_step > 0:
            raise ValueError(
                f"lambda_smooth must be at least 0 and time_step more, got {lambda_smooth:g} and {time_step:g}"
            )
        self.lambda_smooth, self.time_step = lambda_smooth, time_step

    def dovetail_run_start(self, run: Run) -> None:
        """Say so where windows of different recordings would be compared."""
        alert_on_unknown_recordings(run)

    def forward(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        """Return the mean over windows that follow another; its weight is how many there are.

        Args:
            outputs: class scores ``[batch, classes]``.
            batch: recordings and times in its ``meta``.

        Raises:
            ValueError: shapes do not fit.
        """
        logits = read_logits(_WHO, outputs, batch)
        windows = self.windows(logits, batch)
        found = physical_terms(logits, windows=windows).total
        return LossResult(self.lambda_smooth * found, {}, (windows.neighbours[:, 0] >= 0).sum())

    def windows(self, logits: Tensor, batch: Batch) -> Windows:
        """Return which of a batch's windows follow one another."""
        rows, device = len(logits), logits.device
        recordings, times = (
            read_meta(_WHO, with_recording_numbers(batch), key, rows, device) for key in ("recording", "time")
        )
        return consecutive(rows, recordings, times, time_step=self.time_step, device=device)


def alert_on_unknown_recordings(run: Run) -> None:
    """Raise an alert where shuffled batches do not tell which recording a window is of."""
    known: Any = getattr(run.parts.loaders.train.dataset, "meta", None)
    if known is not None and "recording" not in known and run.config.loader.shuffle:
        run.alert(
            "temporal_smoothness",
            "windows of different recordings are compared with one another, as batches are shuffled and do not tell "
            'which windows belong together; data.meta = ["recording", "time"] has them do so',
            cooldown=math.inf,
        )


def with_recording_numbers(batch: Batch) -> Batch:
    """Return the batch with numbers in place of the names of its recordings: the same ones get the same number."""
    meta = batch.get("meta", {})
    names = meta.get("recording")
    if not isinstance(names, list):
        return batch
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return {"meta": {**meta, "recording": [numbers[name] for name in names]}}
