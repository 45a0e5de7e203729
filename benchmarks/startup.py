"""Startup time of the console, compared with other tools, and the cost of installed plugins.

Run ``make bench-startup``, after ``make bench-rivals`` for the other tools; tools that are not installed are skipped.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from _measure import RIVALS, add_rivals_to_path, alternate, process_seconds, ratios, record, table, versions

ROUNDS = 15


def console(name: str) -> str | None:
    """Return the path of a console command of this environment, of the rivals' environment, or on the PATH."""
    folders = [str(Path(sys.executable).parent), str(RIVALS / "bin"), os.environ.get("PATH", "")]
    return shutil.which(name, path=os.pathsep.join(folders))


def environment(folder: Path, distributions: int, plugins: int) -> dict[str, str]:
    """Write metadata of distributions, some with a plugin, to ``folder``; return an environment that includes them."""
    for number in range(distributions):
        info = folder / f"pkg{number}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: pkg{number}\nVersion: 1.0\n")
        (info / "RECORD").write_text("")
        if number < plugins:
            (info / "entry_points.txt").write_text(f"[dovetail]\np{number} = pkg{number}.plugin\n")
            package = folder / f"pkg{number}"
            package.mkdir()
            (package / "__init__.py").write_text("")
            (package / "plugin.py").write_text(
                "from dovetail import Component, hookimpl\n\n@hookimpl\ndef dovetail_losses():\n"
                f"    yield Component('pkg{number}.loss', 'pkg{number}.losses:Loss', summary='A loss.')\n\n"
                "@hookimpl\ndef dovetail_schedulers():\n"
                f"    yield Component('pkg{number}.rate', 'pkg{number}.schedulers:Rate', summary='A schedule.')\n"
            )
        elif number % 3 == 0:
            (info / "entry_points.txt").write_text(f"[console_scripts]\npkg{number} = pkg{number}:main\n")
    return {"PYTHONPATH": str(folder)}


def commands() -> str:
    """Time ``--help`` of Dovetail and other tools."""
    python = sys.executable
    candidates: dict[str, Callable[[], float]] = {
        "python -c pass": lambda: process_seconds([python, "-c", "pass"]),
        "python -c 'import click'": lambda: process_seconds([python, "-c", "import click"]),
    }
    # Lightning's command is called fabric in newer versions.
    found = {name: console(name) for name in ("dovetail", "accelerate", "lightning", "fabric")}
    for name, path in found.items():
        if path:
            candidates[f"{name} --help"] = lambda path=path: process_seconds([path, "--help"])
    for arguments in (["plugins", "list"], ["runs", "list"], ["config", "show", "examples/digits.toml"]):
        label = f"dovetail {' '.join(arguments)}"
        candidates[label] = lambda arguments=arguments: process_seconds([found["dovetail"] or "dovetail", *arguments])
    figures = alternate(candidates, ROUNDS)
    against = ratios(figures, "python -c 'import click'")
    rows = [
        (f"`{name}`", f"{1000 * statistics.median(values):.0f}", f"{1000 * min(values):.0f}", f"{against[name]:.2f}")
        for name, values in figures.items()
    ]
    return "### Commands compared with other tools\n\n" + table(
        ["whole process", "median ms", "fastest ms", "× importing click"], rows
    )


def discovery() -> str:
    """Time ``dovetail --help`` with increasing numbers of installed distributions and plugins."""
    dovetail = console("dovetail") or "dovetail"
    cases = [(10, 0), (10, 1), (200, 0), (200, 1), (1000, 0), (1000, 1), (1000, 20), (1000, 100)]
    with tempfile.TemporaryDirectory() as scratch:
        environments = {case: environment(Path(scratch) / f"{case[0]}-{case[1]}", *case) for case in cases}
        figures = alternate(
            {
                str(case): lambda env=env: process_seconds([dovetail, "--help"], env)
                for case, env in environments.items()
            },
            ROUNDS,
        )
    rows = []
    for distributions, plugins in cases:
        values = figures[str((distributions, plugins))]
        differences = [
            1000 * statistics.median(value - low for value, low in zip(values, figures[str(base)], strict=True))
            for base in ((10, 0), (distributions, 0))
        ]
        rows.append(
            (
                distributions,
                plugins,
                f"{1000 * statistics.median(values):.0f}",
                *(f"{difference:+.0f}" for difference in differences),
            )
        )
    return "### Discovery\n\n" + table(
        [
            "distributions, besides Dovetail's",
            "plugins",
            "`dovetail --help`, ms",
            "ms more than the first row",
            "ms for the plugins",
        ],
        rows,
    )


def main() -> None:
    """Measure and record."""
    add_rivals_to_path()
    about = f"{versions('dovetail', 'click', 'accelerate', 'lightning', 'torch')}."
    about += f" Medians of {ROUNDS} alternating rounds; ratios and differences are taken within a round."
    record("Startup", "make bench-startup", f"{about}\n\n{commands()}\n\n{discovery()}")


if __name__ == "__main__":
    main()
