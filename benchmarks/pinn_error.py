"""Time of a PINN until it reaches the error of the paper, compared with a plain torch script: Burgers' equation.

Both use the run file's recipe, with the same initial weights and points, until the relative L2 error over the authors'
grid is 6.7e-4, evaluated after every fifty iterations of L-BFGS. They run side by side, each in a process on one
thread. The benchmark measures processor time without these evaluations. It takes a quarter of an hour on a machine with
two cores. Run ``make bench-pinn_error``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _measure import record, table, versions
from attrs import define, field
from pinn import EXAMPLE, KNOWN, ByHand, quiet

from dovetail import Config, Run
from dovetail.main import run
from dovetail_signals.pinn.data import pde_points

DATA = Path(os.environ.get("DOVETAIL_DATA", Path(__file__).parents[2] / "shared" / "data"))
GRID = DATA / "pde" / "burgers_shock.npz"
TARGET, SEED = 6.7e-4, 0
ADAM, LBFGS, INNER = 500, 200, 50  # the run file's


@define
class Watch:
    """Evaluates the error while the clock is paused."""

    seconds: float = field(init=False, default=0.0)
    error: float = field(init=False, default=float("inf"))
    steps: int = field(init=False, default=0)
    _since: float = field(init=False, factory=time.process_time)

    def evaluate(self, solution: Callable[[torch.Tensor], torch.Tensor]) -> bool:
        """Record time and error; return whether the target is reached."""
        self.seconds += time.process_time() - self._since
        self.steps += 1
        with np.load(GRID) as grid, torch.no_grad():
            points = torch.from_numpy(
                np.stack(np.meshgrid(grid["x"], grid["t"], indexing="ij"), axis=-1).reshape(-1, 2)
            )
            true = torch.from_numpy(grid["u"].reshape(-1))
            self.error = float((solution(points).reshape(-1) - true).norm() / true.norm())
        self._since = time.process_time()
        return self.error <= TARGET


class StopAt:
    """Stops a run of Dovetail once its error reaches the target."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def dovetail_batch_end(self, run: Run, step: int) -> None:
        """Evaluate the error after each step of L-BFGS."""
        if step > ADAM and self.watch.evaluate(run.parts.model):
            run.request_stop("the target error is reached", self)


class InitialWeights:
    """Copies the initial weights of a run, and stops it."""

    def dovetail_run_start(self, run: Run) -> None:
        """Copy the weights."""
        self.weights = [parameter.detach().clone() for parameter in run.parts.model.parameters()]
        run.request_stop("the initial weights are copied", self)


def train(callback: object) -> None:
    """Train the run file with a callback."""
    with tempfile.TemporaryDirectory() as folder:
        parts: dict[str, Any] = {"run": {"seed": SEED}, "callbacks": {"map": callback}, **quiet(folder)}
        run(Config.load(EXAMPLE).with_parts(**parts).build())


def by_hand() -> Watch:
    """Train by hand."""
    initial, training = InitialWeights(), ByHand()
    train(initial)
    points = pde_points(problem="burgers", dtype="float64", seed=SEED).train
    training.start_from(initial.weights, points.inputs, points.values[-KNOWN:])
    watch = Watch()
    training.train(ADAM, LBFGS, INNER, lambda: watch.evaluate(training.net))
    return watch


def with_dovetail() -> Watch:
    """Train the run file."""
    watch = Watch()
    train(StopAt(watch))
    return watch


TRAININGS = {"by hand": by_hand, "Dovetail": with_dovetail}


def main() -> None:
    """Train both side by side."""
    commands = {name: [sys.executable, __file__, name] for name in TRAININGS}
    processes = {
        name: subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for name, command in commands.items()
    }
    results = {name: process.communicate()[0].split() for name, process in processes.items()}
    base = float(results["by hand"][0])
    rows = [
        (name, f"{float(error):.2e}", str(INNER * int(steps)), f"{float(seconds):.0f}", f"{float(seconds) / base:.3f}")
        for name, (seconds, error, steps) in results.items()
    ]
    about = versions("dovetail", "dovetail-signals", "torch")
    about += (
        f". The recipe of examples/pinn/burgers.toml with seed {SEED}, one thread each, side by side; processor time"
        f" until the error is {TARGET:g} or less."
    )
    body = table(["training", "error", "iterations of L-BFGS", "seconds", "× by hand"], rows)
    record("PINN, time to the paper's error", "make bench-pinn_error", f"{about}\n\n{body}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        watched = TRAININGS[sys.argv[1]]()
        print(watched.seconds, watched.error, watched.steps)
    else:
        main()
