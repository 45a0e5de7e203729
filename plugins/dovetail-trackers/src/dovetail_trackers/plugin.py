"""What this package offers. The libraries behind it are imported only by runs that name them."""

from __future__ import annotations

from collections.abc import Iterator

from dovetail import Component, hookimpl


@hookimpl
def dovetail_trackers() -> Iterator[Component]:
    """Offer trackers."""
    yield Component(
        "trackers.tensorboard",
        "dovetail_trackers.tensorboard:TensorBoardTracker",
        summary="Write event files for TensorBoard.",
    )
    yield Component(
        "trackers.mlflow",
        "dovetail_trackers.mlflow:MLflowTracker",
        summary="Record the run with MLflow, in a database file or on a server.",
    )
    yield Component(
        "trackers.wandb",
        "dovetail_trackers.wandb:WandbTracker",
        summary="Record the run with Weights & Biases, on this machine unless there is a key.",
        example={"mode": "offline"},
    )
