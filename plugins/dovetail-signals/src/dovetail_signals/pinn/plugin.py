"""The components for differential equations. This module must not import torch, to keep listing fast."""

from __future__ import annotations

from collections.abc import Iterator

from dovetail import Component, hookimpl


@hookimpl
def dovetail_datasets() -> Iterator[Component]:
    """Register the dataset of a problem's points."""
    yield Component(
        "signals.pde",
        "dovetail_signals.pinn.data:pde_points",
        summary="Training points of a differential equation, and its solution on a grid as test.",
        example={"problem": "heat", "interior": 40, "initial": 8, "boundary": 8},
    )


@hookimpl
def dovetail_models() -> Iterator[Component]:
    """Register the network."""
    yield Component(
        "signals.pinn",
        "dovetail_signals.pinn.model:PINN",
        summary="A smooth MLP from coordinates to the unknowns of an equation, with optional hard conditions.",
        traits=("regression",),
    )


@hookimpl
def dovetail_losses() -> Iterator[Component]:
    """Register the loss."""
    yield Component(
        "signals.pde",
        "dovetail_signals.pinn.loss:PDELoss",
        summary="Mean squares of an equation's residual and of its initial and boundary errors.",
        traits=("regression",),
        example={"problem": "heat"},
    )


@hookimpl
def dovetail_optimizers() -> Iterator[Component]:
    """Register the optimizer."""
    yield Component(
        "signals.bfgs",
        "dovetail_signals.pinn.bfgs:BFGS",
        summary="Self-scaled BFGS with the full matrix, for networks of up to a few thousand parameters.",
        traits=("one_group",),
    )


@hookimpl
def dovetail_trainers() -> Iterator[Component]:
    """Register the trainer."""
    yield Component(
        "signals.pinn",
        "dovetail_signals.pinn.trainer:PINNTrainer",
        summary="The standard trainer, with inputs that require gradients.",
    )


@hookimpl
def dovetail_metrics() -> Iterator[Component]:
    """Register the metric."""
    yield Component(
        "signals.relative_l2",
        "dovetail_signals.pinn.metrics:RelativeL2",
        summary="The relative L2 error over all samples.",
        traits=("regression",),
    )


@hookimpl
def dovetail_callbacks() -> Iterator[Component]:
    """Register the callbacks."""
    yield Component(
        "signals.solution_map",
        "dovetail_signals.pinn.solution_map:SolutionMap",
        summary="Draw the solution of a PINN and its error in the report.",
    )
    yield Component(
        "signals.residual_adaptive",
        "dovetail_signals.pinn.adaptive_sampling:ResidualAdaptive",
        summary="Redraw the interior points, with higher density where the residual is large (RAD).",
    )
