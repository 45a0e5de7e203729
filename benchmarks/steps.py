"""What the training loop costs per step, beside a loop written by hand and beside other frameworks.

Everybody trains the same small network on the same ready-made batches, on one thread. A framework's cost per step is
the slope between a short and a long run, so that setting up and ending do not count.

Run ``make bench-steps``, after ``make bench-rivals`` for the others; who is not installed is left out.
"""

from __future__ import annotations

import contextlib
import io
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from _measure import alternate, ratios, record, see_rivals, table, versions

from dovetail import Batch, Config, Run, StandardTrainer
from dovetail.run import run

SHORT, LONG, ROUNDS, BATCH, FEATURES, CLASSES = 200, 1200, 9, 32, 64, 10

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


def adamw(parameters: Iterator[torch.nn.Parameter], **flags: Any) -> torch.optim.Optimizer:
    """Return the optimizer of every candidate but Dovetail's own defaults."""
    return torch.optim.AdamW(parameters, lr=1e-3, **flags)


def by_hand(steps: int) -> None:
    """Train as people write it by hand."""
    model = network()
    optimizer = adamw(model.parameters())
    for inputs, targets in DATA[:steps]:
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()


class ReadyMade(StandardTrainer):
    """Trains on the batches above instead of those of a loader."""

    def __init__(self, steps: int) -> None:
        """Take as many batches as there are steps."""
        self.made: list[Batch] = [{"inputs": inputs, "targets": targets} for inputs, targets in DATA[:steps]]

    def batches(self, run: Run) -> list[Batch]:  # noqa: ARG002 (the seam's signature)
        """Return the ready-made batches."""
        return self.made


def dovetail(steps: int, *, defaults: bool) -> None:
    """Train with Dovetail: with the optimizer flags of the others and nothing else on, or as it comes."""
    with tempfile.TemporaryDirectory() as folder:
        settings: dict[str, Any] = {
            "data": {"type": torch.utils.data.TensorDataset(DATA[0][0], DATA[0][1]), "split": {"train": 1.0}},
            "model": {"type": network()},
            "loss": {"type": "cross_entropy"},
            "optimizer": {"type": "adamw", "lr": 1e-3},
            "trainer": {"type": ReadyMade(steps)},
            "training": {"max_steps": steps, "test": False},
            "hardware": {"device": "cpu", "threads": 1},
            "paths": {"output": folder},
            "report": {"enabled": False},
        }
        if not defaults:
            settings["optimizer"]["fused"] = False
            settings["training"]["max_grad_norm"] = None
            settings["logging"] = {"every": LONG}
        run(Config.from_dict(settings).build())


def ready_made(batches: list[Any]) -> torch.utils.data.DataLoader[Any]:
    """Return a loader that hands out ready-made batches, for those who insist on one."""
    return torch.utils.data.DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch)


def lightning(steps: int) -> None:
    """Train with Lightning's Trainer."""
    import lightning as L

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def training_step(self, batch: Any) -> torch.Tensor:
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return adamw(self.parameters())

    L.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(Module(), ready_made(DATA[:steps]))


def hugging_face(steps: int) -> None:
    """Train with the Trainer of transformers."""
    from transformers import Trainer, TrainingArguments

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, inputs: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            logits = self.net(inputs)
            return {"loss": F.cross_entropy(logits, labels), "logits": logits}

    ready = [{"inputs": inputs, "labels": targets} for inputs, targets in DATA[:steps]]

    class ReadyMadeTrainer(Trainer):  # type: ignore[misc]  # transformers is not installed where types are checked
        def get_train_dataloader(self) -> Any:
            return ready_made(ready)

    with tempfile.TemporaryDirectory() as folder:
        model = Net()
        arguments = TrainingArguments(
            folder, max_steps=steps, use_cpu=True, report_to=[], save_strategy="no", logging_strategy="no",
            disable_tqdm=True, max_grad_norm=0.0, lr_scheduler_type="constant",
        )  # fmt: skip
        ReadyMadeTrainer(model, arguments, optimizers=(adamw(model.parameters()), None)).train()


def ignite(steps: int) -> None:
    """Train with Ignite's Engine."""
    from ignite.engine import create_supervised_trainer

    model = network()
    create_supervised_trainer(model, adamw(model.parameters()), F.cross_entropy).run(DATA[:steps], max_epochs=1)


def accelerate(steps: int) -> None:
    """Train by hand through Accelerate."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    net = network()
    model, optimizer = accelerator.prepare(net, adamw(net.parameters()))
    for inputs, targets in DATA[:steps]:
        optimizer.zero_grad(set_to_none=True)
        accelerator.backward(F.cross_entropy(model(inputs), targets))
        optimizer.step()


def per_step(train: Callable[[int], None]) -> float:
    """Return seconds per step: the slope between a short and a long run."""
    taken = []
    for steps in (SHORT, LONG):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            began = time.perf_counter()
            train(steps)
            taken.append(time.perf_counter() - began)
    return (taken[1] - taken[0]) / (LONG - SHORT)


def main() -> None:
    """Time everybody in turn."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    see_rivals()
    candidates: dict[str, Callable[[int], None]] = {
        "by hand": by_hand,
        "by hand, a second time (noise)": by_hand,
        "Dovetail, same optimizer flags": lambda steps: dovetail(steps, defaults=False),
        "Dovetail, out of the box": lambda steps: dovetail(steps, defaults=True),
    }
    rivals = {"ignite": ignite, "accelerate": accelerate, "lightning": lightning, "transformers": hugging_face}
    candidates |= {name: train for name, train in rivals.items() if find_spec(name)}
    figures = alternate({name: lambda train=train: per_step(train) for name, train in candidates.items()}, ROUNDS)
    against = ratios(figures, "by hand")
    rows = [
        (name, f"{1e6 * statistics.median(values):.0f}", f"{1e6 * min(values):.0f}", f"{against[name]:.3f}")
        for name, values in figures.items()
    ]
    about = versions("dovetail", "torch", "pytorch-ignite", "accelerate", "lightning", "transformers")
    about += (
        f". Batch {BATCH}, {FEATURES}-256-256-{CLASSES} network, one thread, medians of {ROUNDS} alternating rounds;"
        " ratios are taken within a round. «Out of the box» is fused AdamW, clipping to a norm of 1.0 and figures"
        " logged every 50 steps; the others log nothing and do not clip."
    )
    body = table(["loop", "median µs a step", "fastest", "× by hand"], rows)
    record("Steps", "make bench-steps", f"{about}\n\n{body}")


if __name__ == "__main__":
    main()
