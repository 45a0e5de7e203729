"""Classification and three physical constraints in one loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from torch import Tensor, nn

from dovetail import AtLeast, Batch, Between, Loss, LossResult, ModelOutput, MoreThan, Run, as_loss
from dovetail.ops import physical_terms
from dovetail_signals.losses.controls import Control
from dovetail_signals.losses.frequency import FrequencyConsistencyLoss
from dovetail_signals.losses.inputs import are_soft_labels, read_logits
from dovetail_signals.losses.sommerfeld import SommerfeldConsistencyLoss
from dovetail_signals.losses.temporal import TemporalSmoothnessLoss, alert_on_unknown_recordings
from dovetail_signals.sample_rate import alert_on_sample_rate

_WHO = "physical_constraint"
_NO_LABEL = -100
#: For soft labels, which the fused op does not take.
_SOFT_CROSS_ENTROPY = as_loss(nn.CrossEntropyLoss())


class PhysicalConstraintLoss(nn.Module):
    """Cross-entropy plus three physical terms, weighted by the lambdas and computed in one fused op.

    The terms and their options are those of `FrequencyConsistencyLoss`, `SommerfeldConsistencyLoss` and
    `TemporalSmoothnessLoss` (with ``lambda_smooth = 1``). A lambda of 0 skips its term. Parts are logged without their
    lambdas. A trainer may change the lambdas between steps.

    A sample without a label (-100) contributes to the physical terms only, so unlabelled recordings can be used.

    Args:
        lambda_freq: weight of the frequency consistency, ≥ 0; above 0 it needs ``expected_freqs``.
        lambda_sommerfeld: weight of the Sommerfeld consistency, ≥ 0; above 0 it needs the operating conditions.
        lambda_temporal: weight of the temporal smoothness, ≥ 0.
        classification: a classification loss, such as focal, in place of cross-entropy.
        expected_freqs: fault frequencies of each class, by class index.
        sample_rate: in Hz.
        tolerance: half the width of a band relative to its centre; above 0, below 1.
        unit: ``"hz"`` or ``"orders"``.
        harmonics: number of harmonics of each frequency.
        healthy: a healthy machine's fraction of energy in each class's bands.
        fault_severity_order: classes from the least to the most severe.
        time_step: the time between windows at which a change has weight 1.
        speed: the key of ``meta`` with the shaft's speed, in revolutions per minute.
        control: a control for an ablation of the frequency consistency: ``"scrambled"`` or ``"random"``.
        control_seed: seed of the control.

    Raises:
        ValueError: a number is out of its range, or frequencies are missing.
    """

    def __init__(
        self,
        lambda_freq: Annotated[float, AtLeast(0)] = 1.0,
        lambda_sommerfeld: Annotated[float, AtLeast(0)] = 0.5,
        lambda_temporal: Annotated[float, AtLeast(0)] = 0.1,
        *,
        classification: Loss | None = None,
        expected_freqs: Mapping[str, Sequence[float]] | None = None,
        sample_rate: Annotated[float, MoreThan(0)] = 20480,
        tolerance: Annotated[float, Between(0, 1)] = 0.1,
        unit: Literal["hz", "orders"] = "hz",
        harmonics: Annotated[int, AtLeast(1)] = 1,
        healthy: Sequence[float] | None = None,
        fault_severity_order: Sequence[int] | None = None,
        time_step: Annotated[float, MoreThan(0)] = 1.0,
        speed: str = "rpm",
        control: Control = "none",
        control_seed: int = 0,
    ) -> None:
        super().__init__()
        factors = {"freq": lambda_freq, "sommerfeld": lambda_sommerfeld, "temporal": lambda_temporal}
        for name, factor in factors.items():
            if not factor >= 0:
                raise ValueError(f"lambda_{name}: must be at least 0, got {factor:g}")
        if lambda_freq and expected_freqs is None:
            raise ValueError(
                "lambda_freq: needs expected_freqs if it is above 0; set expected_freqs, or lambda_freq = 0"
            )
        self.lambda_freq, self.lambda_sommerfeld, self.lambda_temporal = lambda_freq, lambda_sommerfeld, lambda_temporal
        self.classification: Any = classification
        self._classification = None if classification is None else as_loss(classification)
        self.frequency = FrequencyConsistencyLoss(
            expected_freqs or {},
            sample_rate,
            tolerance,
            unit=unit,
            harmonics=harmonics,
            healthy=healthy,
            speed=speed,
            control=control,
            control_seed=control_seed,
        )
        self.sommerfeld = SommerfeldConsistencyLoss(fault_severity_order)
        self.temporal = TemporalSmoothnessLoss(1.0, time_step=time_step)

    def dovetail_run_start(self, run: Run) -> None:
        """Raise an alert if the sampling rate differs from the recordings', or windows lack their recording."""
        if self.lambda_freq > 0:
            alert_on_sample_rate(run, self, self.frequency.sample_rate)
        if self.lambda_temporal > 0:
            alert_on_unknown_recordings(run)

    def forward(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        """Return the weighted sum, a mean over samples, with its terms as parts.

        Args:
            outputs: logits ``[batch, classes]``.
            batch: class indices ``[batch]`` or soft labels ``[batch, classes]``; signals and conditions as the terms
                need them.

        Raises:
            ValueError: shapes do not match, an input of a term is missing, or a label is out of range.
        """
        logits = read_logits(_WHO, outputs, batch)
        targets: Any = batch.get("targets")
        mixed = isinstance(targets, Tensor) and are_soft_labels(targets, logits)
        classification = self._classification or (_SOFT_CROSS_ENTROPY if mixed else None)
        terms = physical_terms(
            logits,
            self._labels(logits, batch) if classification is None else None,
            penalties=self.frequency.penalties(logits, batch) if self.lambda_freq > 0 else None,
            severity=self.sommerfeld.severity(logits, batch) if self.lambda_sommerfeld > 0 else None,
            levels=self.sommerfeld.levels(logits) if self.lambda_sommerfeld > 0 else None,
            windows=self.temporal.windows(logits, batch) if self.lambda_temporal > 0 else None,
            lambda_freq=self.lambda_freq,
            lambda_sommerfeld=self.lambda_sommerfeld,
            lambda_temporal=self.lambda_temporal,
        )
        parts = {"classification": terms.classification}
        total = terms.total
        if classification is not None:
            other = classification(outputs, batch)
            parts["classification"] = other.total
            total = total + other.total
        for name, factor in (("frequency", self.lambda_freq), ("sommerfeld", self.lambda_sommerfeld)):
            if factor > 0:
                parts[name] = getattr(terms, name)
        if self.lambda_temporal > 0:
            parts["temporal"] = terms.temporal
        return LossResult(total, parts, float(len(logits)))

    def _labels(self, logits: Tensor, batch: Batch) -> Tensor:
        targets: Any = batch.get("targets")
        if not isinstance(targets, Tensor) or targets.is_floating_point() or targets.is_complex():
            found = targets.dtype if isinstance(targets, Tensor) else type(targets).__name__
            raise ValueError(f"{_WHO}: targets must be class indices, integers of shape {[len(logits)]}; got {found}")
        labels: Tensor = targets.long()
        if labels.is_cpu:
            wrong = labels[((labels < 0) | (labels >= logits.shape[1])) & (labels != _NO_LABEL)]
            if len(wrong):
                raise ValueError(
                    f"{_WHO}: label {int(wrong[0])} is out of range for {logits.shape[1]} classes, "
                    f"0 to {logits.shape[1] - 1}"
                )
        return labels
