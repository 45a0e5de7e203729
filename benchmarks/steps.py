"""Time of the training loop per step, compared with a plain torch loop and other frameworks.

All candidates train the same small network on the same precomputed batches, on one thread. The time per step is the
slope between a short and a long run, which excludes setup and teardown. It is processor time, which other processes on
the machine affect little.

Run ``make bench-steps``, after ``make bench-rivals`` for the other frameworks; without them, only Dovetail is timed.
"""

from __future__ import annotations

import contextlib
import io
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from _measure import add_rivals_to_path, alternate, ratios, record, table, versions
from _training import BATCH, CLASSES, DATA, FEATURES, LONG, SHORT, adamw, by_hand, dovetail, network, tasks

ROUNDS = 5
HEADER = ["loop", "median µs per step", "fastest", "× by hand"]


def precomputed(batches: list[Any]) -> torch.utils.data.DataLoader[Any]:
    """Return a loader of precomputed batches, for frameworks that require a loader."""
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
    ).fit(Module(), precomputed(DATA[:steps]))


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

    batches = [{"inputs": inputs, "labels": targets} for inputs, targets in DATA[:steps]]

    class PrecomputedTrainer(Trainer):  # type: ignore[misc]  # transformers is not installed where types are checked
        def get_train_dataloader(self) -> Any:
            return precomputed(batches)

    with tempfile.TemporaryDirectory() as folder:
        model = Net()
        arguments = TrainingArguments(
            folder, max_steps=steps, use_cpu=True, report_to=[], save_strategy="no", logging_strategy="no",
            disable_tqdm=True, max_grad_norm=0.0, lr_scheduler_type="constant",
        )  # fmt: skip
        PrecomputedTrainer(model, arguments, optimizers=(adamw(model.parameters()), None)).train()


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


def torchtnt(steps: int) -> None:
    """Train with torchtnt's loop."""
    from torchtnt.framework.state import State
    from torchtnt.framework.train import train
    from torchtnt.framework.unit import TrainUnit

    class Unit(TrainUnit[tuple[torch.Tensor, torch.Tensor]]):  # type: ignore[misc]  # not installed where types are checked
        def __init__(self) -> None:
            super().__init__()
            self.net = network()
            self.optimizer = adamw(self.net.parameters())

        def train_step(self, state: State, data: tuple[torch.Tensor, torch.Tensor]) -> None:  # noqa: ARG002 (its signature)
            self.optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(self.net(data[0]), data[1]).backward()
            self.optimizer.step()

    train(Unit(), DATA[:steps], max_epochs=1)


def per_step(train: Callable[[int], None], short: int = SHORT, long: int = LONG) -> float:
    """Return CPU seconds per step: the slope between a short and a long run."""
    seconds = []
    for steps in (short, long):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            started = time.process_time()
            train(steps)
            seconds.append(time.process_time() - started)
    return (seconds[1] - seconds[0]) / (long - short)


def rows(figures: Mapping[str, list[float]]) -> list[tuple[str, str, str, str]]:
    """Return the rows of a table: median and minimum time of a step, and the ratio to the loop by hand."""
    against = ratios(figures, "by hand")
    return [
        (name, f"{1e6 * statistics.median(values):.0f}", f"{1e6 * min(values):.0f}", f"{against[name]:.3f}")
        for name, values in figures.items()
    ]


def compare_frameworks() -> None:
    """Time all frameworks on the perceptron, alternating."""
    candidates: dict[str, Callable[[int], None]] = {
        "by hand": by_hand,
        "by hand, a second time (noise)": by_hand,
        "Dovetail, same optimizer flags": lambda steps: dovetail(steps, defaults=False),
        "Dovetail, out of the box": lambda steps: dovetail(steps, defaults=True),
    }
    rivals = {"ignite": ignite, "accelerate": accelerate, "torchtnt": torchtnt}
    rivals |= {"lightning": lightning, "transformers": hugging_face}
    candidates |= {name: train for name, train in rivals.items() if find_spec(name)}
    figures = alternate({name: lambda train=train: per_step(train) for name, train in candidates.items()}, ROUNDS)
    about = versions("dovetail", "torch", "pytorch-ignite", "accelerate", "torchtnt", "lightning", "transformers")
    about += (
        f". Batch {BATCH}, {FEATURES}-256-256-{CLASSES} network, one thread, processor time, medians of {ROUNDS} "
        "alternating rounds; ratios are taken within a round. “Out of the box” is fused AdamW, clipping to a norm of "
        "1.0 and metrics logged every 50 steps; the others neither log nor clip. Composer (mosaicml 0.32.1) is "
        "missing: it requires torch below 2.7.1 and torchvision below 0.22.1, and does not import with newer "
        "versions."
    )
    record("Steps", "make bench-steps", f"{about}\n\n{table(HEADER, rows(figures))}")


def compare_networks() -> None:
    """Time Dovetail on three kinds of networks, also with all monitoring at every step."""
    text = ""
    for task in tasks():
        candidates: dict[str, Callable[[int], None]] = {
            "by hand": lambda steps, task=task: by_hand(steps, task),
            "by hand, a second time (noise)": lambda steps, task=task: by_hand(steps, task),
            "Dovetail, same optimizer flags": lambda steps, task=task: dovetail(steps, task, defaults=False),
            "the same, everything watched": lambda steps, task=task: dovetail(
                steps, task, defaults=False, watched=True
            ),
            "Dovetail, out of the box": lambda steps, task=task: dovetail(steps, task, defaults=True),
            "the same, bit-exact": lambda steps, task=task: dovetail(steps, task, defaults=True, exact=True),
        }
        timed = {
            name: lambda train=train, task=task: per_step(train, task.short, task.long)
            for name, train in candidates.items()
        }
        text += f"\n### {task.name.capitalize()}\n\n{table(HEADER, rows(alternate(timed, ROUNDS)))}\n"
    about = versions("dovetail", "torch") + (
        f". One thread, processor time, medians of {ROUNDS} alternating rounds; ratios are taken within a round. "
        "“Everything watched” is training accuracy, all gradient statistics, and a line in metrics.jsonl at every "
        "step. “Bit-exact” is run.deterministic, which excludes few algorithms on a CPU."
    )
    record("Steps on three networks", "make bench-steps", f"{about}\n{text}")


def main() -> None:
    """Run all comparisons."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    add_rivals_to_path()
    if find_spec("ignite"):
        compare_frameworks()
    compare_networks()


if __name__ == "__main__":
    main()
