"""Memory that Dovetail adds: the peak of a process that trains with it, compared with a plain torch loop.

All candidates train the same network on the same number of batches, each run in another process, alternating.

Run ``make bench-memory``.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from _measure import alternate, record, table, user_environment, versions

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
#: Prints the peak memory of the process in bytes.
PEAK = """
import resource
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


def peak(program: str) -> Callable[[], float]:
    """Return a function that runs a program in another process and returns its peak memory in bytes."""
    source = f"import sys, _training\n{program.format(steps=STEPS)}\n{PEAK}"

    def measure() -> float:
        process = subprocess.run(
            [sys.executable, "-c", source],
            cwd=Path(__file__).parent, env=user_environment(), capture_output=True, text=True, check=True,
        )  # fmt: skip
        return float(process.stdout.split()[-1])

    return measure


def main() -> None:
    """Measure the candidates in turn."""
    figures = alternate({name: peak(program) for name, program in CANDIDATES.items()}, ROUNDS)
    rows = []
    for name, values in figures.items():
        extra = [value - base for value, base in zip(values, figures["by hand"], strict=True)]
        rows.append((name, f"{statistics.median(values) / 1e6:.1f}", f"{statistics.median(extra) / 1e6:+.1f}"))
    about = versions("dovetail", "torch") + (
        f". {STEPS} steps of the perceptron of the steps benchmark, one thread; peak memory of a process, medians of "
        f"{ROUNDS} alternating rounds. “By hand” imports only torch; Dovetail's modules, its libraries, the run folder"
        " and a checkpoint of model and optimizer (1 MB) are part of the difference. Runs are configured in Python, "
        "except in the row with the reader of run files. The difference includes Python's table of interned names, "
        "which doubles when it is full: torch leaves room for fewer than 1,500 names, so the next import pays for "
        "the larger table, as the third row shows."
    )
    record("Memory", "make bench-memory", f"{about}\n\n{table(['process', 'peak MB', 'MB over by hand'], rows)}")


if __name__ == "__main__":
    main()
