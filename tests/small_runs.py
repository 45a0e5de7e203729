"""Configs of small runs, on data that a model learns in a second."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dovetail.config.api import Config
from dovetail.config.schema import RunConfig
from dovetail.data import Splits
from dovetail.data.samples import TensorSamples
from dovetail.distributed.group import ALONE, Group
from dovetail.record.run_directory import RunDirectory
from dovetail.train.assembly import assemble
from dovetail.train.context import Run
from dovetail.train.trainer import StandardTrainer

#: The settings of most small runs; :func:`small` merges its arguments into them.
BASE: Mapping[str, Any] = {
    "model": {"type": "mlp", "hidden_dims": [16]},
    "loss": {"type": "cross_entropy"},
    "optimizer": {"type": "adamw", "lr": 1e-2},
    "training": {"max_epochs": 2},
    "metrics": {"accuracy": {"type": "accuracy"}},
    "loader": {"batch_size": 16},
    "report": {"enabled": False},
    "hardware": {"device": "cpu", "threads": 1},
}


def blobs(samples: int, seed: int = 0) -> TensorSamples:
    """Return points of three well-separated classes in four dimensions."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(samples) % 3
    centres = torch.tensor([[2.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 2.0, 0]])
    inputs = centres[targets] + 0.5 * torch.randn(samples, 4, generator=generator)
    return TensorSamples(inputs, targets, ("a", "b", "c"), "blobs")


def three_blobs() -> Splits:
    """Return 100 samples to train on (a ragged last batch at size 16), 30 to validate and 30 to test."""
    return Splits(blobs(100), blobs(30, seed=1), blobs(30, seed=2))


def small(output: Path, *, data: Any = None, **sections: Any) -> RunConfig:
    """Return a checked config.

    Args:
        output: the folder of all runs.
        data: the dataset, an object or a table; :func:`three_blobs` by default.
        sections: merged into :data:`BASE`, table by table; parts may be objects.
    """
    config = Config.from_dict(dict(BASE)).with_parts(paths={"output": str(output)})
    parts = {"data": three_blobs() if data is None else data, **sections}
    return config.with_parts(**parts).build()


def only_run(output: Path, name: str = "run") -> Path:
    """Return the folder of the only run."""
    (folder,) = [path for path in (output / name).iterdir() if path.is_dir()]
    return folder


def events(output: Path) -> list[dict[str, Any]]:
    """Return what the only run logged."""
    lines = (only_run(output) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def of_kind(output: Path, event: str) -> list[dict[str, Any]]:
    """Return the events of one kind."""
    return [line for line in events(output) if line["event"] == event]


def alerts(output: Path, kind: str) -> list[str]:
    """Return the messages of the only run's alerts of one type."""
    file = only_run(output) / "alerts.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [line["message"] for line in lines if line["type"] == kind]


def built(output: Path, group: Group = ALONE, **sections: Any) -> Run:
    """Return a run that was just built in a new folder, with a model that always starts from the same weights.

    Args:
        output: the folder of all runs.
        group: its processes.
        sections: as for :func:`small`.
    """
    with RunDirectory.create(output, f"rank-{group.rank}") as store:
        torch.manual_seed(0)
        return assemble(small(output, **sections), torch.device("cpu"), store, group)


class Keep:
    """A callback that keeps the run."""

    def dovetail_run_start(self, run: Any) -> None:
        """Keep the run."""
        self.run = run


class StopAt:
    """A callback that interrupts the run after an update, as a signal does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def dovetail_batch_end(self, run: Any, step: int) -> None:
        """Request the stop."""
        if step == self.step:
            run.request_stop("that is enough", by="test", status="interrupted")


class SmallBatches(StandardTrainer):
    """Trains on 20 batches of 5 samples per epoch, where the loader has 7 batches."""

    def batches(self, run: Any) -> Any:
        """Yield the batches in an order that depends on the epoch."""
        order = torch.randperm(100, generator=torch.Generator().manual_seed(run.state.epoch))
        for chosen in list(order.split(5))[run.state.batch :]:
            yield run.parts.loaders.train.reread(run.state.epoch, chosen.numpy())


class CountedBatches(SmallBatches):
    """Also says how many batches there are."""

    def num_batches(self, loader: Any) -> int:
        """Return the number of batches."""
        return len(loader.dataset) // 5


class Calls:
    """A callback that notes every call of a hook."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def dovetail_epoch_start(self, epoch: int) -> None:
        """Note the call."""
        self.seen.append(f"epoch {epoch} starts")

    def dovetail_batch_start(self, step: int) -> None:
        """Note the call."""
        self.seen.append(f"before update {step + 1}")

    def dovetail_batch_end(self, step: int, loss: torch.Tensor) -> None:
        """Note the call."""
        assert loss.ndim == 0
        assert not loss.requires_grad
        self.seen.append(f"after update {step}")

    def dovetail_validation_end(self, metrics: dict[str, float]) -> None:
        """Note the call."""
        self.seen.append(f"validated {sorted(metrics)}")

    def dovetail_epoch_end(self, epoch: int) -> None:
        """Note the call."""
        self.seen.append(f"epoch {epoch} ends")

    def dovetail_checkpoint_saved(self, checkpoint: Any) -> None:
        """Note the call."""
        self.seen.append(f"saved {checkpoint.step}")
