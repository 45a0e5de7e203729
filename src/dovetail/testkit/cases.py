"""Inputs for losses and metrics: the outputs of a model and the batch they were computed from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

import torch
from attrs import evolve, field, frozen
from hypothesis import strategies as st
from torch import Tensor

from dovetail.data.batch import Batch, batch_size
from dovetail.models.output import ModelOutput
from dovetail.testkit.provide import NUM_CLASSES

#: Shape of one sample's input in the cases that the kit draws: one channel, 32 values.
INPUT_SHAPE: Final = (1, 32)
_HIDDEN: Final = 8


@frozen(eq=False)
class Case:
    """The outputs of a model and the batch they were computed from."""

    outputs: ModelOutput
    batch: Batch
    #: The text that hypothesis shows for a failing case; it is enough to reproduce the case.
    label: str = field(default="")

    def __repr__(self) -> str:
        return self.label or f"Case(logits {list(self.outputs.logits.shape)})"

    @property
    def logits(self) -> Tensor:
        """The outputs that losses and metrics read."""
        return self.outputs.logits

    def __len__(self) -> int:
        return batch_size(self.batch)

    def take(self, indices: Sequence[int]) -> Case:
        """Return a case with the samples at ``indices``, in that order."""
        return self._mapped(lambda value: value[torch.tensor(indices, dtype=torch.long)], list(indices))

    def to(self, target: torch.dtype | torch.device | str) -> Case:
        """Return the case on another device, or with every floating-point tensor in another dtype."""

        def move(value: Tensor) -> Tensor:
            return value.to(target) if not isinstance(target, torch.dtype) or value.is_floating_point() else value

        return self._mapped(move)

    def clone(self) -> Case:
        """Return a copy that shares neither memory nor autograd graph with this case."""
        return self._mapped(lambda value: value.detach().clone())

    def with_logits(self, logits: Tensor) -> Case:
        """Return the case with other logits."""
        return evolve(self, outputs=evolve(self.outputs, logits=logits))

    def with_batch(self, **changed: Any) -> Case:
        """Return the case with other entries in its batch."""
        return evolve(self, batch=cast("Batch", {**self.batch, **changed}))

    def _mapped(self, change: Callable[[Tensor], Tensor], rows: list[int] | None = None) -> Case:
        outputs = ModelOutput(
            change(self.outputs.logits),
            self.outputs.loss,
            _mapped(self.outputs.hidden, change, rows),
            _mapped(self.outputs.extras, change, rows),
        )
        return evolve(self, outputs=outputs, batch=_mapped(self.batch, change, rows))


def _mapped(value: Any, change: Callable[[Tensor], Tensor], rows: list[int] | None) -> Any:
    """Apply ``change`` to every tensor in a nested value; from lists of per-sample values, select ``rows``."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {name: _mapped(item, change, rows) for name, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_mapped(item, change, rows) for item in value)
    if isinstance(value, list) and rows is not None:
        return [value[row] for row in rows]
    return value


def read_case(drawn: Any) -> Case:
    """Convert an example drawn by the author's strategy to a case.

    Raises:
        TypeError: ``drawn`` is neither a ``Case`` nor a pair of model output and batch.
    """
    if isinstance(drawn, Case):
        return drawn
    if isinstance(drawn, tuple) and len(drawn) == len(("outputs", "batch")):
        return Case(ModelOutput.from_raw(drawn[0]), drawn[1])
    raise TypeError(f"batches= must draw a Case or a pair (model output, batch), got {type(drawn).__name__}")


def classification(min_size: int = 1, max_size: int = 6) -> st.SearchStrategy[Case]:
    """Draw class scores ``[batch, 5]`` and int64 labels ``[batch]``."""
    return _drawn(_classification, min_size, max_size)


def soft_labels(min_size: int = 1, max_size: int = 6) -> st.SearchStrategy[Case]:
    """Draw class scores ``[batch, 5]`` and class probabilities of the same shape."""
    return _drawn(_soft_labels, min_size, max_size)


def regression(min_size: int = 1, max_size: int = 6) -> st.SearchStrategy[Case]:
    """Draw predictions and float targets of the same shape: ``[batch]``, ``[batch, 1]`` or ``[batch, 3]``."""
    return _drawn(_regression, min_size, max_size, width=st.sampled_from([(3,), (1,), ()]))


def language_modeling(min_size: int = 1, max_size: int = 4) -> st.SearchStrategy[Case]:
    """Draw token scores ``[batch, time, 5]`` and int64 tokens ``[batch, time]``, some of them with a padding mask."""
    return _drawn(_language_modeling, min_size, max_size, time=st.integers(2, 6), padded=st.booleans())


def _classification(samples: int, seed: int) -> Case:
    targets = torch.randint(NUM_CLASSES, (samples,), generator=torch.Generator().manual_seed(seed))
    return _case("classification", seed, (samples, NUM_CLASSES), targets)


def _soft_labels(samples: int, seed: int) -> Case:
    targets = torch.randn(samples, NUM_CLASSES, generator=torch.Generator().manual_seed(seed)).softmax(dim=1)
    return _case("soft_labels", seed, (samples, NUM_CLASSES), targets)


def _regression(samples: int, seed: int, width: tuple[int, ...] = (3,)) -> Case:
    targets = torch.randn(samples, *width, generator=torch.Generator().manual_seed(seed))
    return _case("regression", seed, (samples, *width), targets)


def _language_modeling(samples: int, seed: int, time: int = 4, padded: bool = False) -> Case:  # noqa: FBT001, FBT002 (drawn by name)
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(NUM_CLASSES, (samples, time), generator=generator)
    case = _case("language_modeling", seed, (samples, time, NUM_CLASSES), targets)
    # At least two positions of each sample are not padding: a loss that shifts the targets needs one to predict.
    lengths = torch.randint(2, time + 1, (samples, 1), generator=generator)
    return case.with_batch(mask=torch.arange(time) < lengths) if padded else case


def _drawn(
    make: Callable[..., Case], min_size: int, max_size: int, **more: st.SearchStrategy[Any]
) -> st.SearchStrategy[Case]:
    # Draw a seed, not elements: drawing and shrinking element by element would take most of the time.
    return st.builds(make, samples=st.integers(min_size, max_size), seed=st.integers(0, 10_000), **more)


def _case(form: str, seed: int, shape: tuple[int, ...], targets: Tensor) -> Case:
    samples = shape[0]
    generator = torch.Generator().manual_seed(seed + 1)
    outputs = ModelOutput(
        torch.randn(shape, generator=generator) * 2, hidden=torch.randn(samples, _HIDDEN, generator=generator)
    )
    # Extras that some trainers and models add: a teacher's logits and the residual of an equation.
    outputs.extras["teacher_logits"] = torch.randn(shape, generator=generator) * 2
    outputs.extras["physics_residual"] = torch.randn(samples, generator=generator)
    batch: Batch = {"inputs": torch.randn(samples, *INPUT_SHAPE, generator=generator), "targets": targets}
    # Metadata of machine recordings: operating conditions, and the recording and time of each window.
    batch["meta"] = {
        "rpm": torch.rand(samples, generator=generator) * 1000 + 800,
        "load_newton": torch.rand(samples, generator=generator) * 1000 + 500,
        "viscosity": torch.rand(samples, generator=generator) * 0.02 + 0.01,
        "recording": torch.randint(2, (samples,), generator=generator),
        "time": torch.rand(samples, generator=generator),
    }
    return Case(outputs, batch, f"{form}(seed={seed}, logits={list(shape)})")


#: Strategies of cases, by the trait that claims support for them.
FORMS: Final[Mapping[str, Callable[[int, int], st.SearchStrategy[Case]]]] = {
    "classification": classification,
    "soft_labels": soft_labels,
    "regression": regression,
    "language_modeling": language_modeling,
}
#: A fixed example case of each form.
EXAMPLES: Final[Mapping[str, Case]] = {
    "classification": _classification(4, 0),
    "soft_labels": _soft_labels(4, 0),
    "regression": _regression(4, 0),
    "language_modeling": _language_modeling(4, 0),
}
