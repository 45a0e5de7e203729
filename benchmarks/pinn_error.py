"""How long a PINN takes to the error of the paper, beside a script written by hand: Burgers' equation.

Both train by the run file's recipe until the relative L2 error over the authors' grid is 6.7e-4, looked at after every
fifty iterations of L-BFGS. Measured is the processor time, without the looking. A training takes from ten minutes
to half an hour. Run ``make bench-pinn_error``.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from _measure import record, table, versions
from attrs import define, field
from pinn import EXAMPLE, ByHand

from dovetail import Config, Run
from dovetail.run import run

DATA = Path(os.environ.get("DOVETAIL_DATA", Path(__file__).parents[2] / "shared" / "data"))
GRID = DATA / "pde" / "burgers_shock.npz"
AIM, SEEDS = 6.7e-4, (0,)
ADAM, LBFGS, INNER = 500, 200, 50  # the run file's


@define
class Watch:
    """Looks at the error while the clock stands still."""

    seconds: float = field(init=False, default=0.0)
    error: float = field(init=False, default=float("inf"))
    steps: int = field(init=False, default=0)
    _since: float = field(init=False, factory=time.process_time)

    def look(self, solution: Callable[[torch.Tensor], torch.Tensor]) -> bool:
        """Note time and error; return whether the aim is reached."""
        self.seconds += time.process_time() - self._since
        self.steps += 1
        with np.load(GRID) as grid, torch.no_grad():
            places = torch.from_numpy(
                np.stack(np.meshgrid(grid["x"], grid["t"], indexing="ij"), axis=-1).reshape(-1, 2)
            )
            true = torch.from_numpy(grid["u"].reshape(-1))
            self.error = float((solution(places).reshape(-1) - true).norm() / true.norm())
        self._since = time.process_time()
        return self.error <= AIM


class StopAt:
    """Ends a run of Dovetail once its error is small enough."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def dovetail_batch_end(self, run: Run, step: int) -> None:
        """Look at the error after each step of L-BFGS."""
        if step > ADAM and self.watch.look(run.parts.model):
            run.request_stop("the error is reached", self)


def by_hand(seed: int) -> Watch:
    """Train by hand."""
    watch, training = Watch(), ByHand(seed)
    training.train(ADAM, LBFGS, INNER, lambda: watch.look(training.net))
    return watch


def with_dovetail(seed: int) -> Watch:
    """Train the run file."""
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        config = Config.load(EXAMPLE).with_parts(
            run={"seed": seed},
            training={"test": False},
            callbacks={"map": StopAt(watch)},
            hardware={"device": "cpu", "threads": 1},
            logging={"console": False},
            report={"enabled": False},
            paths={"output": folder},
        )
        run(config.build())
    return watch


def main() -> None:
    """Train both with each seed, in turn."""
    rows = []
    for seed in SEEDS:
        for name, train in {"by hand": by_hand, "Dovetail": with_dovetail}.items():
            watch = train(seed)
            reached = "" if watch.error <= AIM else f", not {AIM:g}"
            rows.append(
                (name, str(seed), f"{watch.error:.2e}{reached}", str(INNER * watch.steps), f"{watch.seconds:.0f}")
            )
            print(rows[-1], flush=True)
    about = versions("dovetail", "dovetail-signals", "torch")
    about += (
        f". The recipe of examples/pinn/burgers.toml, one thread; processor time until the error is {AIM:g} or less."
    )
    body = table(["training", "seed", "error", "iterations of L-BFGS", "seconds"], rows)
    record("PINN, time to the paper's error", "make bench-pinn_error", f"{about}\n\n{body}")


if __name__ == "__main__":
    main()
