"""The documentation is true: its code runs, its commands print the output it shows, and its references exist.

A block that starts with ``# file: NAME`` is written to the page's folder. The other ``python`` blocks of a page run in
order, in one namespace. In a ``console`` block every ``$ command`` runs. ``# exit N`` after a command gives its exit
status if that is not 0. The lines below a command must appear in its output in order; ``…`` matches any text.
"""

from __future__ import annotations

import importlib
import os
import pydoc
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
import tomli

import dovetail
from places import ROOT

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```\{?([\w-]*)\}?[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"\A# file: (\S+)\n")


def blocks(page):
    """Return the fenced blocks of a page as (language, text)."""
    return [(match[1], match[2]) for match in BLOCK.finditer(page.read_text(encoding="utf-8"))]


def commands(text):
    """Return the commands of a console block as (command, expected exit status, expected output lines)."""
    found = []
    for line in text.splitlines():
        if line.startswith("$ "):
            command, _, status = line[2:].partition("  # exit ")
            found.append((command, int(status or 0), []))
        elif line.strip() and found:
            found[-1][2].append(line.strip())
    return found


def environment(folder):
    """Create a virtual environment that sees everything installed here, and return its environment variables.

    A page may install packages into it.
    """
    home = folder / ".page-environment"
    venv.create(home, with_pip=False, symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(home)}))
    here = sysconfig.get_path("purelib")
    # site.addsitedir also reads the .pth files there, which editable installs need.
    (site / "here.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    for tool in Path(sys.executable).parent.glob("*"):
        link = home / "bin" / tool.name
        if tool.name in {"dovetail", "pytest", "ruff", "mypy", "pip"} and not link.exists():
            text = tool.read_text(encoding="utf-8", errors="ignore")
            if text.startswith("#!"):
                link.write_text(f"#!{home}/bin/python\n" + text.partition("\n")[2])
                link.chmod(0o755)
            else:
                link.symlink_to(tool)
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith(("COV_", "PYTEST_"))},
        "PATH": f"{home}/bin:{os.environ['PATH']}",
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_NO_DEPS": "1",
        "PIP_NO_INDEX": "1",
        "COLUMNS": "120",
        "NO_COLOR": "1",
        "DOVETAIL_DATA": os.environ.get("DOVETAIL_DATA", str(ROOT.parent / "shared" / "data")),
    }


def matches(expected, output):
    """Return whether the expected lines appear in the output in order; ``…`` matches any text."""
    pattern = ".*".join(re.escape(line).replace("…", ".*").replace(r"\…", ".*") for line in expected)
    return re.search(pattern, output, re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page(page, tmp_path):
    """Every code block and command of a page works as the page shows."""
    namespace: dict[str, object] = {"__name__": "page"}
    env = None
    before = Path.cwd()
    try:
        os.chdir(tmp_path)
        for language, text in blocks(page):
            header = FILE.match(text)
            if header:
                path = tmp_path / header[1]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text[header.end() :], encoding="utf-8")
            elif language == "toml":
                tomli.loads(text)
            elif language == "python":
                exec(compile(text, str(page), "exec"), namespace)  # noqa: S102 (our own documentation)
            elif language == "console":
                env = env or environment(tmp_path)
                for command, status, expected in commands(text):
                    done = subprocess.run(  # noqa: S602 (our own documentation, written for a shell)
                        command, shell=True, env=env, cwd=tmp_path, capture_output=True, text=True, check=False
                    )
                    output = done.stdout + done.stderr
                    assert status == done.returncode, f"$ {command}\n{output}"
                    assert matches(expected, output), f"$ {command}\n{output}\n--- expected\n" + "\n".join(expected)
    finally:
        os.chdir(before)


@pytest.mark.slow
def test_generated_pages_are_up_to_date(tmp_path):
    """The generated pages are what ``docs/generate.py`` would write now."""
    generated = tmp_path / "reference"
    code = f"import generate; from pathlib import Path; generate.REFERENCE = Path({str(generated)!r}); generate.main()"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT / "docs", check=True)

    for page in generated.iterdir():
        text = (ROOT / "docs" / "reference" / page.name).read_text(encoding="utf-8")
        assert page.read_text(encoding="utf-8") == text, f"{page.name} is stale; run python docs/generate.py"


def test_every_public_name_is_in_the_reference():
    """The Python, kinds or hooks page mentions every public name of ``dovetail``."""
    pages = "\n".join((ROOT / "docs" / "reference" / f"{name}.md").read_text() for name in ("python", "kinds", "hooks"))

    assert [name for name in dovetail.__all__ if not re.search(rf"(:: dovetail\.|`(dovetail\.)?){name}\b", pages)] == []


def test_entries_of_the_reference_exist():
    """Every entry of the Python page can be imported and has a docstring."""
    page = (ROOT / "docs" / "reference" / "python.md").read_text()
    entries = re.findall(r"^\.\. auto(?:class|function):: (\S+)\.(\w+)$", page, re.MULTILINE)

    assert len(entries) > 40
    for module, name in entries:
        assert getattr(importlib.import_module(module), name).__doc__


def test_migration_page_names_existing_modules():
    """On the migration page, every new module has the names that moved there, and a module that moved whole is gone."""
    page = (ROOT / "docs" / "reference" / "migration.md").read_text()
    rows = re.findall(r"^\| `(dovetail\.[\w.]+)`(?:: ([^|]*))? \| `(dovetail\.[\w.]+)` \|$", page, re.MULTILINE)

    assert len(rows) > 15
    for old, moved, new in rows:
        module = importlib.import_module(new)
        names = re.findall(r"`(\w+)`", moved)
        assert [name for name in names if not hasattr(module, name)] == []
        if not names:
            with pytest.raises(ModuleNotFoundError):
                importlib.import_module(old)


def test_files_that_the_docs_name_exist():
    """Every path of the repository in a page, such as ``src/dovetail/main.py``, exists."""
    paths = re.compile(r"`((?:src/dovetail|tests|docs|csrc|benchmarks|examples|plugins)/[\w./-]+)`")
    named = {(page.name, path) for page in PAGES for path in paths.findall(page.read_text(encoding="utf-8"))}

    assert len(named) > 20
    assert [(page, path) for page, path in sorted(named) if not (ROOT / path).exists()] == []


def test_names_that_the_docs_give_exist():
    """Every dotted name in a page, such as ``dovetail.losses.FocalLoss``, is a module or an attribute."""
    dotted = re.compile(r"`((?:dovetail|dovetail_\w+)(?:\.\w+)+)`")
    pages = [page for page in PAGES if page.name != "migration.md"]  # it has the names from before
    names = {(page.name, name) for page in pages for name in dotted.findall(page.read_text(encoding="utf-8"))}

    assert len(names) > 15
    assert [(page, name) for page, name in sorted(names) if pydoc.locate(name) is None] == []


@pytest.mark.slow
def test_the_structure_is_measured_and_drawn(tmp_path):
    """The measures stay within the limits that the design page gives, and the picture is the page's own."""
    script = [sys.executable, "docs/structure.py"]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=True)
    measured = dict(re.findall(r"^(.+?)  +(.+)$", done.stdout, re.MULTILINE))
    subprocess.run([*script, "--picture", str(tmp_path / "packages.svg")], cwd=ROOT, check=True)

    assert int(measured["kernel, lines of code"]) <= 1000
    assert int(measured["files entered for one config value"]) <= 24
    shown = "docs/explanation/packages.svg"
    assert (tmp_path / "packages.svg").read_text() == (ROOT / shown).read_text(), (
        f"{shown} is stale; run python docs/structure.py --picture {shown}"
    )


def test_changelog_fragments_are_orphans():
    """No fragment's name has an issue number, which the changelog would print."""
    names = [path.name for path in (ROOT / "changelog.d").iterdir() if path.name != "README.md"]

    assert [name for name in names if not re.fullmatch(r"\+[a-z0-9-]+\.(added|changed|fixed|removed)\.md", name)] == []


def test_every_page_is_reached():
    """Every page is in a table of contents."""
    toctrees = "\n".join(
        text for page in (ROOT / "docs").rglob("*.md") for language, text in blocks(page) if language == "toctree"
    )
    listed = {
        line.split()[-1].rpartition("/")[2] for line in toctrees.splitlines() if line and not line.startswith(":")
    }
    pages = {page.stem for page in (ROOT / "docs").rglob("*.md") if page != ROOT / "docs" / "index.md"}

    assert pages - {"index"} <= listed


def test_interpreter_has_dovetail():
    """The interpreter that runs the tests, and the pages, has the ``dovetail`` command."""
    assert Path(sys.executable).parent.joinpath("dovetail").exists()
