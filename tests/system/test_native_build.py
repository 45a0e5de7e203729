"""Tests of setup.py: the contents of objects, wheel and sdist, and the messages of failing builds."""

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

pytestmark = pytest.mark.skipif(os.environ.get("DOVETAIL_NATIVE") == "0", reason="native ops are disabled")

# The symbols that an object may import: torch's stable C interface and the C and C++ runtimes, but nothing of c10, at
# or Python.
ALLOWED = re.compile(
    r"(aoti_)?torch_[a-z0-9_]+"
    r"|[A-Za-z0-9_]+@(GLIBC|GLIBCXX|CXXABI|GCC)_[0-9.]+"
    r"|_ITM_(de)?registerTMCloneTable|__gmon_start__"
)


def symbols(path: Path, option: str) -> list[str]:
    """Return the names in the dynamic symbol table, with their versions."""
    command = ["nm", "--dynamic", option, "--format=posix", str(path)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line.split()[0].replace("@@", "@") for line in listing.splitlines()]


def needed(path: Path) -> set[str]:
    """Return the shared objects that this one requires."""
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
    """Return a copy of the sources without build products."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "csrc", folder / "csrc")
    leave = shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", folder / "src", ignore=leave)
    return folder


def test_the_cpu_object_is_built() -> None:
    """Development and CI always test the native ops, not only the references."""
    assert "libdovetail_cpu.so" in [path.name for path in OBJECTS]


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.name)
def test_objects_import_only_the_stable_interface(path: Path) -> None:
    """Objects import only allowed symbols, so they load with every torch >= 2.10 and every Python."""
    strange = [name for name in symbols(path, "--undefined-only") if not ALLOWED.fullmatch(name)]

    assert strange == []


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.name)
def test_objects_export_one_symbol(path: Path) -> None:
    """Symbols of two extensions in one process cannot clash."""
    every = symbols(path, "--defined-only")
    of_the_linker = {"__bss_start", "_edata", "_end"}
    of_the_standard_library = re.compile(r"_Z[A-Z]*St|_ZZNSt")
    ours = [name for name in every if name not in of_the_linker and not of_the_standard_library.match(name)]

    assert ours == ["dovetail_build_info"]


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.name)
def test_objects_require_only_torch_libraries(path: Path) -> None:
    """Objects require the libraries of torch, and no shared CUDA runtime, which would tie them to one version."""
    libraries = needed(path)

    assert "libtorch_cpu.so" in libraries
    assert ("libtorch_cuda.so" in libraries) == ("cuda" in path.name)
    assert not [name for name in libraries if name.startswith(("libcudart", "libpython", "libc10"))]


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="there is no nvcc to compile the CUDA half")
def test_the_cuda_object_is_built_where_nvcc_is() -> None:
    """With or without a GPU, under a CPU-only torch too."""
    assert "libdovetail_cuda.so" in [path.name for path in OBJECTS]


def test_a_missing_compiler_is_a_clear_error(tmp_path: Path) -> None:
    """The message says what is missing, how to install it, and how to build without it."""
    out = str(tmp_path)
    process = setup(ROOT, "build_ext", "--build-lib", out, "--build-temp", out, CXX="no-such-compiler")

    assert process.returncode != 0
    assert "'no-such-compiler' was not found" in process.stderr
    assert "apt-get install g++" in process.stderr
    assert "DOVETAIL_NATIVE=0" in process.stderr
    assert "Traceback" not in process.stderr


def test_a_missing_nvcc_is_one_line() -> None:
    """The build says that it skips the CUDA half."""
    process = setup(ROOT, "--version", PATH=str(Path(sys.executable).parent), CUDA_HOME="")

    assert process.returncode == 0
    line = "dovetail: skipping the CUDA half of the native ops: nvcc is neither on the PATH nor in CUDA_HOME."
    assert line in process.stdout.splitlines()


def test_native_ops_can_be_left_out() -> None:
    """With DOVETAIL_NATIVE=0, the build says that it builds no native ops."""
    process = setup(ROOT, "--version", DOVETAIL_NATIVE="0")

    assert "dovetail: DOVETAIL_NATIVE=0: building no native ops; plain torch replaces them." in process.stdout


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="only nvcc knows the architectures")
def test_an_unknown_architecture_is_a_clear_error(tmp_path: Path) -> None:
    """The message lists the architectures that this nvcc supports."""
    out = str(tmp_path)
    process = setup(ROOT, "build_ext", "--build-lib", out, "--build-temp", out, DOVETAIL_CUDA_ARCHS="12")

    assert process.returncode != 0
    assert re.search(r"DOVETAIL_CUDA_ARCHS='12' is invalid; .* what this nvcc supports: .*90", process.stderr)
    assert "Traceback" not in process.stderr


@pytest.mark.slow
def test_a_compile_error_is_shown(checkout: Path) -> None:
    """The build shows the compiler's message without a Python traceback."""
    with (checkout / "csrc" / "grad_norms" / "grad_norms_cpu.cpp").open("a") as source:
        source.write("this is no C++\n")

    process = setup(checkout, "build_ext", "--inplace", DOVETAIL_CUDA_ARCHS="none")

    assert process.returncode != 0
    assert "dovetail: the native ops were not built." in process.stderr
    assert re.search(r"grad_norms_cpu\.cpp:\d+:\d+: error", process.stderr)
    assert "Traceback" not in process.stderr


@pytest.mark.slow
def test_a_build_repeats_only_what_changed(checkout: Path) -> None:
    """A second build does nothing; after a change to a header, it recompiles only its dependents."""
    arguments = ("--quiet", "build_ext", "--inplace")

    first = setup(checkout, *arguments, DOVETAIL_CUDA_ARCHS="none")
    again = setup(checkout, *arguments, DOVETAIL_CUDA_ARCHS="none")
    header = checkout / "csrc" / "spec_augment" / "spec_augment.h"
    header.write_text(header.read_text() + "\n")
    changed = setup(checkout, *arguments, DOVETAIL_CUDA_ARCHS="none")

    sources = len(list((checkout / "csrc").rglob("*.cpp")))
    assert f"[{sources + 1}/{sources + 1}] link libdovetail_cpu.so" in first.stdout
    assert "no work to do" in again.stdout
    assert "[2/2] link libdovetail_cpu.so" in changed.stdout  # only spec_augment includes the header


@pytest.mark.slow
def test_the_wheel_carries_the_objects_and_works(checkout: Path, tmp_path: Path) -> None:
    """An unpacked wheel has working native ops, a tag for every Python, and no sources."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--quiet"]
    environment = {**os.environ, "DOVETAIL_CUDA_ARCHS": "none"}
    subprocess.run([*command, "-w", str(tmp_path), str(checkout)], check=True, env=environment, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")

    assert re.fullmatch(r"dovetail-.+-py3-none-(manylinux|linux)_.+\.whl", wheel.name)
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "unpacked")  # noqa: S202  # built from our own sources
    assert {"dovetail/ops/libdovetail_cpu.so", "dovetail/py.typed"} <= names
    assert not [name for name in names if name.endswith((".cpp", ".cu", ".h")) or name.startswith("tests")]

    program = (
        "import torch; from dovetail import ops;"
        "print(ops.__file__, ops.grad_norms([torch.ones(4)]).total.item(), ops.status()[0].live)"
    )
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "unpacked")},
    )
    assert process.stdout.split() == [str(tmp_path / "unpacked/dovetail/ops/__init__.py"), "2.0", "True"]


@pytest.mark.slow
def test_the_sdist_carries_sources_only(checkout: Path, tmp_path: Path) -> None:
    """The sdist contains everything that a build needs and no build products."""
    (checkout / "src" / "dovetail" / "ops" / "libdovetail_cpu.so").write_bytes(b"stale")

    process = setup(checkout, "--quiet", "sdist", "--dist-dir", str(tmp_path), DOVETAIL_CUDA_ARCHS="none")

    assert process.returncode == 0, process.stderr
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"setup.py", "pyproject.toml", "LICENSE", "csrc/grad_norms/grad_norms_cuda.cu"} <= names
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "csrc").rglob("*.*")} <= names
    assert not [name for name in names if name.endswith((".so", ".o", ".pyc"))]


def test_the_objects_target_the_oldest_supported_torch() -> None:
    """The lower bound in pyproject.toml and TORCH_TARGET in setup.py are the same version."""
    project = (ROOT / "pyproject.toml").read_text()
    (target,) = re.findall(r"^TORCH_TARGET = \((\d+), (\d+)\)", (ROOT / "setup.py").read_text(), re.MULTILINE)

    assert f'"torch>={".".join(target)}"' in project
    assert tuple(int(part) for part in torch.__version__.split(".")[:2]) >= tuple(map(int, target))
