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

from _measure import alternate, as_a_user, record, table, versions

ROUNDS, STEPS = 7, 400

CANDIDATES = {
    "by hand": "_training.by_hand({steps})",
    "by hand, a second time (noise)": "_training.by_hand({steps})",
    "by hand, and 2,000 more names in the process": "names = [sys.intern(f'name {{n}}') for n in range(2000)]; "
    "_training.by_hand({steps})",
    "Dovetail, same optimizer flags": "_training.dovetail({steps}, defaults=False)",
    "the same, and the reader of run files": "from dovetail import Config; Config.load(); "
    "_training.dovetail({steps}, defaults=False)",
    "the same, everything watched": "_training.dovetail({steps}, defaults=False, watched=True)",
    "Dovetail, out of the box": "_training.dovetail({steps}, defaults=True)",
}
#: Prints the most bytes that the process has had.
PEAK = """
import resource
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


def peak(program: str) -> Callable[[], float]:
    """Return what runs a program in a process of its own, and gives its peak in bytes."""
    whole = f"import sys, _training\n{program.format(steps=STEPS)}\n{PEAK}"

    def measure() -> float:
        done = subprocess.run(
            [sys.executable, "-c", whole],
            cwd=Path(__file__).parent, env=as_a_user(), capture_output=True, text=True, check=True,
        )  # fmt: skip
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
        " of the run and a checkpoint of the model and the optimizer (1 MB) are part of the difference. The runs are"
        " told in Python; one that is told by a file has read it, as a row does. Part of the difference is also"
        " Python's table of names, which doubles when it is full: torch fills it to within 1,500 names of that,"
        " so that whatever else is imported pays for the next one, as the third row does."
    )
    record("Memory", "make bench-memory", f"{about}\n\n{table(['process', 'peak MB', 'MB over by hand'], rows)}")


if __name__ == "__main__":
    main()
