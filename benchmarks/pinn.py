"""Time of a PINN per evaluation, compared with a plain torch script: Burgers' equation, the recipe of the first paper.

Both train the same network on the same number of points with Adam, then L-BFGS. The benchmark measures processor time
per evaluation of loss and gradient without the startup: the slope between a short and a long training. Run
``make bench-pinn``.
"""

from __future__ import annotations

import itertools
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from _measure import alternate, ratios, record, table, versions

from dovetail import Config, Run
from dovetail.main import run

POINTS, KNOWN, LAYERS, WIDTH = 10_000, 100, 8, 20
ADAM, LBFGS, INNER = 10, 1, 20
SHORT, LONG, ROUNDS = 1, 3, 3
DTYPE, WEIGHT = torch.float64, 1e4  # the run file's
EXAMPLE = Path(__file__).parents[1] / "examples" / "pinn" / "burgers.toml"

torch.set_num_threads(1)


class ByHand:
    """The training as a plain torch script."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        sizes = [2, *[WIDTH] * LAYERS, 1]
        self.layers = [torch.nn.Linear(before, after, dtype=DTYPE) for before, after in itertools.pairwise(sizes)]
        for layer in self.layers:
            torch.nn.init.xavier_normal_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
        self.parameters = [parameter for layer in self.layers for parameter in layer.parameters()]
        start = torch.stack([2 * torch.rand(KNOWN // 2) - 1, torch.zeros(KNOWN // 2)], dim=1)
        ends = torch.stack([torch.tensor([-1.0, 1.0]).repeat(KNOWN // 4), torch.rand(KNOWN // 2)], dim=1)
        inside = torch.rand(POINTS, 2) * torch.tensor([2.0, 1.0]) - torch.tensor([1.0, 0.0])
        self.values = torch.cat([-torch.sin(math.pi * start[:, :1]), torch.zeros(KNOWN // 2, 1)]).to(DTYPE)
        self.points = torch.cat([inside, start, ends]).to(DTYPE).requires_grad_()
        self.evaluations = 0

    def start_from(self, weights: Sequence[torch.Tensor], points: torch.Tensor, values: torch.Tensor) -> None:
        """Use these weights and points ``[N, 2]``; ``values`` are the known solutions at the last points."""
        for parameter, weight in zip(self.parameters, weights, strict=True):
            parameter.data.copy_(weight)
        self.points, self.values = points.clone().requires_grad_(), values

    def net(self, x: torch.Tensor) -> torch.Tensor:
        """Return the solution at points ``[N, 2]``."""
        hidden = torch.stack([x[:, 0], 2 * x[:, 1] - 1], dim=1)
        for layer in self.layers[:-1]:
            hidden = torch.tanh(layer(hidden))
        result: torch.Tensor = self.layers[-1](hidden)
        return result

    def closure(self) -> torch.Tensor:
        """Evaluate the loss and its gradient."""
        self.evaluations += 1
        self.optimizer.zero_grad()
        u = self.net(self.points)
        (first,) = torch.autograd.grad(u.sum(), self.points, create_graph=True)
        u_x, u_t = first[:, :1], first[:, 1:]
        u_xx = torch.autograd.grad(u_x.sum(), self.points, create_graph=True)[0][:, :1]
        residual = u_t + u * u_x - 0.01 / math.pi * u_xx
        off = (u[POINTS:] - self.values).square()
        terms = residual.square().mean() + off[: KNOWN // 2].mean() + off[KNOWN // 2 :].mean()
        loss = WEIGHT * terms
        loss.backward()
        return loss

    def train(self, adam: int, lbfgs: int, inner: int, enough: Callable[[], bool] = lambda: False) -> None:
        """Run ``adam`` and ``lbfgs`` updates, L-BFGS with ``inner`` iterations; stop early if ``enough()``."""
        self.optimizer: torch.optim.Optimizer = torch.optim.Adam(self.parameters, lr=1e-3)
        for _ in range(adam):
            self.closure()
            self.optimizer.step()
        settings: dict[str, Any] = {"line_search_fn": "strong_wolfe", "tolerance_grad": 0, "tolerance_change": 0}
        self.optimizer = torch.optim.LBFGS(self.parameters, max_iter=inner, history_size=50, **settings)
        for _ in range(lbfgs):
            self.optimizer.step(self.closure)
            if enough():
                return


def by_hand(times: int) -> int:
    """Train by hand; return the number of evaluations of the loss."""
    training = ByHand()
    training.train(ADAM * times, LBFGS * times, INNER)
    return training.evaluations


class Count:
    """Counts the evaluations of the loss."""

    def __init__(self) -> None:
        self.calls = 0

    def dovetail_run_start(self, run: Run) -> None:
        """Hook into the loss."""
        run.parts.loss.register_forward_hook(self._called)

    def _called(self, *_: object) -> None:
        self.calls += 1


def quiet(folder: str) -> dict[str, Any]:
    """Return the settings of a run on one thread without output and test."""
    return {
        "training": {"test": False},
        "hardware": {"device": "cpu", "threads": 1},
        "logging": {"console": False},
        "report": {"enabled": False},
        "paths": {"output": folder},
    }


def with_dovetail(times: int) -> int:
    """Train the run file; return the number of evaluations of the loss."""
    count = Count()
    lbfgs = {"type": "lbfgs", "max_iter": INNER, "history_size": 50, "tolerance_grad": 0.0, "tolerance_change": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        config = Config.load(EXAMPLE).with_parts(
            data={"passes": (ADAM + LBFGS) * times},
            phases=[
                {"max_steps": ADAM * times, "optimizer": {"type": "adam", "lr": 1e-3}},
                {"max_steps": LBFGS * times, "optimizer": lbfgs},
            ],
            callbacks={"map": count},
            **quiet(folder),
        )
        outcome = run(config.build())
    assert outcome.status == "completed", outcome.reason
    return count.calls


def per_evaluation(train: Callable[[int], int]) -> float:
    """Return the processor time of an evaluation in seconds: the slope between a short and a long training."""
    seconds, evaluations = [], []
    for times in (SHORT, LONG):
        started = time.process_time()
        evaluations.append(train(times))
        seconds.append(time.process_time() - started)
    return (seconds[1] - seconds[0]) / (evaluations[1] - evaluations[0])


def main() -> None:
    """Measure both, alternating."""
    candidates = {"by hand": by_hand, "by hand, a second time (noise)": by_hand, "Dovetail": with_dovetail}
    figures = alternate({name: lambda train=train: per_evaluation(train) for name, train in candidates.items()}, ROUNDS)
    against = ratios(figures, "by hand")
    rows = [
        (name, f"{1e3 * statistics.median(values):.1f}", f"{1e3 * min(values):.1f}", f"{against[name]:.3f}")
        for name, values in figures.items()
    ]
    about = versions("dovetail", "dovetail-signals", "torch")
    about += (
        f". Burgers' equation, {POINTS + KNOWN} points, {LAYERS} layers of {WIDTH}, float64, Adam then L-BFGS, "
        f"one thread; processor time, medians of {ROUNDS} alternating rounds; ratios are taken within a round."
    )
    body = table(["training", "median ms per evaluation", "fastest", "× by hand"], rows)
    record("PINN", "make bench-pinn", f"{about}\n\n{body}")


if __name__ == "__main__":
    main()
