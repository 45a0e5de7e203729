"""Tools for all benchmarks: alternating rounds, medians, tables, and versions of the software."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

RESULTS = Path(__file__).parent / "RESULTS.md"
#: The environment of ``make bench-rivals``: the frameworks to compare with, on top of the torch in ``.venv``.
RIVALS = Path(__file__).parents[1] / ".venv-rivals"
#: The load of the machine before the measurement; a busy machine gives unreliable figures.
LOAD = os.getloadavg()[0]


def alternate(candidates: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Run every candidate once per round, so that changes in the machine's speed affect all of them equally.

    The first round is for warm-up and is discarded. Each candidate returns its own figure, in seconds.
    """
    figures: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(rounds + 1):
        for name, candidate in candidates.items():
            figure = candidate()
            if turn:
                figures[name].append(figure)
    return figures


def ratios(figures: Mapping[str, Sequence[float]], base: str) -> dict[str, float]:
    """Return the median over rounds of the ratio of each candidate's figure to the base's in the same round."""
    return {
        name: statistics.median(value / reference for value, reference in zip(values, figures[base], strict=True))
        for name, values in figures.items()
    }


def process_seconds(command: Sequence[str], env: Mapping[str, str] | None = None) -> float:
    """Return the wall time of a process in seconds; discard its output.

    Raises:
        subprocess.CalledProcessError: the process failed.
    """
    environment = {**user_environment(), **(env or {})}
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - started


def user_environment() -> dict[str, str]:
    """Return an environment in which Python caches compiled modules, as on a user's machine.

    Without the cache, compiling modules would take time and memory in every process.
    """
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def add_rivals_to_path() -> None:
    """Make the frameworks installed by ``make bench-rivals`` importable, if there are any."""
    sys.path += map(str, RIVALS.glob("lib/python3*/site-packages"))


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def versions(*names: str) -> str:
    """Return the installed versions of distributions, with Python's and the processor's name."""
    installed = []
    for name in names:
        try:
            installed.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            installed.append(f"{name} not installed")
    return f"Python {platform.python_version()}, {', '.join(installed)}; {processor()}, {os.cpu_count()} cores"


def processor() -> str:
    """Return the name of the processor, or its architecture if the name is unknown."""
    names = [line for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else platform.machine()


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def record(title: str, command: str, body: str) -> None:
    """Print a section of results, and write it to ``RESULTS.md`` in place of the previous one with that title."""
    section = (
        f"## {title}\n\n`{command}`, {time.strftime('%Y-%m-%d')}, load {LOAD:.1f} at the start\n\n{body.strip()}\n"
    )
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else "# Results\n"
    head, *sections = text.split("\n## ")
    by_title = {text.partition("\n")[0].strip(): text.strip() for text in sections}
    by_title[title] = section.removeprefix("## ").strip()
    RESULTS.write_text(head.strip() + "\n" + "".join(f"\n## {text}\n" for text in by_title.values()), encoding="utf-8")
    print(section)
