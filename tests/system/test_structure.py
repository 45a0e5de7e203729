"""The structure that CONTRIBUTING describes: tests mirror the packages, folders and files stay small."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from places import ROOT, TESTS

SOURCE = ROOT / "src" / "dovetail"
#: Modules with at least so many statements have a test file of their own.
STATEMENTS = 25
#: Modules without one, and where they are tested.
TESTED_ELSEWHERE: dict[str, str] = {
    "metrics/base.py": "metrics/test_all.py",  # every metric is one
    "monitor/readings.py": "monitor/test_norms.py",  # with the statistics that it transfers
    "spec/protocols.py": "spec/test_kinds.py",  # every kind has one
    # Every check is held against parts with a planted fault.
    "testkit/checks/batch_transforms.py": "testkit/test_all.py",
    "testkit/checks/collators.py": "testkit/test_all.py",
    "testkit/checks/datasets.py": "testkit/test_all.py",
    "testkit/checks/loss_batches.py": "testkit/test_all.py",
    "testkit/checks/loss_gradients.py": "testkit/test_all.py",
    "testkit/checks/losses.py": "testkit/test_all.py",
    "testkit/checks/metrics.py": "testkit/test_all.py",
    "testkit/checks/models.py": "testkit/test_all.py",
    "testkit/checks/optimizers.py": "testkit/test_all.py",
    "testkit/checks/plugin.py": "testkit/test_all.py",
    "testkit/checks/schedulers.py": "testkit/test_all.py",
    "testkit/checks/storage.py": "testkit/test_all.py",
    "testkit/checks/storage_atomic.py": "testkit/test_all.py",
    "testkit/checks/transforms.py": "testkit/test_all.py",
}
#: Folders of tests that mirror no package.
OTHER_FOLDERS = {"parity", "planted", "system"}


def modules() -> list[Path]:
    """Return every module of the package, relative to it."""
    return sorted(path.relative_to(SOURCE) for path in SOURCE.rglob("*.py") if not path.name.startswith("__"))


def statements(path: Path) -> int:
    """Return the number of statements of a module, without docstrings and imports."""
    tree = ast.parse((SOURCE / path).read_text(encoding="utf-8"))
    skipped = (ast.Import, ast.ImportFrom, ast.Expr)
    return sum(isinstance(node, ast.stmt) and not isinstance(node, skipped) for node in ast.walk(tree))


def mirror_of(module: Path) -> Path:
    """Return the test file that mirrors a module; a private module of ops is tested without its underscore."""
    return TESTS / module.parent / f"test_{module.stem.lstrip('_')}.py"


@pytest.mark.parametrize("path", sorted(TESTS.rglob("test_*.py")), ids=lambda path: str(path.relative_to(TESTS)))
def test_a_test_file_lies_where_its_module_path_says(path):
    """Its name is that of a module or package of the folder that it mirrors; test_all.py compares all parts."""
    folder = path.parent.relative_to(TESTS)
    if folder.parts[:1] and folder.parts[0] in OTHER_FOLDERS:
        return
    name = path.stem.removeprefix("test_")
    package = SOURCE / folder

    assert package.is_dir(), f"tests/{folder} mirrors no package"
    found = [package / f"{name}.py", package / f"_{name}.py", package / name / "__init__.py"]
    assert name == "all" or any(candidate.exists() for candidate in found), f"no module '{name}' in {folder}"


def test_a_module_with_logic_of_its_own_has_a_test_file():
    """Every exception is listed with the file that tests it, which exists."""
    missing = [
        str(module) for module in modules() if statements(module) >= STATEMENTS and not mirror_of(module).exists()
    ]

    assert missing == sorted(TESTED_ELSEWHERE)
    assert [path for path in TESTED_ELSEWHERE.values() if not (TESTS / path).exists()] == []


def test_no_folder_has_more_than_about_thirty_files():
    """A folder that grows beyond holds several ideas."""
    counts = {str(folder): len(list(folder.glob("[!_]*.py"))) for folder in SOURCE.rglob("*") if folder.is_dir()}

    assert {folder: count for folder, count in counts.items() if count > 32} == {}


def test_no_file_is_long():
    """A file of more than 350 lines holds two ideas; builtin.py is a table."""
    lengths = {str(path): len((SOURCE / path).read_text(encoding="utf-8").splitlines()) for path in modules()}

    assert {path: length for path, length in lengths.items() if length > 350} == {"builtin.py": lengths["builtin.py"]}


def test_the_main_path_is_short():
    """From run() to loss.backward() a reader passes five files, and run() itself is one straight function."""
    path = ["main.py", "train/trainer.py", "train/session.py", "train/step.py", "train/gradients.py"]
    (run,) = (
        node
        for node in ast.parse((SOURCE / "main.py").read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name == "run"
    )
    body = run.body[1:]  # without the docstring

    assert body[-1].end_lineno - body[0].lineno + 1 <= 40
    assert sum(len((SOURCE / name).read_text(encoding="utf-8").splitlines()) for name in path) <= 660
