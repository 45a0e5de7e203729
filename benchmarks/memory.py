"""What Dovetail itself takes of the memory: the peak of a process that trains with it, beside one that trains by hand.

Both train the same network on as many batches. Each run is a process of its own, and the two take turns.

Run ``make bench-memory``.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from _measure import alternate, record, table, versions

ROUNDS, STEPS = 3, 400

#: Trains as people write it by hand, with torch alone in the process.
BY_HAND = """
import torch
torch.set_num_threads(1)
layers = torch.nn.Linear
model = torch.nn.Sequential(
    layers(64, 256), torch.nn.ReLU(), layers(256, 256), torch.nn.ReLU(), layers(256, 10)
)
batches = [(torch.randn(32, 64), torch.randint(10, (32,))) for _ in range(1200)]
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for inputs, targets in batches[:{steps}]:
    optimizer.zero_grad(set_to_none=True)
    torch.nn.functional.cross_entropy(model(inputs), targets).backward()
    optimizer.step()
"""
CANDIDATES = {
    "by hand": BY_HAND,
    "by hand, a second time (noise)": BY_HAND,
    "Dovetail, same optimizer flags": "import steps; steps.dovetail({steps}, defaults=False)",
    "the same, everything watched": "import steps; steps.dovetail({steps}, defaults=False, watched=True)",
    "Dovetail, out of the box": "import steps; steps.dovetail({steps}, defaults=True)",
}
#: Prints the most bytes that the process has had.
PEAK = """
import resource, sys
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


def peak(program: str) -> Callable[[], float]:
    """Return what runs a program in a process of its own, and gives its peak in bytes."""
    whole = f"{program.format(steps=STEPS)}\n{PEAK}"

    def measure() -> float:
        done = subprocess.run(
            [sys.executable, "-c", whole], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
        return float(done.stdout.split()[-1])

    return measure


def main() -> None:
    """Measure the candidates in turn."""
    figures = alternate({name: peak(program) for name, program in CANDIDATES.items()}, ROUNDS)
    rows = [
        (
            name,
            f"{statistics.median(values) / 1e6:.1f}",
            f"{statistics.median(one - base for one, base in zip(values, figures['by hand'], strict=True)) / 1e6:+.1f}",
        )
        for name, values in figures.items()
    ]
    about = versions("dovetail", "torch") + (
        f". The perceptron of the steps, {STEPS} of them, one thread; the most memory that a process has had, medians"
        f" of {ROUNDS} alternating rounds. «By hand» imports torch alone; Dovetail's modules, its libraries, the folder"
        " of the run and a checkpoint of the model and the optimizer (1 MB) are part of the difference."
    )
    record("Memory", "make bench-memory", f"{about}\n\n{table(['process', 'peak MB', 'MB over by hand'], rows)}")


if __name__ == "__main__":
    main()
