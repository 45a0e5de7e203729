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
    """Collates a list of samples into one batch, without dropping any."""

    def __call__(self, samples: list[Any]) -> Batch:
        """Collate ``samples``."""


class Transform(Protocol):
    """Maps a sample to a sample of the same form.

    With the trait ``batched`` it defines ``transform_batch(batch, draws) -> Batch`` instead, which transforms whole
    batches on the model's device, and takes its random numbers from ``draws`` (:class:`dovetail.random.Draws`).
    """

    def __call__(self, sample: Any) -> Any:
        """Transform one sample."""


class Dataset(Protocol):
    """A map-style dataset; a factory may also return ready-made ``Splits``."""

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
    """Accumulates batches on the device and returns figures at the end, without a device sync in between.

    With several processes, each evaluates some of the batches, and a metric needs three more methods: ``state_dict()``
    and ``load_state_dict(state)`` for what it has accumulated, and ``merge(states)``, which replaces its own state with
    the states of all processes combined.

    A metric may declare which values are better in an attribute ``higher_is_better``: a dict of its figures, such as
    ``{"auc": True, "gap": False}``, or a bool for all of them. It decides which checkpoint is the best, and when to
    stop early. If a metric declares nothing, whole words in a figure's name decide, such as ``accuracy`` or ``mae``.

    A metric whose values are logged during training may define ``snapshot()``. It returns a metric with the state of
    this one, which later updates do not change. The framework can then measure batches, and read values, a little later
    and many at a time.
    """

    def update(self, outputs: ModelOutput, batch: Batch) -> None:
        """Add one batch."""

    def compute(self) -> Mapping[str, Any]:
        """Return the figures by name: floats, or nested lists such as a confusion matrix."""

    def reset(self) -> None:
        """Forget every batch."""


class Callback(Protocol):
    """Any object with lifecycle hooks, and ``state_dict``/``load_state_dict`` if it has state."""


class Tracker(Protocol):
    """A callback that records the run somewhere."""


class Trainer(Protocol):
    """Trains a run: usually a subclass of ``StandardTrainer`` that overrides some of its methods."""

    def fit(self, run: Run) -> Outcome:
        """Train until the end of the plan or a request to stop."""


class Storage(Protocol):
    """Stores objects under relative, slash-separated keys; an object exists completely or not at all.

    Every method raises ValueError for a key that is empty, absolute or not normal (``a//b``, ``./a``, ``a/..``), that
    contains a NUL, or that has a component of more than 255 bytes.
    """

    def put(self, key: str, source: Path | bytes) -> None:
        """Store bytes or a file's content, replacing the object; OSError if it cannot, and then nothing has changed."""

    def open(self, key: str) -> BinaryIO:
        """Open an object for reading; FileNotFoundError if there is none."""

    def list(self, prefix: str = "") -> list[str]:
        """Return the keys that start with ``prefix``, sorted."""

    def delete(self, key: str) -> None:
        """Remove an object; FileNotFoundError if there is none."""

    def exists(self, key: str) -> bool:
        """Return whether the object exists."""


class Profile(Protocol):
    """A layer of config."""

    def __call__(self) -> Mapping[str, Any]:
        """Return the layer as plain tables and values."""


class Command(Protocol):
    """A click command."""
