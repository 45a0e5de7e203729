"""What every benchmark shares: alternating repetitions, medians, tables, and the versions that figures belong to."""

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
#: What ``make bench-rivals`` makes: an environment of the frameworks to compare with, over the torch of ``.venv``.
RIVALS = Path(__file__).parents[1] / ".venv-rivals"
#: How busy the machine was before the measurement began: figures of a busy machine are worth less.
LOAD = os.getloadavg()[0]


def alternate(candidates: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Run every candidate once a round, in turn, so that a drift of the machine's speed hits all alike.

    A first round warms up and is thrown away. Each candidate returns its own figure, in seconds.
    """
    figures: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(rounds + 1):
        for name, candidate in candidates.items():
            figure = candidate()
            if turn:
                figures[name].append(figure)
    return figures


def ratios(figures: Mapping[str, Sequence[float]], base: str) -> dict[str, float]:
    """Return the median over rounds of each candidate's figure divided by the base's of the same round."""
    return {
        name: statistics.median(one / other for one, other in zip(values, figures[base], strict=True))
        for name, values in figures.items()
    }


def process_seconds(command: Sequence[str], env: Mapping[str, str] | None = None) -> float:
    """Return the wall time of a whole process in seconds; its output is thrown away.

    Raises:
        subprocess.CalledProcessError: it failed, so that its time means nothing.
    """
    seen = {**as_a_user(), **(env or {})}
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=seen)
    return time.perf_counter() - began


def as_a_user() -> dict[str, str]:
    """Return the environment of a process in which compiled modules are kept, as they are on a user's machine.

    Compiling them takes time and memory that belong to the warm-up.
    """
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def see_rivals() -> None:
    """Let this process import the frameworks that ``make bench-rivals`` has installed, if it has."""
    sys.path += map(str, RIVALS.glob("lib/python3*/site-packages"))


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def versions(*names: str) -> str:
    """Return the installed versions of distributions, with Python's and the processor's name."""
    found = []
    for name in names:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    return f"Python {platform.python_version()}, {', '.join(found)}; {processor()}, {os.cpu_count()} cores"


def processor() -> str:
    """Return the processor's name, or its architecture where it has none."""
    names = [line for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else platform.machine()


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def record(title: str, command: str, body: str) -> None:
    """Print a section of results, and put it in ``RESULTS.md`` in the place of the last one of that title."""
    section = (
        f"## {title}\n\n`{command}`, {time.strftime('%Y-%m-%d')}, load {LOAD:.1f} when it began\n\n{body.strip()}\n"
    )
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else "# Results\n"
    head, *sections = text.split("\n## ")
    kept = {one.partition("\n")[0].strip(): one.strip() for one in sections}
    kept[title] = section.removeprefix("## ").strip()
    RESULTS.write_text(head.strip() + "\n" + "".join(f"\n## {one}\n" for one in kept.values()), encoding="utf-8")
    print(section)
