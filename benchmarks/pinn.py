"""What a PINN costs, beside a script written by hand: Burgers' equation, the recipe of the first paper.

Both train the same network on as many points with the same optimizers: Adam, then L-BFGS. Measured is the processor
time for each evaluation of loss and gradient, without what it takes to begin: the slope between
a short and a long training. Run ``make bench-pinn``.
"""

from __future__ import annotations

import itertools
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from _measure import alternate, ratios, record, table, versions

from dovetail import Config, Run
from dovetail.run import run

POINTS, KNOWN, LAYERS, WIDTH = 10_000, 100, 8, 20
ADAM, LBFGS, INNER = 10, 1, 20
SHORT, LONG, ROUNDS = 1, 3, 3
EXAMPLE = Path(__file__).parents[1] / "examples" / "pinn" / "burgers.toml"

torch.set_num_threads(1)


def by_hand(times: int) -> int:
    """Train as people write it by hand; return how often the loss was evaluated."""
    torch.manual_seed(0)
    sizes = [2, *[WIDTH] * LAYERS, 1]
    layers = [torch.nn.Linear(before, after) for before, after in itertools.pairwise(sizes)]
    for layer in layers:
        torch.nn.init.xavier_normal_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    parameters = [one for layer in layers for one in layer.parameters()]
    start = torch.stack([2 * torch.rand(KNOWN // 2) - 1, torch.zeros(KNOWN // 2)], dim=1)
    ends = torch.stack([torch.tensor([-1.0, 1.0]).repeat(KNOWN // 4), torch.rand(KNOWN // 2)], dim=1)
    inside = torch.rand(POINTS, 2) * torch.tensor([2.0, 1.0]) - torch.tensor([1.0, 0.0])
    known = torch.cat([start, ends])
    values = torch.cat([-torch.sin(math.pi * start[:, :1]), torch.zeros(KNOWN // 2, 1)])
    points = torch.cat([inside, known]).requires_grad_()
    evaluations = 0

    def net(x: torch.Tensor) -> torch.Tensor:
        hidden = torch.stack([x[:, 0], 2 * x[:, 1] - 1], dim=1)
        for layer in layers[:-1]:
            hidden = torch.tanh(layer(hidden))
        return layers[-1](hidden)

    def closure() -> torch.Tensor:
        nonlocal evaluations
        evaluations += 1
        optimizer.zero_grad()
        u = net(points)
        (first,) = torch.autograd.grad(u.sum(), points, create_graph=True)
        u_x, u_t = first[:, :1], first[:, 1:]
        u_xx = torch.autograd.grad(u_x.sum(), points, create_graph=True)[0][:, :1]
        residual = u_t + u * u_x - 0.01 / math.pi * u_xx
        off = (u[POINTS:] - values).square()
        loss = residual.square().mean() + off[: KNOWN // 2].mean() + off[KNOWN // 2 :].mean()
        loss.backward()
        return loss

    optimizer: torch.optim.Optimizer = torch.optim.Adam(parameters, lr=1e-3)
    for _ in range(ADAM * times):
        closure()
        optimizer.step()
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=INNER, history_size=50, line_search_fn="strong_wolfe", tolerance_grad=0, tolerance_change=0
    )
    for _ in range(LBFGS * times):
        optimizer.step(closure)
    return evaluations


class Count:
    """Counts the evaluations of the loss."""

    def __init__(self) -> None:
        self.calls = 0

    def dovetail_run_start(self, run: Run) -> None:
        """Listen to the loss."""
        run.parts.loss.register_forward_hook(self._called)

    def _called(self, *_: object) -> None:
        self.calls += 1


def with_dovetail(times: int) -> int:
    """Train the run file; return how often the loss was evaluated."""
    count = Count()
    lbfgs = {"type": "lbfgs", "max_iter": INNER, "history_size": 50, "tolerance_grad": 0.0, "tolerance_change": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        config = Config.load(EXAMPLE).with_parts(
            data={"passes": (ADAM + LBFGS) * times},
            phases=[
                {"max_steps": ADAM * times, "optimizer": {"type": "adam", "lr": 1e-3}},
                {"max_steps": LBFGS * times, "optimizer": lbfgs},
            ],
            training={"test": False},
            callbacks={"map": count},
            hardware={"device": "cpu", "threads": 1},
            logging={"console": False},
            report={"enabled": False},
            paths={"output": folder},
        )
        outcome = run(config.build())
    assert outcome.status == "completed", outcome.reason
    return count.calls


def per_evaluation(train: Callable[[int], int]) -> float:
    """Return the processor seconds of an evaluation: the slope between a short and a long training."""
    seconds, evaluations = [], []
    for times in (SHORT, LONG):
        began = time.process_time()
        evaluations.append(train(times))
        seconds.append(time.process_time() - began)
    return (seconds[1] - seconds[0]) / (evaluations[1] - evaluations[0])


def main() -> None:
    """Measure both in turn."""
    candidates = {"by hand": by_hand, "by hand, a second time (noise)": by_hand, "Dovetail": with_dovetail}
    figures = alternate({name: lambda train=train: per_evaluation(train) for name, train in candidates.items()}, ROUNDS)
    against = ratios(figures, "by hand")
    rows = [
        (name, f"{1e3 * statistics.median(values):.1f}", f"{1e3 * min(values):.1f}", f"{against[name]:.3f}")
        for name, values in figures.items()
    ]
    about = versions("dovetail", "dovetail-signals", "torch")
    about += (
        f". Burgers' equation, {POINTS + KNOWN} points, {LAYERS} layers of {WIDTH}, float32, Adam then L-BFGS, "
        f"one thread; processor time, medians of {ROUNDS} alternating rounds; ratios are taken within a round."
    )
    body = table(["training", "median ms an evaluation", "fastest", "× by hand"], rows)
    record("PINN", "make bench-pinn", f"{about}\n\n{body}")


if __name__ == "__main__":
    main()
