"""Tests of setup.py: what the built objects contain, what wheel and sdist carry, what a failing build says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

from dovetail.ops import _loader
from places import ROOT

OBJECTS = sorted(_loader.FOLDER.glob("libdovetail_*.so"))

pytestmark = pytest.mark.skipif(os.environ.get("DOVETAIL_NATIVE") == "0", reason="native ops are switched off")

# What an object may take from outside: torch's stable C interface and the C and C++ runtimes.
# Nothing of c10, at or Python.
ALLOWED = re.compile(
    r"(aoti_)?torch_[a-z0-9_]+"
    r"|[A-Za-z0-9_]+@(GLIBC|GLIBCXX|CXXABI|GCC)_[0-9.]+"
    r"|_ITM_(de)?registerTMCloneTable|__gmon_start__"
)


def symbols(path: Path, option: str) -> list[str]:
    """Names in the dynamic symbol table, with their versions."""
    command = ["nm", "--dynamic", option, "--format=posix", str(path)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line.split()[0].replace("@@", "@") for line in listing.splitlines()]


def needed(path: Path) -> set[str]:
    """Shared objects that this one asks the dynamic linker for."""
    command = ["readelf", "--dynamic", "--wide", str(path)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"\(NEEDED\).*\[(.+)\]", listing))


def setup(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run setup.py in a folder."""
    return subprocess.run(
        [sys.executable, "setup.py", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, **environment},
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what a build needs, without anything built."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "csrc", folder / "csrc")
    leave = shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", folder / "src", ignore=leave)
    return folder


def test_the_cpu_object_is_built() -> None:
    """Development and CI always test the native ops, not the references alone."""
    assert "libdovetail_cpu.so" in [path.name for path in OBJECTS]


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.name)
def test_objects_use_the_stable_interface_alone(path: Path) -> None:
    """No symbol from outside the allow-list: so the object loads under every torch >= 2.10 and every Python."""
    strange = [name for name in symbols(path, "--undefined-only") if not ALLOWED.fullmatch(name)]

    assert strange == []


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.name)
def test_objects_offer_one_symbol(path: Path) -> None:
    """Two extensions in one process never meet in each other's functions."""
    every = symbols(path, "--defined-only")
    of_the_linker = {"__bss_start", "_edata", "_end"}
    of_the_standard_library = re.compile(r"_Z[A-Z]*St|_ZZNSt")
    ours = [name for name in every if name not in of_the_linker and not of_the_standard_library.match(name)]

    assert ours == ["dovetail_build_info"]


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.name)
def test_objects_name_what_they_need(path: Path) -> None:
    """Torch's libraries are not found otherwise; a shared CUDA runtime would tie the object to one version."""
    libraries = needed(path)

    assert "libtorch_cpu.so" in libraries
    assert ("libtorch_cuda.so" in libraries) == ("cuda" in path.name)
    assert not [name for name in libraries if name.startswith(("libcudart", "libpython", "libc10"))]


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="there is no nvcc to compile the CUDA half")
def test_the_cuda_object_is_built_where_nvcc_is() -> None:
    """With or without a GPU, under a CPU-only torch too."""
    assert "libdovetail_cuda.so" in [path.name for path in OBJECTS]


def test_a_missing_compiler_is_said(tmp_path: Path) -> None:
    """What is missing, how to get it, and how to go without."""
    out = str(tmp_path)
    done = setup(ROOT, "build_ext", "--build-lib", out, "--build-temp", out, CXX="no-such-compiler")

    assert done.returncode != 0
    assert "'no-such-compiler' was not found" in done.stderr
    assert "apt-get install g++" in done.stderr
    assert "DOVETAIL_NATIVE=0" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_nvcc_is_one_line() -> None:
    """The CUDA half is skipped with a word about it."""
    done = setup(ROOT, "--version", PATH=str(Path(sys.executable).parent), CUDA_HOME="")

    assert done.returncode == 0
    line = "dovetail: the CUDA half of the native ops is skipped: there is no nvcc on the PATH or in CUDA_HOME."
    assert line in done.stdout.splitlines()


def test_native_ops_can_be_left_out() -> None:
    """DOVETAIL_NATIVE=0 builds none, and says so."""
    done = setup(ROOT, "--version", DOVETAIL_NATIVE="0")

    assert "dovetail: DOVETAIL_NATIVE=0: no native ops are built; plain torch does their work." in done.stdout


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="only nvcc knows which architectures there are")
def test_an_unknown_architecture_is_said(tmp_path: Path) -> None:
    """With those that this nvcc knows."""
    out = str(tmp_path)
    done = setup(ROOT, "build_ext", "--build-lib", out, "--build-temp", out, DOVETAIL_CUDA_ARCHS="12")

    assert done.returncode != 0
    assert re.search(r"DOVETAIL_CUDA_ARCHS='12': this nvcc knows .*90", done.stderr)
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_compile_error_is_shown(checkout: Path) -> None:
    """The compiler's own words, and no Python traceback on top."""
    with (checkout / "csrc" / "grad_norms" / "grad_norms_cpu.cpp").open("a") as source:
        source.write("this is no C++\n")

    done = setup(checkout, "build_ext", "--inplace", DOVETAIL_CUDA_ARCHS="none")

    assert done.returncode != 0
    assert "dovetail: the native ops were not built." in done.stderr
    assert re.search(r"grad_norms_cpu\.cpp:\d+:\d+: error", done.stderr)
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_build_repeats_only_what_changed(checkout: Path) -> None:
    """Nothing the second time; a changed header compiles what includes it."""
    arguments = ("--quiet", "build_ext", "--inplace")

    first = setup(checkout, *arguments, DOVETAIL_CUDA_ARCHS="none")
    again = setup(checkout, *arguments, DOVETAIL_CUDA_ARCHS="none")
    header = checkout / "csrc" / "common" / "dtypes.h"
    header.write_text(header.read_text() + "\n")
    changed = setup(checkout, *arguments, DOVETAIL_CUDA_ARCHS="none")

    sources = len(list((checkout / "csrc").rglob("*.cpp")))
    assert f"[{sources + 1}/{sources + 1}] link libdovetail_cpu.so" in first.stdout
    assert "no work to do" in again.stdout
    assert "[2/2] link libdovetail_cpu.so" in changed.stdout  # spec_augment alone includes the header


@pytest.mark.slow
def test_the_wheel_carries_the_objects_and_works(checkout: Path, tmp_path: Path) -> None:
    """Built, unpacked elsewhere and used: the ops are live, the tag says any Python, no sources are in it."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--quiet"]
    environment = {**os.environ, "DOVETAIL_CUDA_ARCHS": "none"}
    subprocess.run([*command, "-w", str(tmp_path), str(checkout)], check=True, env=environment, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")

    assert re.fullmatch(r"dovetail-.+-py3-none-(manylinux|linux)_.+\.whl", wheel.name)
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "unpacked")  # noqa: S202  # made a moment ago from our own sources
    assert {"dovetail/ops/libdovetail_cpu.so", "dovetail/py.typed"} <= names
    assert not [name for name in names if name.endswith((".cpp", ".cu", ".h")) or name.startswith("tests")]

    program = (
        "import torch; from dovetail import ops;"
        "print(ops.__file__, ops.grad_norms([torch.ones(4)]).total.item(), ops.status()[0].live)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "unpacked")},
    )
    assert done.stdout.split() == [str(tmp_path / "unpacked/dovetail/ops/__init__.py"), "2.0", "True"]


@pytest.mark.slow
def test_the_sdist_carries_sources_only(checkout: Path, tmp_path: Path) -> None:
    """Everything a build needs and nothing that was built."""
    (checkout / "src" / "dovetail" / "ops" / "libdovetail_cpu.so").write_bytes(b"stale")

    done = setup(checkout, "--quiet", "sdist", "--dist-dir", str(tmp_path), DOVETAIL_CUDA_ARCHS="none")

    assert done.returncode == 0, done.stderr
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"setup.py", "pyproject.toml", "LICENSE", "csrc/grad_norms/grad_norms_cuda.cu"} <= names
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "csrc").rglob("*.*")} <= names
    assert not [name for name in names if name.endswith((".so", ".o", ".pyc"))]


def test_the_objects_were_built_for_the_oldest_torch_we_support() -> None:
    """pyproject.toml's lower bound and setup.py's TORCH_TARGET are one version."""
    project = (ROOT / "pyproject.toml").read_text()
    (target,) = re.findall(r"^TORCH_TARGET = \((\d+), (\d+)\)", (ROOT / "setup.py").read_text(), re.MULTILINE)

    assert f'"torch>={".".join(target)}"' in project
    assert tuple(int(part) for part in torch.__version__.split(".")[:2]) >= tuple(map(int, target))
