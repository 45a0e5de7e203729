"""The trackers. Their libraries are imported only in runs that use them."""

from __future__ import annotations

from collections.abc import Iterator

from dovetail import Component, hookimpl


@hookimpl
def dovetail_trackers() -> Iterator[Component]:
    """Register the trackers."""
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
        summary="Record the run with Weights & Biases, offline unless there is an API key.",
        example={"mode": "offline"},
    )
