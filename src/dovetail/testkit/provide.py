"""The values that the kit provides to a factory in place of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

#: The shapes of one sample's input that the kit tries with a model, in this order.
INPUT_SHAPES: Final = ((32,), (1, 32), (1, 8, 8), (3, 16, 16))

#: The number of classes, and of tokens, in everything that the kit draws.
NUM_CLASSES: Final = 5
TOTAL_STEPS: Final = 24
STEPS_PER_EPOCH: Final = 4
_EVERY_KIND: Final = {
    "seed": 42,
    "num_classes": NUM_CLASSES,
    "class_counts": [40, 25, 10, 20, 5],
    "vocab_size": NUM_CLASSES,
    "total_steps": TOTAL_STEPS,
    "steps_per_epoch": STEPS_PER_EPOCH,
    "max_epochs": TOTAL_STEPS // STEPS_PER_EPOCH,
}


def provisions(kind: str) -> Iterator[dict[str, Any]]:
    """Yield the values a run might provide to a factory of ``kind``: for a model, once for each shape of its input."""
    match kind:
        case "model":
            for shape in INPUT_SHAPES:
                yield {**_EVERY_KIND, "input_shape": shape}
        case "optimizer":
            yield {**_EVERY_KIND, "params": parameters()}
        case "scheduler":
            yield {**_EVERY_KIND, "optimizer": two_group_sgd()}
        case _:
            yield dict(_EVERY_KIND)


def parameters() -> list[Any]:
    """Return two parameters to optimise, ``[2, 3]`` and ``[3]``."""
    import torch
    from torch import nn

    return [nn.Parameter(torch.linspace(-1, 1, 6).reshape(2, 3)), nn.Parameter(torch.linspace(0.5, 1, 3))]


def two_group_sgd() -> Any:
    """Return an optimizer with two groups of different learning rates, 0.1 and 0.01, and momentum."""
    from torch.optim import SGD

    first, second = parameters()
    return SGD([{"params": [first], "lr": 0.1}, {"params": [second], "lr": 0.01}], momentum=0.9)
