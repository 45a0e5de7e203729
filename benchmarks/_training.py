"""The trainings that the benchmarks of steps and of memory measure: by hand, and with Dovetail.

Importing this brings torch alone into the process, so that what Dovetail takes can be told from what torch does.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from dovetail import Batch, Run

SHORT, LONG, BATCH, FEATURES, CLASSES = 200, 1200, 32, 64, 10
WINDOW = 32

torch.set_num_threads(1)
torch.manual_seed(0)
DATA = [(torch.randn(BATCH, FEATURES), torch.randint(CLASSES, (BATCH,))) for _ in range(LONG)]


def network() -> torch.nn.Module:
    """Return a small network, the same each time."""
    torch.manual_seed(1)
    layers = torch.nn.Linear
    return torch.nn.Sequential(
        layers(FEATURES, 256), torch.nn.ReLU(), layers(256, 256), torch.nn.ReLU(), layers(256, CLASSES)
    )


def convolutional() -> torch.nn.Module:
    """Return a small network of convolutions."""
    torch.manual_seed(1)
    conv = torch.nn.Conv2d
    return torch.nn.Sequential(
        conv(1, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2), conv(16, 32, 3, padding=1), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(32, CLASSES),
    )  # fmt: skip


class Transformer(torch.nn.Module):
    """A small transformer of torch's own layers; classes are on dimension 1, as cross-entropy takes them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.embed = torch.nn.Embedding(CLASSES, 64)
        layer = torch.nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = torch.nn.Linear(64, CLASSES)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return scores ``[batch, classes, time]``."""
        scores: torch.Tensor = self.head(self.encoder(self.embed(inputs)))
        return scores.transpose(1, 2)


class Task(NamedTuple):
    """A network, and batches for it."""

    name: str
    make: Callable[[], torch.nn.Module]
    data: list[tuple[torch.Tensor, torch.Tensor]]
    short: int
    long: int


def tasks() -> list[Task]:
    """Return the networks that Dovetail alone is tried on; larger ones in fewer steps."""
    images = [(torch.randn(BATCH, 1, 16, 16), torch.randint(CLASSES, (BATCH,))) for _ in range(300)]
    texts = [(torch.randint(CLASSES, (8, WINDOW)), torch.randint(CLASSES, (8, WINDOW))) for _ in range(300)]
    return [
        Task("perceptron", network, DATA, SHORT, LONG),
        Task("convolutions", convolutional, images, 50, 300),
        Task("transformer", Transformer, texts, 50, 300),
    ]


PERCEPTRON = Task("perceptron", network, DATA, SHORT, LONG)


def adamw(parameters: Iterator[torch.nn.Parameter], **flags: Any) -> torch.optim.Optimizer:
    """Return the optimizer of every candidate but Dovetail's own defaults."""
    return torch.optim.AdamW(parameters, lr=1e-3, **flags)


def by_hand(steps: int, task: Task = PERCEPTRON) -> None:
    """Train as people write it by hand."""
    model = task.make()
    optimizer = adamw(model.parameters())
    for inputs, targets in task.data[:steps]:
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()


def dovetail(
    steps: int, task: Task = PERCEPTRON, *, defaults: bool, watched: bool = False, exact: bool = False
) -> None:
    """Train with Dovetail: with the optimizer flags of the others and nothing else on, or as it comes.

    Args:
        steps: how many.
        task: what is trained.
        defaults: fused AdamW, clipping and figures every 50 steps.
        watched: training accuracy, the statistics of the gradients and a line of figures at every step.
        exact: hold torch to algorithms that give the same bits each time (``run.deterministic``).
    """
    from dovetail import Config, StandardTrainer
    from dovetail.main import run

    class ReadyMade(StandardTrainer):
        """Trains on ready-made batches instead of those of a loader."""

        def batches(self, run: Run) -> list[Batch]:  # noqa: ARG002 (the seam's signature)
            return made

    made: list[Batch] = [{"inputs": inputs, "targets": targets} for inputs, targets in task.data[:steps]]
    with tempfile.TemporaryDirectory() as folder:
        inputs, targets = task.data[0]
        settings: dict[str, Any] = {
            "data": {"type": torch.utils.data.TensorDataset(inputs, targets), "split": {"train": 1.0}},
            "model": {"type": task.make()},
            "loss": {"type": "cross_entropy"},
            "optimizer": {"type": "adamw", "lr": 1e-3},
            "trainer": {"type": ReadyMade()},
            "training": {"max_steps": steps, "test": False},
            "hardware": {"device": "cpu", "threads": 1},
            "paths": {"output": folder},
            "report": {"enabled": False},
        }
        if not defaults:
            settings["optimizer"]["fused"] = False
            settings["training"]["max_grad_norm"] = None
            settings["logging"] = {"every": LONG}
        if exact:
            settings["run"] = {"deterministic": True}
        if watched:
            settings["training"]["train_metrics"] = True
            settings["metrics"] = {"accuracy": {"type": "accuracy", "class_dim": 1}}
            settings["callbacks"] = {"gradients": {"type": "gradient_monitor", "on_critical": "alert"}}
            settings["logging"] = {"every": 1}
        run(Config.from_dict(settings).build())
