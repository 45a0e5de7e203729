"""Sommerfeld consistency: the predicted severity should match the operating conditions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from dovetail import Batch, LossResult, ModelOutput, MoreThan
from dovetail.ops import sommerfeld_consistency, sommerfeld_number, sommerfeld_severity
from dovetail_signals.losses.inputs import check_targets, read_logits, read_meta, require_meta

_WHO = "sommerfeld_consistency"


class SommerfeldConsistencyLoss(nn.Module):
    """The mean over samples of ``(predicted severity - expected severity)²``.

    The expected severity is the eccentricity ratio of a short journal bearing at its Sommerfeld number: 0 for a centred
    shaft, 1 for one that touches the bearing. It rises with load and falls with speed and viscosity. The predicted
    severity is the mean of the classes' severities under their probabilities or, if the model returns one number for
    each sample and no order is set, that number.

    The Sommerfeld number is ``meta.sommerfeld``, or follows from ``meta.viscosity`` (Pa·s), ``meta.rpm``,
    ``meta.load_newton`` and the bearing's dimensions.

    Args:
        fault_severity_order: class indices from the least to the most severe; their severities are evenly spaced from 0
            to 1. By default the order of the indices.
        length: of the bearing, in metres.
        diameter: of the shaft, in metres.
        clearance: radial clearance, in metres.

    Raises:
        ValueError: the order does not name every class once, or a dimension is not above 0.

    Source:
        Ocvirk, Short-bearing approximation for full journal bearings, NACA TN 2808 (1952): `dovetail.ops` has the
        equation.
    """

    def __init__(
        self,
        fault_severity_order: Sequence[int] | None = None,
        *,
        length: Annotated[float, MoreThan(0)] = 0.05,
        diameter: Annotated[float, MoreThan(0)] = 0.1,
        clearance: Annotated[float, MoreThan(0)] = 1e-4,
    ) -> None:
        super().__init__()
        self.order = None if fault_severity_order is None else [int(label) for label in fault_severity_order]
        if self.order is not None and sorted(self.order) != list(range(len(self.order))):
            raise ValueError(
                f"fault_severity_order: must name each class once, 0 to {len(self.order) - 1}, got {self.order}"
            )
        self.length, self.diameter, self.clearance = length, diameter, clearance
        sommerfeld_number(*[torch.ones(1)] * 3, length=length, diameter=diameter, clearance=clearance)

    def forward(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        """Return the mean over samples.

        Args:
            outputs: logits ``[batch, classes]``; or severities ``[batch]`` or ``[batch, 1]`` if the targets are not
                class indices.
            batch: its ``meta`` holds the operating conditions.

        Raises:
            ValueError: shapes do not match, conditions are missing, or the order does not fit the model's classes.
        """
        logits: Tensor = outputs.logits
        targets: Any = batch.get("targets")
        of_classes = isinstance(targets, Tensor) and not targets.is_floating_point()
        if self.order is None and not of_classes and (logits.ndim == 1 or logits.shape[1:] == (1,)):
            check_targets(_WHO, logits, batch)
            found = sommerfeld_consistency(logits, self.severity(logits, batch))
        else:
            logits = read_logits(_WHO, outputs, batch)
            found = sommerfeld_consistency(logits, self.severity(logits, batch), self.levels(logits))
        return LossResult(found, {}, float(len(logits)))

    def severity(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the severity expected from each sample's conditions, ``[batch]`` from 0 to 1."""
        number = read_meta(_WHO, batch, "sommerfeld", len(logits), logits.device)
        if number is None:
            conditions = [
                require_meta(_WHO, batch, key, logits, "without meta.sommerfeld, the loss")
                for key in ("viscosity", "rpm", "load_newton")
            ]
            number = sommerfeld_number(
                *conditions, length=self.length, diameter=self.diameter, clearance=self.clearance
            )
        return sommerfeld_severity(number, self.length / self.diameter)

    def levels(self, logits: Tensor) -> Tensor:
        """Return each class's severity, ``[classes]`` from 0 to 1.

        Raises:
            ValueError: the order has a different number of classes.
        """
        classes = logits.shape[1]
        order = range(classes) if self.order is None else self.order
        if len(order) != classes:
            raise ValueError(f"fault_severity_order: has {len(order)} classes, but the model has {classes}")
        levels = [0.0] * classes
        for place, which in enumerate(order):
            levels[which] = place / max(classes - 1, 1)
        return torch.tensor(levels, dtype=torch.float64, device=logits.device)
