"""What the training loop costs per step, beside a loop written by hand and beside other frameworks.

Everybody trains the same small network on the same ready-made batches, on one thread. A framework's cost per step is
the slope between a short and a long run, so that setting up and ending do not count; it is the processor's time, so
that what else the machine does counts little.

Run ``make bench-steps``, after ``make bench-rivals`` for the others, without which Dovetail alone is timed.
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
from _measure import alternate, ratios, record, see_rivals, table, versions
from _training import BATCH, CLASSES, DATA, FEATURES, LONG, SHORT, adamw, by_hand, dovetail, network, tasks

ROUNDS = 5
HEADER = ["loop", "median µs a step", "fastest", "× by hand"]


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
    taken = []
    for steps in (short, long):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            began = time.process_time()
            train(steps)
            taken.append(time.process_time() - began)
    return (taken[1] - taken[0]) / (long - short)


def rows(figures: Mapping[str, list[float]]) -> list[tuple[str, str, str, str]]:
    """Return the rows of a table: median and least time of a step, and the ratio to the loop written by hand."""
    against = ratios(figures, "by hand")
    return [
        (name, f"{1e6 * statistics.median(values):.0f}", f"{1e6 * min(values):.0f}", f"{against[name]:.3f}")
        for name, values in figures.items()
    ]


def beside_others() -> None:
    """Time everybody on the perceptron, in turn."""
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
        f". Batch {BATCH}, {FEATURES}-256-256-{CLASSES} network, one thread, processor time, medians of {ROUNDS}"
        " alternating rounds; ratios are taken within a round. «Out of the box» is fused AdamW, clipping to a norm of"
        " 1.0 and figures logged every 50 steps; the others log nothing and do not clip. Composer (mosaicml 0.32.1)"
        " is not here: it wants torch below 2.7.1 and torchvision below 0.22.1, and does not import with newer ones."
    )
    record("Steps", "make bench-steps", f"{about}\n\n{table(HEADER, rows(figures))}")


def on_three_networks() -> None:
    """Time Dovetail on networks of three kinds, also with everything watched at every step."""
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
        f". One thread, processor time, medians of {ROUNDS} alternating rounds; ratios are taken within a round."
        " «Everything watched» is training accuracy, all statistics of the gradients, and a line in metrics.jsonl at"
        " every step. «Bit-exact» is run.deterministic, which on a CPU leaves out few algorithms."
    )
    record("Steps on three networks", "make bench-steps", f"{about}\n{text}")


def main() -> None:
    """Time everybody in turn."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    see_rivals()
    if find_spec("ignite"):
        beside_others()
    on_three_networks()


if __name__ == "__main__":
    main()
