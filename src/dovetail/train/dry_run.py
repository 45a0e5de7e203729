"""The dry run: what a run would be, found out with one batch."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from dovetail.train.errors import NoBatchesError
from dovetail.train.first_batch import try_evaluation
from dovetail.train.hooks import Hooks
from dovetail.train.step import RunLoop
from dovetail.train.trainer import StandardTrainer

if TYPE_CHECKING:
    from dovetail.train.context import Run

#: Parts that are told of a run that there is not: a dry run tells them nothing, so that they need not tell the world.
_TOLD: Final = ("callbacks", "trackers")


@frozen
class Rehearsal:
    """What a run would be: everything built, and one batch tried forward and backward."""

    device: str
    #: Samples of each split.
    sizes: Mapping[str, int]
    num_classes: int | None
    #: Shape of each tensor of one training batch.
    batch: Mapping[str, tuple[int, ...]]
    #: Trainable parameters of model and loss.
    parameters: int
    epochs: int
    steps_per_epoch: int
    total_steps: int
    #: The loss of the first batch, and the seconds of its update.
    loss: float
    seconds_per_step: float
    #: The names of the figures of an evaluation; none where there is neither validation nor test.
    figures: tuple[str, ...]


def rehearse(run: Run, *, parameters: int) -> Rehearsal:
    """Try one batch of a run that has just been built, forward and backward.

    Args:
        run: the run, of which nothing is used afterwards.
        parameters: how many of its parameters are trained.

    Raises:
        MisfitError: the parts and the batch do not fit each other, or a metric that is monitored is not there.
        PartError: a part raised when it was told that the run starts.
        TrainingError: the batch cannot be trained on.
    """
    run.hooks = Hooks([(path, part) for path, part in run.parts.named() if path.partition(".")[0] not in _TOLD])
    run.hooks.dovetail_run_start(run=run)
    own = run.parts.trainer
    trainer = own if isinstance(own, StandardTrainer) else StandardTrainer()
    run.state.epoch = 1
    read = next(iter(trainer.batches(run)), None)
    if read is None:
        raise NoBatchesError(1)
    batch = trainer.prepare_batch(run, read)
    loop = RunLoop(trainer, run)
    began = time.monotonic()
    loop.first_step([batch])
    loop.check()
    seconds = time.monotonic() - began
    loss = loop.tape.start_epoch().means("train")["train_loss"]
    figures = try_evaluation(trainer, run)
    return Rehearsal(
        device=str(run.device),
        sizes=run.data["sizes"],
        num_classes=run.data["num_classes"],
        batch=dict(_shapes("", batch)),
        parameters=parameters,
        epochs=run.plan.max_epochs,
        steps_per_epoch=run.plan.steps_per_epoch,
        total_steps=run.plan.total_steps,
        loss=loss,
        seconds_per_step=seconds,
        figures=tuple(figures),
    )


def _shapes(name: str, value: Any) -> Iterable[tuple[str, tuple[int, ...]]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _shapes(f"{name}.{key}" if name else str(key), inner)
    elif hasattr(value, "shape"):
        yield name, tuple(value.shape)
