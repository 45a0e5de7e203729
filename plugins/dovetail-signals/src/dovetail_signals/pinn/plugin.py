"""What this package offers for differential equations. Imports no torch: listing parts must cost nothing."""

from __future__ import annotations

from collections.abc import Iterator

from dovetail import Component, hookimpl


@hookimpl
def dovetail_datasets() -> Iterator[Component]:
    """Offer the points of a problem."""
    yield Component(
        "signals.pde",
        "dovetail_signals.pinn.data:pde_points",
        summary="Points of a differential equation to train on, and its solution on a grid to compare with.",
        example={"problem": "heat", "interior": 40, "initial": 8, "boundary": 8},
    )


@hookimpl
def dovetail_models() -> Iterator[Component]:
    """Offer the network of a PINN."""
    yield Component(
        "signals.pinn",
        "dovetail_signals.pinn.model:PINN",
        summary="A smooth MLP from coordinates to the unknowns of an equation, conditions built in if wanted.",
        traits=("regression",),
    )


@hookimpl
def dovetail_losses() -> Iterator[Component]:
    """Offer the loss of a PINN."""
    yield Component(
        "signals.pde",
        "dovetail_signals.pinn.loss:PDELoss",
        summary="Mean squares of an equation's residual and of the errors at its initial and boundary values.",
        traits=("regression",),
        example={"problem": "heat"},
    )


@hookimpl
def dovetail_optimizers() -> Iterator[Component]:
    """Offer what trains a PINN to the last digits."""
    yield Component(
        "signals.bfgs",
        "dovetail_signals.pinn.bfgs:BFGS",
        summary="BFGS with the whole matrix, self-scaled: for networks of up to a few thousand parameters.",
        traits=("one_group",),
    )


@hookimpl
def dovetail_trainers() -> Iterator[Component]:
    """Offer the trainer of PINNs."""
    yield Component(
        "signals.pinn",
        "dovetail_signals.pinn.trainer:PINNTrainer",
        summary="The standard trainer, with inputs that a loss can differentiate by.",
    )


@hookimpl
def dovetail_metrics() -> Iterator[Component]:
    """Offer the error of a solution."""
    yield Component(
        "signals.relative_l2",
        "dovetail_signals.pinn.metrics:RelativeL2",
        summary="The L2 error over all samples together, relative to the size of the solution.",
        traits=("regression",),
    )


@hookimpl
def dovetail_callbacks() -> Iterator[Component]:
    """Offer what happens while a PINN is trained."""
    yield Component(
        "signals.solution_map",
        "dovetail_signals.pinn.solution_map:SolutionMap",
        summary="Draw the solution of a PINN and its error into the report.",
    )
    yield Component(
        "signals.residual_adaptive",
        "dovetail_signals.pinn.adaptive_sampling:ResidualAdaptive",
        summary="Draw the interior points anew, likelier where the equation's residual is large (RAD).",
    )
