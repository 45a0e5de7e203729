"""Configurations of small runs of dovetail-signals, on simulated bearings and on the heat equation."""

from __future__ import annotations

from torch import nn

from dovetail import Config
from dovetail.main import run
from dovetail_signals.pinn.points import Where

STFT = {"stft": {"type": "signals.stft", "n_fft": 64}}

HEAT = {
    "run": {"name": "heat"},
    "data": {"type": "signals.pde", "problem": "heat", "interior": 100, "initial": 20, "boundary": 20, "passes": 5},
    "loader": {"batch_size": 140, "shuffle": False},
    "model": {"type": "signals.pinn", "problem": "heat", "hidden_dims": [8, 8]},
    "loss": {"type": "signals.pde", "problem": "heat"},
    "optimizer": {"type": "adam", "lr": 0.01},
    "trainer": {"type": "signals.pinn"},
    "training": {"max_epochs": 3},
    "metrics": {"error": {"type": "signals.relative_l2"}},
    "checkpoint": {"monitor": "train_loss"},
    "hardware": {"device": "cpu", "threads": 1},
    "logging": {"console": False},
    "report": {"enabled": False},
}


def overlay(*layers):
    """Return the tables of all layers; later layers override keys of earlier ones."""
    tables = {}
    for layer in layers:
        for section, table in layer.items():
            tables[section] = {**tables.get(section, {}), **table}
    return tables


def heat_config(folder, *layers):
    """Return the configuration of a PINN for the heat equation, overridden by layers."""
    return Config.from_dict(overlay(HEAT, {"paths": {"output": str(folder)}}, *layers)).build()


def run_folder(output):
    """Return the folder of the only run below ``output``."""
    (folder,) = (path for path in output.glob("*/*") if path.is_dir())
    return folder


class InteriorPoints:
    """Collect the interior points of every epoch."""

    def __init__(self):
        self.points = []

    def dovetail_epoch_end(self, run):
        """Copy the points."""
        samples = run.parts.loaders.train.dataset
        self.points.append(samples.inputs[samples.where == Where.INTERIOR].clone())


class Recorder(nn.Module):
    """A model that records its mode and inputs."""

    def __init__(self, channels=1):
        super().__init__()
        self.head = nn.Linear(channels, 5)
        self.seen = []

    def forward(self, inputs):
        """Return logits of the mean over time."""
        self.seen.append((self.training, inputs.detach().clone()))
        return self.head(inputs.flatten(2).mean(-1))


def rolling_config(folder, model, trainer, loss=None, *, epochs=2, transforms=None, meta=()):
    """Return the configuration of a run on simulated bearings."""
    table = {
        "run": {"name": "trained", "seed": 3},
        "data": {
            "type": "signals.simulated_rolling",
            "recordings": 4,
            "seconds": 0.2,
            "window": 512,
            "meta": list(meta),
            "split": {"validation": 0.25, "test": 0, "stratify": True},
        },
        "transforms": transforms or {},
        "model": model,
        "loss": loss or {"type": "cross_entropy"},
        "optimizer": {"type": "adamw"},
        "loader": {"batch_size": 16},
        "training": {"max_epochs": epochs},
        "trainer": trainer,
        "hardware": {"device": "cpu", "threads": 1},
        "report": {"enabled": False},
        "logging": {"console": False},
        "paths": {"output": str(folder)},
    }
    return Config.from_dict(table).build()


def train(*args, **options):
    """Train on simulated bearings and return the outcome."""
    return run(rolling_config(*args, **options)).check()
