"""Measure the structure of the package, and draw its floors.

Usage::

    python docs/structure.py                                    # this tree, as a table
    python docs/structure.py --source OTHER/src                 # another tree, with the same means
    python docs/structure.py --picture docs/explanation/packages.svg

The design page quotes these figures. The path from ``run()`` to ``loss.backward()`` is counted as a reader meets it:
the whole of the files that it passes through.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import inspect
import io
import json
import os
import subprocess
import sys
import tempfile
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parent.parent
#: The files from ``run()`` to ``loss.backward()``; those of an earlier tree follow.
PATHS = (
    ("main.py", "train/trainer.py", "train/session.py", "train/step.py", "train/gradients.py"),
    ("run.py", "train/standard.py", "train/session.py", "train/loop.py", "train/gradients.py"),
)
#: The floors, top down, with what an earlier tree called them.
FLOORS = (
    ("cli",),
    ("main", "run", "pieces"),
    ("train",),
    ("distributed",),
    ("losses", "optimizers", "schedulers", "metrics", "models", "data", "checkpoint", "monitor", "record", "track"),
    ("config", "ops", "random", "storage"),
    ("spec",),
    ("kernel",),
)
#: Modules that stand beside the floors.
BESIDE = {"__init__", "__main__", "builtin", "testkit"}


def main() -> None:
    """Print the measures of a tree, or draw its packages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=ROOT / "src", help="the folder that holds the package")
    parser.add_argument("--picture", type=Path, help="write the packages and their imports to this SVG file")
    parser.add_argument("--trace", choices=["value", "checkpoint"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    package = options.source.absolute() / "dovetail"
    if options.trace:
        files = {"value": trace_value, "checkpoint": trace_checkpoint}[options.trace](package)
        sys.stdout.write(json.dumps(sorted(files)) + "\n")
    elif options.picture:
        options.picture.write_text(picture(package), encoding="utf-8")
    else:
        for name, value in measures(package).items():
            sys.stdout.write(f"{name:<58} {value}\n")


# --- measures --------------------------------------------------------------------------------------------------------


def measures(package: Path) -> dict[str, str]:
    """Return what the tree measures, by name."""
    files = sorted(package.rglob("*.py"))
    lengths = {file.relative_to(package).as_posix(): len(file.read_text("utf-8").splitlines()) for file in files}
    longest = sorted(lengths, key=lambda name: -lengths[name])[:2]
    path = next(path for path in PATHS if path[0] in lengths)
    code, imports = (sum(counts) for counts in zip(*map(lines_of_code, files), strict=True))
    train = [name for name in lengths if name.startswith("train/")]
    return {
        "files": str(len(files)),
        "files in train/, and with its folders": f"{sum(name.count('/') == 1 for name in train)}, {len(train)}",
        "longest files": ", ".join(f"{name} {lengths[name]}" for name in longest),
        "lines of the files from run() to loss.backward()": str(sum(lengths[name] for name in path)),
        "kernel, lines of code": str(sum(lines_of_code(file)[0] for file in (package / "kernel").glob("*.py"))),
        "import lines, share of the code": f"{imports / code:.1%} of {code}",
        "files entered for one config value": str(len(traced(package, "value"))),
        "files entered while a checkpoint is saved": str(len(traced(package, "checkpoint"))),
    }


def lines_of_code(file: Path) -> tuple[int, int]:
    """Return the number of lines that hold code, and how many of them import; docstrings and comments hold none."""
    source = file.read_text("utf-8")
    ignored = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    lines = {line for token in tokens if token.type not in ignored for line in range(token.start[0], token.end[0] + 1)}
    imports: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        span = range(getattr(node, "lineno", 0), (getattr(node, "end_lineno", 0) or 0) + 1)
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports.update(span)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.difference_update(span)
    return len(lines), len(lines & imports)


def traced(package: Path, what: str) -> list[str]:
    """Return the files that a trace enters, in a process that imports this package."""
    command = [sys.executable, __file__, "--source", str(package.parent), "--trace", what]
    environment = {**os.environ, "PYTHONPATH": f"{package.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 (this file)
    if done.returncode:
        sys.exit(done.stderr)
    files: list[str] = json.loads(done.stdout.splitlines()[-1])
    return files


@contextlib.contextmanager
def entered(package: Path, inside: str = "") -> Iterator[set[str]]:
    """Collect the files of the package with a function that is called, within calls of a function if it is named."""
    files: set[str] = set()
    depth = 0

    def note(frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal depth
        code = frame.f_code
        if code.co_qualname == inside:
            depth += {"call": 1, "return": -1}.get(event, 0)
        # The bodies of modules and classes run when they are imported.
        is_function = code.co_flags & inspect.CO_OPTIMIZED
        if event == "call" and is_function and code.co_filename.startswith(str(package)) and (depth or not inside):
            files.add(Path(code.co_filename).relative_to(package).as_posix())

    sys.setprofile(note)
    try:
        yield files
    finally:
        sys.setprofile(None)


def trace_value(package: Path) -> set[str]:
    """Return the files entered between a run file and its checked config."""
    from dovetail import Config

    run_file = ROOT / "examples" / "digits.toml"
    Config.load(run_file).build()  # finds and imports the plugins
    with entered(package) as files:
        Config.load(run_file).build()
    return files


def trace_checkpoint(package: Path) -> set[str]:
    """Return the files entered while a run of three updates saves."""
    import importlib

    from dovetail import Config

    run: Any = importlib.import_module("dovetail.main" if (package / "main.py").exists() else "dovetail.run").run
    with tempfile.TemporaryDirectory() as folder:
        config = Config.load(ROOT / "examples" / "digits.toml").with_parts(
            paths={"output": folder}, training={"max_steps": 3, "test": False}, report={"enabled": False}
        )
        with entered(package, "RunSaver.save") as files:
            run(config.build()).check()
    return files


# --- the picture -----------------------------------------------------------------------------------------------------

_WIDTH, _FLOOR, _BOX, _GAP = 1080, 92, 44, 14


def imports_between(package: Path) -> Counter[tuple[str, str]]:
    """Return how many files of one package import from another, type-checking imports left out."""
    found: Counter[tuple[str, str]] = Counter()
    for file in package.rglob("*.py"):
        own = file.relative_to(package).with_suffix("").parts[0]
        tree = ast.parse(file.read_text("utf-8"))
        skipped = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            for inner in ast.walk(node)
        }
        targets = {
            node.module.split(".")[1]
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            and id(node) not in skipped
            and (node.module or "").startswith("dovetail.")
        }
        found.update((own, target) for target in targets - {own})
    return found


def picture(package: Path) -> str:
    """Return an SVG of the floors: a box per package as wide as its share of files, a line per import."""
    sizes = Counter(file.relative_to(package).with_suffix("").parts[0] for file in package.rglob("*.py"))
    known = {name for floor in FLOORS for name in floor}
    floors = [[name for name in floor if name in sizes] for floor in FLOORS]
    floors = [floor for floor in floors if floor]
    stray = sorted(set(sizes) - known - BESIDE)
    if stray:
        sys.exit(f"no floor for {', '.join(stray)}")
    places: dict[str, tuple[float, float, float]] = {}
    for row, floor in enumerate(floors):
        widths = [max(84.0, 13.0 + 7.6 * len(name) + 4 * sizes[name] ** 0.5) for name in floor]
        scale = min(1.0, (_WIDTH - 150 - _GAP * len(floor)) / sum(widths))
        left = 130 + (_WIDTH - 150 - sum(widths) * scale - _GAP * (len(floor) - 1)) / 2
        for name, width in zip(floor, widths, strict=True):
            places[name] = (left, row * _FLOOR + 24, width * scale)
            left += width * scale + _GAP
    lines = [
        _line(places, *edge, count) for edge, count in sorted(imports_between(package).items()) if {*edge} <= {*places}
    ]
    boxes = [
        f'<rect x="{x:.0f}" y="{y}" width="{width:.0f}" height="{_BOX}" rx="6" fill="#fff" stroke="#334155"/>'
        f'<text x="{x + width / 2:.0f}" y="{y + 19}" text-anchor="middle" font-weight="600">{name}</text>'
        f'<text x="{x + width / 2:.0f}" y="{y + 35}" text-anchor="middle" fill="#64748b">{_files(sizes[name])}</text>'
        for name, (x, y, width) in places.items()
    ]
    shades = [
        f'<rect x="0" y="{row * _FLOOR + 8}" width="{_WIDTH}" height="{_FLOOR - 16}" fill="#f1f5f9"/>'
        f'<text x="12" y="{row * _FLOOR + 50}" fill="#64748b">floor {len(floors) - row}</text>'
        for row in range(len(floors))
    ]
    height = len(floors) * _FLOOR + 8
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="system-ui, sans-serif" '
        f'font-size="12" fill="#0f172a" role="img" aria-label="The packages, top down, and their imports">\n'
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>\n'
        + "\n".join([*shades, *lines, *boxes])
        + "\n</svg>\n"
    )


def _line(places: dict[str, tuple[float, float, float]], importer: str, imported: str, count: int) -> str:
    x, y, width = places[importer]
    to_x, to_y, to_width = places[imported]
    start, end = x + width / 2, to_x + to_width / 2
    stroke = f'fill="none" stroke-width="{min(4.0, 0.6 + count / 8):.1f}"'
    if y < to_y:
        return f'<path d="M{start:.0f} {y + _BOX} L{end:.0f} {to_y}" {stroke} stroke="#94a3b8" stroke-opacity="0.55"/>'
    # A sibling, or upwards: a curve above the boxes, in another colour.
    bend = (
        f"M{start:.0f} {y} Q{(start + end) / 2:.0f} {min(y, to_y) - 22} {end:.0f} {to_y if y == to_y else to_y + _BOX}"
    )
    return f'<path d="{bend}" {stroke} stroke="#dc2626" stroke-opacity="0.45"/>'


def _files(count: int) -> str:
    return f"{count} file{'s' if count > 1 else ''}"


if __name__ == "__main__":
    main()
