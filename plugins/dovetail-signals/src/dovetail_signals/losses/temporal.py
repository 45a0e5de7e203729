"""Temporal smoothness: predictions should not jump between consecutive windows of a recording."""

from __future__ import annotations

import math
from typing import Annotated, Any

from torch import Tensor, nn

from dovetail import AtLeast, Batch, LossResult, ModelOutput, MoreThan, Run
from dovetail.ops import Windows, consecutive, physical_terms
from dovetail_signals.losses.inputs import read_logits, read_meta

_WHO = "temporal_smoothness"


class TemporalSmoothnessLoss(nn.Module):
    """``lambda_smooth`` times the mean of ``(time_step / Δt)² Σ_c (q_c(t) - q_c(t - Δt))²``, for probabilities q.

    The mean is over the windows that have a predecessor, an earlier window of the same recording, in the batch; Δt is
    the time since the latest. ``meta.recording`` is the recording of each window, as a number or name, ``meta.time``
    its start. Without recordings, all windows belong to one; without times, they follow one another in the batch, one
    time step apart, which is only right for unshuffled batches.

    Args:
        lambda_smooth: weight of the loss, ≥ 0.
        time_step: the time between two windows, in the unit of ``meta.time``, at which a change has weight 1.

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
                f"lambda_smooth must be at least 0 and time_step above 0, got {lambda_smooth:g} and {time_step:g}"
            )
        self.lambda_smooth, self.time_step = lambda_smooth, time_step

    def dovetail_run_start(self, run: Run) -> None:
        """Raise an alert if windows of different recordings would be compared."""
        alert_on_unknown_recordings(run)

    def forward(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        """Return the mean over the windows with a predecessor; the weight is their number.

        Args:
            outputs: logits ``[batch, classes]``.
            batch: its ``meta`` holds recordings and times.

        Raises:
            ValueError: shapes do not match.
        """
        logits = read_logits(_WHO, outputs, batch)
        windows = self.windows(logits, batch)
        found = physical_terms(logits, windows=windows).total
        return LossResult(self.lambda_smooth * found, {}, (windows.neighbours[:, 0] >= 0).sum())

    def windows(self, logits: Tensor, batch: Batch) -> Windows:
        """Return the predecessor of each window of a batch."""
        rows, device = len(logits), logits.device
        recordings, times = (
            read_meta(_WHO, with_recording_numbers(batch), key, rows, device) for key in ("recording", "time")
        )
        return consecutive(rows, recordings, times, time_step=self.time_step, device=device)


def alert_on_unknown_recordings(run: Run) -> None:
    """Raise an alert if batches are shuffled and lack the recording of each window."""
    known: Any = getattr(run.parts.loaders.train.dataset, "meta", None)
    if known is not None and "recording" not in known and run.config.loader.shuffle:
        run.alert(
            "temporal_smoothness",
            "windows of different recordings are compared, because batches are shuffled and lack the recording of each "
            'window; set data.meta = ["recording", "time"]',
            cooldown=math.inf,
        )


def with_recording_numbers(batch: Batch) -> Batch:
    """Return the batch's meta with the names of recordings replaced by numbers, equal for equal names."""
    meta = batch.get("meta", {})
    names = meta.get("recording")
    if not isinstance(names, list):
        return batch
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return {"meta": {**meta, "recording": [numbers[name] for name in names]}}
