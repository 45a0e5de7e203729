"""What a part of each kind must be able to do.

A parameter annotated with one of these protocols is itself a component: its TOML value is a table with a ``type``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from dovetail.data.batch import Batch
    from dovetail.losses.result import LossResult
    from dovetail.models.output import ModelOutput
    from dovetail.train.context import Run
    from dovetail.train.state import Outcome


class Loss(Protocol):
    """Maps a model's outputs and a batch to a scalar mean, its named parts, and the weight it is a mean over."""

    def __call__(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        """Compute the loss of one batch."""


class Collator(Protocol):
    """Makes one batch of a list of samples, losing none."""

    def __call__(self, samples: list[Any]) -> Batch:
        """Collate ``samples``."""


class Transform(Protocol):
    """Maps a sample to a sample of the same form.

    With the trait ``batched`` it has ``transform_batch(batch, draws) -> Batch`` instead, which works on whole batches
    where the model is, and takes its random numbers from ``draws`` (:class:`dovetail.random.Draws`).
    """

    def __call__(self, sample: Any) -> Any:
        """Transform one sample."""


class Dataset(Protocol):
    """A map-style dataset; a factory may also return ``Splits`` that are already made."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def __getitem__(self, index: int, /) -> Any:
        """Return one sample: ``(input, target)`` or a dict with ``inputs`` and ``targets``."""


class Model(Protocol):
    """A ``torch.nn.Module``, called with a batch's inputs."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return a tensor, a tuple, a mapping or an object that ``ModelOutput`` can read."""

    def state_dict(self) -> Mapping[str, Any]:
        """Return the parameters and buffers by name."""


class Optimizer(Protocol):
    """A ``torch.optim.Optimizer``."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters once."""


class Scheduler(Protocol):
    """A torch learning-rate scheduler."""

    def step(self) -> None:
        """Advance by one update, or by one epoch."""

    def state_dict(self) -> Mapping[str, Any]:
        """Return everything that a resumed run needs."""


class Metric(Protocol):
    """Gathers batches on the device and gives figures at the end, without a device sync in between.

    Where several processes train together, each evaluates some of the batches, and a metric needs three methods more:
    ``state_dict()`` and ``load_state_dict(state)`` for what it has gathered, and ``merge(states)``, which replaces that
    by what all have.

    A metric whose values are logged during training may define ``snapshot()``. It returns a metric with the state of
    this one, which later updates do not change. The framework can then measure batches, and read values, a little later
    and many at a time.
    """

    def update(self, outputs: ModelOutput, batch: Batch) -> None:
        """Take in one batch."""

    def compute(self) -> Mapping[str, Any]:
        """Return the figures by name: floats, or nested lists such as a confusion matrix."""

    def reset(self) -> None:
        """Forget every batch."""


class Callback(Protocol):
    """Any object with some of the lifecycle hooks, and ``state_dict``/``load_state_dict`` where it has state."""


class Tracker(Protocol):
    """A callback that records the run somewhere."""


class Trainer(Protocol):
    """Trains: usually a subclass of ``StandardTrainer`` that overrides some of its methods."""

    def fit(self, run: Run) -> Outcome:
        """Train until done or told to stop."""


class Storage(Protocol):
    """Keeps objects under relative, slash-separated keys; an object is there whole or not at all.

    A key that is empty, absolute, not normal (``a//b``, ``./a``, ``a/..``), holds a NUL, or has a part of more than 255
    bytes is a ValueError, wherever it is given.
    """

    def put(self, key: str, source: Path | bytes) -> None:
        """Store bytes or a file's content, replacing what was there; OSError where it cannot, and nothing changed."""

    def open(self, key: str) -> BinaryIO:
        """Open an object for reading; FileNotFoundError where there is none."""

    def list(self, prefix: str = "") -> list[str]:
        """Return the keys that start with ``prefix``, sorted."""

    def delete(self, key: str) -> None:
        """Remove an object; FileNotFoundError where there is none."""

    def exists(self, key: str) -> bool:
        """Say whether the object is there."""


class Profile(Protocol):
    """A layer of config."""

    def __call__(self) -> Mapping[str, Any]:
        """Return the layer as plain tables and values."""


class Command(Protocol):
    """A click command."""
