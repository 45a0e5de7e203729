"""Tests of the loader: what it loads, what it reports, and what it falls back to."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from dovetail import ops
from dovetail.ops import _loader
from native_ops import needs_native
from places import ROOT


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder for the objects, with a loader that has loaded none."""
    monkeypatch.setattr(_loader, "FOLDER", tmp_path)
    monkeypatch.delenv("DOVETAIL_NATIVE", raising=False)
    _loader.load.cache_clear()
    yield tmp_path
    _loader.load.cache_clear()


def compile_c(source: str, target: Path) -> None:
    """Compile a small shared object."""
    command = ["gcc", "-x", "c", "-shared", "-fPIC", "-o", str(target), "-"]
    subprocess.run(command, input=source, text=True, check=True)


def assert_falls_back(match: str) -> None:
    """Assert a single warning for several calls, and the results of the reference."""
    grads = [torch.tensor([3.0, 4.0])]
    with pytest.warns(RuntimeWarning, match=match) as caught:
        results = [ops.grad_norms(grads) for _ in range(3)]

    assert len(caught) == 1
    assert "Plain torch replaces them" in str(caught[0].message)
    assert "run `make native` in a checkout" in str(caught[0].message)
    assert Path(caught[0].filename).name == Path(__file__).name
    assert [result.total.item() for result in results] == [5.0] * 3
    assert not ops.status()[0].live


def test_a_missing_object_warns_once(folder: Path) -> None:
    """The warning says what is missing and how to build it."""
    assert_falls_back(r"libdovetail_cpu\.so is missing")


def test_a_corrupt_object_warns_once(folder: Path) -> None:
    """A damaged object falls back to the reference."""
    real = Path(_loader.__file__).with_name("libdovetail_cpu.so")
    damaged = bytearray(real.read_bytes()) if real.exists() else bytearray(4096)
    damaged[:16] = b"\0" * 16
    (folder / "libdovetail_cpu.so").write_bytes(damaged)

    assert_falls_back("does not load with torch .*(invalid ELF header|file too short)")


def test_an_object_with_missing_symbols_warns_once(folder: Path) -> None:
    """An object built for a newer torch falls back to the reference."""
    source = "int torch_of_tomorrow(void); int (*pointer)(void) = torch_of_tomorrow;"
    compile_c(source, folder / "libdovetail_cpu.so")

    assert_falls_back("undefined symbol: torch_of_tomorrow")


def test_an_object_of_another_revision_warns_once(folder: Path) -> None:
    """An object from an older checkout may have other schemas, so it falls back to the reference."""
    source = 'const char* dovetail_build_info(void) { return "{\\"revision\\": 0}"; }'
    compile_c(source, folder / "libdovetail_cpu.so")

    assert_falls_back(f"has revision 0 of the ops, but this version requires {_loader.REVISION}")


def test_a_foreign_object_warns_once(folder: Path) -> None:
    """A shared object without build information falls back to the reference."""
    compile_c("int nothing;", folder / "libdovetail_cpu.so")

    assert_falls_back("dovetail_build_info")


@needs_native
def test_a_moved_object_loads(folder: Path) -> None:
    """The object loads from any folder."""
    shutil.copy(Path(_loader.__file__).with_name("libdovetail_cpu.so"), folder)
    program = (
        "import sys, pathlib, torch; from dovetail import ops; from dovetail.ops import _loader;"
        "_loader.FOLDER = pathlib.Path(sys.argv[1]);"
        "assert ops.grad_norms([torch.ones(4)]).total.item() == 2.0;"
        "print(ops.status()[0])"
    )
    command = [sys.executable, "-W", "error", "-c", program, str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)

    assert result.stdout.startswith("cpu: native (torch ≥ 2.10; ")


def test_the_ops_can_be_disabled() -> None:
    """With DOVETAIL_NATIVE=0, no object is loaded, no warning is issued, and the results are the same."""
    program = (
        "import torch; from dovetail import ops;"
        "print(ops.grad_norms([torch.tensor([3.0, 4.0])]).total.item(), hasattr(torch.ops.dovetail, 'grad_norms'));"
        "print(*ops.status(), sep='\\n')"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "DOVETAIL_NATIVE": "0"},
    )

    assert result.stdout.splitlines() == [
        "5.0 False",
        "cpu: plain torch (DOVETAIL_NATIVE=0)",
        "cuda: plain torch (DOVETAIL_NATIVE=0)",
    ]


@needs_native
def test_status_reports_both_objects() -> None:
    """The status has the build information of the CPU object; without a GPU, CUDA is absent without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cpu, cuda = ops.status()

    assert cpu.live
    assert cpu.build["torch_target"] == "2.10"
    assert cpu.build["revision"] == _loader.REVISION
    if not torch.cuda.is_available():
        assert str(cuda) == "cuda: plain torch (torch finds no CUDA device)"


def test_the_revision_is_the_same_in_python_and_cpp() -> None:
    """build_info.cpp and _loader.py have the same revision."""
    source = (ROOT / "csrc" / "common" / "build_info.cpp").read_text()

    assert f'#define DOVETAIL_REVISION "{_loader.REVISION}"' in source


@needs_native
def test_build_information_is_readable_through_ctypes() -> None:
    """Reading the build information needs no torch."""
    path = Path(_loader.__file__).with_name("libdovetail_cpu.so")
    function = ctypes.CDLL(str(path)).dovetail_build_info
    function.restype = ctypes.c_char_p

    assert b'"torch_target": "2.10"' in function()
