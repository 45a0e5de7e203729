"""The parts of the package."""

from __future__ import annotations

from collections.abc import Iterator

from dovetail import Component, hookimpl


@hookimpl
def dovetail_losses() -> Iterator[Component]:
    """Register losses."""
    yield Component(
        "yourco.generalised",
        "yourco.losses:GeneralisedCrossEntropy",
        summary="Between cross-entropy and mean absolute error, for noisy labels.",
        traits=("deterministic", "differentiable", "additive", "classification"),
    )


@hookimpl
def dovetail_schedulers() -> Iterator[Component]:
    """Register schedulers."""
    yield Component("yourco.sawtooth", "yourco.schedulers:Sawtooth", summary="Falls linearly, then starts again.")


@hookimpl
def dovetail_storage_backends() -> Iterator[Component]:
    """Register storage backends."""
    yield Component(
        "yourco.vault",
        "yourco.storage:Vault",
        summary="All objects in one SQLite database.",
        example={"path": "vault.db"},
    )
