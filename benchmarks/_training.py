"""The training loops that the benchmarks of steps and memory measure: by hand and with Dovetail.

Importing this module imports torch but not Dovetail, so the benchmarks can tell the costs of the two apart.
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
    """Return a small perceptron with the same weights every time."""
    torch.manual_seed(1)
    layers = torch.nn.Linear
    return torch.nn.Sequential(
        layers(FEATURES, 256), torch.nn.ReLU(), layers(256, 256), torch.nn.ReLU(), layers(256, CLASSES)
    )


def convolutional() -> torch.nn.Module:
    """Return a small convolutional network."""
    torch.manual_seed(1)
    conv = torch.nn.Conv2d
    return torch.nn.Sequential(
        conv(1, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2), conv(16, 32, 3, padding=1), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(32, CLASSES),
    )  # fmt: skip


class Transformer(torch.nn.Module):
    """A small transformer of torch's layers; classes are in dimension 1, as cross-entropy expects."""

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
    """A network and its batches."""

    name: str
    make: Callable[[], torch.nn.Module]
    data: list[tuple[torch.Tensor, torch.Tensor]]
    short: int
    long: int


def tasks() -> list[Task]:
    """Return the networks for the comparison with the loop by hand; larger ones run fewer steps."""
    images = [(torch.randn(BATCH, 1, 16, 16), torch.randint(CLASSES, (BATCH,))) for _ in range(300)]
    texts = [(torch.randint(CLASSES, (8, WINDOW)), torch.randint(CLASSES, (8, WINDOW))) for _ in range(300)]
    return [
        Task("perceptron", network, DATA, SHORT, LONG),
        Task("convolutions", convolutional, images, 50, 300),
        Task("transformer", Transformer, texts, 50, 300),
    ]


PERCEPTRON = Task("perceptron", network, DATA, SHORT, LONG)


def adamw(parameters: Iterator[torch.nn.Parameter], **flags: Any) -> torch.optim.Optimizer:
    """Return the optimizer of all candidates except Dovetail with default settings."""
    return torch.optim.AdamW(parameters, lr=1e-3, **flags)


def by_hand(steps: int, task: Task = PERCEPTRON) -> None:
    """Train with a plain torch loop."""
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
    """Train with Dovetail, with its default settings or with those of the other candidates.

    Args:
        steps: number of steps.
        task: network and batches.
        defaults: use fused AdamW, clipping, and metrics every 50 steps.
        watched: compute training accuracy and gradient statistics, and log a line of metrics at every step.
        exact: use only deterministic algorithms of torch (``run.deterministic``).
    """
    from dovetail import Config, StandardTrainer
    from dovetail.main import run

    class Precomputed(StandardTrainer):
        """Trains on precomputed batches instead of those of a loader."""

        def batches(self, run: Run) -> list[Batch]:  # noqa: ARG002 (the seam's signature)
            return batches

    batches: list[Batch] = [{"inputs": inputs, "targets": targets} for inputs, targets in task.data[:steps]]
    with tempfile.TemporaryDirectory() as folder:
        inputs, targets = task.data[0]
        settings: dict[str, Any] = {
            "data": {"type": torch.utils.data.TensorDataset(inputs, targets), "split": {"train": 1.0}},
            "model": {"type": task.make()},
            "loss": {"type": "cross_entropy"},
            "optimizer": {"type": "adamw", "lr": 1e-3},
            "trainer": {"type": Precomputed()},
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
