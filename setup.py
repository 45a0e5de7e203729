"""Build the native ops: a shared object for the CPU and, if nvcc is installed, one for CUDA.

`torch.utils.cpp_extension` does not compile CUDA code with a CPU-only torch, so this script calls the compilers itself,
through ninja. Both objects use torch's stable ABI and have no Python symbols: they load with every torch >= 2.10 and
every Python.

Environment variables:
    CXX                   the C++ compiler (default: g++)
    CUDA_HOME             the CUDA toolkit (default: that of nvcc on the PATH)
    DOVETAIL_CUDA_ARCHS   "all" (default), "none", or compute capabilities such as "80;90";
                          PTX is added for the newest one
    DOVETAIL_NATIVE=0     build no native ops; the ops then run their plain-torch references
    DOVETAIL_WERROR=1     treat compiler warnings as errors
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent
SOURCES = ROOT / "csrc"
# Kept between builds, so that ninja recompiles only what changed.
OBJECTS = ROOT / "build" / "native"

TORCH_TARGET = (2, 10)
CUDA_ARCHS = ("80", "90", "100", "120")

CPU = "dovetail.ops.libdovetail_cpu"
CUDA = "dovetail.ops.libdovetail_cuda"

# The symbols of libtorch_cuda.so that the CUDA object uses. A CPU-only torch has no such library, so the object is
# linked against a stub, of which it keeps only the name (DT_NEEDED).
TORCH_CUDA_SYMBOLS = ("aoti_torch_get_current_cuda_stream",)


def fail(message: str) -> NoReturn:
    """Stop the build with a message and without a traceback."""
    lines = "\n".join(f"    {line}" for line in message.splitlines())
    sys.exit(f"\ndovetail: the native ops were not built.\n{lines}\n")


def say(message: str) -> None:
    """Print a line about the build; pip shows it with -v."""
    print(f"dovetail: {message}", flush=True)


def run(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a tool and capture its output as text."""
    return subprocess.run(command, check=False, capture_output=True, text=True, **options)


def ninja() -> str:
    """Return the path of ninja in this environment, else on the PATH."""
    local = Path(sys.executable).with_name("ninja")
    path = str(local) if local.exists() else shutil.which("ninja")
    if path is None:
        fail("ninja is required but was not found; run pip install ninja")
    return path


def compiler() -> tuple[list[str], str]:
    """Return the command of the C++ compiler and its version line."""
    command = shlex.split(os.environ.get("CXX", "g++"))
    if shutil.which(command[0]) is None:
        fail(
            f"A C++ compiler is required, but '{command[0]}' was not found.\n"
            "Install one (Debian, Ubuntu: apt-get install g++; Fedora: dnf install gcc-c++), set CXX to another,\n"
            "or set DOVETAIL_NATIVE=0 to build without native ops (slower, the same results)."
        )
    return command, run([*command, "--version"]).stdout.partition("\n")[0]


def nvcc() -> Path | None:
    """Return the path of the CUDA compiler, or None."""
    home = os.environ.get("CUDA_HOME")
    path = shutil.which(str(Path(home) / "bin" / "nvcc")) if home else shutil.which("nvcc")
    return Path(path) if path else None


def cuda_architectures(compiler: Path) -> list[str]:
    """Return the architectures to compile for, oldest first: the requested ones, or all that this nvcc supports."""
    known = re.findall(r"compute_(\d+)", run([str(compiler), "--list-gpu-arch"]).stdout)
    requested = os.environ.get("DOVETAIL_CUDA_ARCHS", "all")
    if requested == "all":
        return [arch for arch in CUDA_ARCHS if arch in known]
    archs = [arch.replace(".", "") for arch in re.split(r"[;, ]+", requested) if arch]
    unknown = [arch for arch in archs if arch not in known]
    if unknown or not archs:
        supported = ", ".join(known)
        fail(f"DOVETAIL_CUDA_ARCHS={requested!r} is invalid; use 'all', 'none' or what this nvcc supports: {supported}")
    return sorted(archs, key=int)


def why_no_cuda() -> str | None:
    """Return why the CUDA object is not built, or None if it is."""
    if os.environ.get("DOVETAIL_CUDA_ARCHS") == "none":
        return "DOVETAIL_CUDA_ARCHS=none"
    if nvcc() is None:
        return "nvcc is neither on the PATH nor in CUDA_HOME"
    return None


def torch_paths() -> tuple[list[str], Path, str]:
    """Return include directories, library directory and version of the installed torch."""
    try:
        import torch
        from torch.utils import cpp_extension
    except ImportError as error:
        fail(
            f"The headers of torch are required, but torch cannot be imported ({error}).\n"
            "Install torch first, then this package with --no-build-isolation."
        )
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < TORCH_TARGET:
        fail(f"torch {torch.__version__} is installed, but 2.10 or later is required; upgrade torch.")
    return cpp_extension.include_paths(), Path(torch.__file__).parent / "lib", torch.__version__


def escape(path: object) -> str:
    """Escape a path for ninja."""
    return re.sub(r"([$ :])", r"$\1", str(path))


def define(name: str, value: str) -> str:
    """Return a preprocessor definition, quoted for the shell and for ninja."""
    return shlex.quote(f"-D{name}={value}").replace("$", "$$")


class NinjaFile:
    """The build file of one shared object, in a folder of its own."""

    def __init__(self, name: str) -> None:
        self.folder = OBJECTS / name
        self.output = self.folder / f"{name}.so"
        self.includes, self.torch_lib, self.torch_version = torch_paths()
        self.cxx, self.cxx_version = compiler()
        self.rules: list[str] = []
        self.edges: list[str] = []
        self.objects: list[str] = []

    def common_flags(self, info: dict[str, Any]) -> list[str]:
        """Return the flags of both compilers, and add the build information."""
        major, minor = TORCH_TARGET
        info |= {"torch_target": f"{major}.{minor}", "built_with_torch": self.torch_version}
        text = json.dumps(json.dumps(info, sort_keys=True)[1:-1])  # the members as a C string
        return [
            "-std=c++17",
            "-O3",
            *(f"-isystem {shlex.quote(path)}" for path in self.includes),
            f"-DTORCH_TARGET_VERSION=0x{major:02x}{minor:02x}000000000000",
            define("DOVETAIL_BUILD_INFO", text),
        ]

    def cxx_flags(self) -> list[str]:
        """Return the flags of the C++ compiler: warnings, and no reordering of arithmetic."""
        flags = ["-fPIC", "-fvisibility=hidden", "-fopenmp-simd", "-fno-math-errno", "-ffp-contract=off"]
        flags += ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wno-unknown-pragmas"]
        if platform.machine() == "x86_64":
            flags.append("-mprefer-vector-width=512")  # by default, the x86-64-v4 clone uses 256 bits
        return [*flags, "-Werror"] if os.environ.get("DOVETAIL_WERROR") == "1" else flags

    def rule(self, name: str, command: Sequence[str], *, depfile: bool = False) -> None:
        """Add a rule; the command contains ninja's placeholders."""
        lines = [f"rule {name}", f"  command = {' '.join(command)}", f"  description = {name} $out"]
        self.rules += [*lines, *(["  depfile = $out.d", "  deps = gcc"] if depfile else []), ""]

    def compile(self, rule: str, sources: Sequence[Path]) -> None:
        """Add an object file for each source."""
        for source in sources:
            target = f"{source.parent.name}.{source.name}.o"
            self.edges.append(f"build {target}: {rule} {escape(source)}")
            self.objects.append(target)

    def link(self, command: Sequence[str], also: Sequence[str] = ()) -> None:
        """Add the shared object, linked from all object files."""
        self.rule("link", command)
        after = f" | {' '.join(also)}" if also else ""
        self.edges.append(f"build {self.output.name}: link {' '.join(self.objects)}{after}")

    def make(self) -> Path:
        """Run ninja, after waiting for a build in another process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            text = "\n".join(["ninja_required_version = 1.8", "", *self.rules, *self.edges, ""])
            (self.folder / "build.ninja").write_text(text)
            process = run([ninja(), "-C", str(self.folder), self.output.name])
        if process.returncode != 0:
            fail(f"{process.stdout}{process.stderr}\nThe commands are in {self.folder / 'build.ninja'}.")
        say(f"{self.output.name}: {process.stdout.strip().splitlines()[-1]}")
        return self.output


def build_cpu() -> Path:
    """Build the object with the schemas and CPU kernels of all ops."""
    file = NinjaFile("libdovetail_cpu")
    flags = file.common_flags({"compiler": file.cxx_version})
    cxx = [*file.cxx, *flags, *file.cxx_flags(), "-MMD", "-MF", "$out.d", "-c", "$in", "-o", "$out"]
    file.rule("cxx", cxx, depfile=True)
    file.compile("cxx", sorted(SOURCES.rglob("*.cpp")))
    libraries = ["-Wl,--no-as-needed", "-ltorch_cpu", "-Wl,--as-needed"]
    search = f"-L{shlex.quote(str(file.torch_lib))}"
    file.link([*file.cxx, "-shared", "-Wl,-z,defs", "$in", search, *libraries, "-o", "$out"])
    return file.make()


def build_cuda(compiler: Path) -> Path:
    """Build the object with the CUDA kernels; its CUDA runtime is static, so that of torch may have another version."""
    file = NinjaFile("libdovetail_cuda")
    archs = cuda_architectures(compiler)
    version = re.search(r"release ([\d.]+)", run([str(compiler), "--version"]).stdout)
    info = {"compiler": f"nvcc {version[1] if version else '?'}", "cuda_archs": [*archs, f"{archs[-1]}+PTX"]}
    flags = file.common_flags(info)
    # Code generated by nvcc causes these two warnings.
    host = [flag for flag in file.cxx_flags() if flag not in {"-Wconversion", "-Wshadow"}]
    targets = [f"-gencode arch=compute_{arch},code=sm_{arch}" for arch in archs]
    targets.append(f"-gencode arch=compute_{archs[-1]},code=compute_{archs[-1]}")
    options = ["--threads 0", "-lineinfo", "--expt-relaxed-constexpr", "-DUSE_CUDA"]
    if os.environ.get("DOVETAIL_WERROR") == "1":
        options.append("-Werror all-warnings")
    tool = [str(compiler), "-ccbin", file.cxx[0]]
    host_options = [f"-Xcompiler {flag}" for flag in host]
    nvcc_command = [*tool, *flags, *options, *targets, *host_options, "-MD -MF $out.d -c $in -o $out"]
    file.rule("nvcc", nvcc_command, depfile=True)
    file.compile("nvcc", sorted(SOURCES.rglob("*.cu")))
    cxx = [*file.cxx, *flags, *file.cxx_flags(), "-c", "$in", "-o", "$out"]
    file.rule("cxx", cxx)
    file.compile("cxx", [SOURCES / "common" / "build_info.cpp"])

    file.folder.mkdir(parents=True, exist_ok=True)
    stub_source = "".join(f"void {name}(void) {{}}\n" for name in TORCH_CUDA_SYMBOLS)
    stub_command = f"printf '%b' {shlex.quote(stub_source.encode('unicode_escape').decode())}"
    soname = "-Wl,-soname,libtorch_cuda.so"
    stub = [stub_command, "|", *file.cxx, "-x c -shared -fPIC", soname, "-o", "$out", "-"]
    file.rule("stub", stub)
    file.edges.append("build libtorch_cuda.so: stub")

    search = ["-L.", f"-L{shlex.quote(str(file.torch_lib))}"]
    # --exclude-libs hides the symbols of the runtime: a process may contain several copies of it.
    hide = ["-z", "defs", "--exclude-libs", "ALL"]
    libraries = ["--no-as-needed", "-ltorch_cuda", "-ltorch_cpu", "--as-needed"]
    linker = [f"-Xlinker {option}" for option in (*hide, *libraries)]
    link = [*tool, "-shared", "-cudart static", "$in", *search, *linker, "-o", "$out"]
    file.link(link, also=["libtorch_cuda.so"])
    return file.make()


class BuildNative(build_ext):
    """Builds the shared objects in place of extension modules."""

    def get_ext_filename(self, fullname: str) -> str:
        """Return the file name without Python's suffix: the objects work with every Python."""
        return str(Path(*fullname.split(".")).with_suffix(".so"))

    def build_extension(self, ext: Extension) -> None:
        """Compile what changed, and copy the object to its package."""
        cuda_compiler = nvcc()
        built = build_cuda(cuda_compiler) if ext.name == CUDA and cuda_compiler is not None else build_cpu()
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        self.copy_file(str(built), str(target))


class CleanBuild(build):
    """Builds in a new folder, so that a wheel contains no file of an earlier or concurrent build."""

    def initialize_options(self) -> None:
        """Set the base folder to a new one."""
        super().initialize_options()
        self.build_base = tempfile.mkdtemp(prefix="dovetail-build-")
        atexit.register(shutil.rmtree, self.build_base, ignore_errors=True)


class WheelOfAnyPython(bdist_wheel):
    """Tags a wheel for every Python 3 of its platform, because its objects have no Python symbols."""

    def get_tag(self) -> tuple[str, str, str]:
        """Return `py3-none-PLATFORM`, or `py3-none-any` without objects."""
        return "py3", "none", super().get_tag()[2]


def extensions() -> list[Extension]:
    """Return the objects to build on this machine."""
    if os.environ.get("DOVETAIL_NATIVE") == "0":
        say("DOVETAIL_NATIVE=0: building no native ops; plain torch replaces them.")
        return []
    reason = why_no_cuda()
    if reason is not None:
        say(f"skipping the CUDA half of the native ops: {reason}.")
    return [Extension(name, sources=[]) for name in (CPU, CUDA) if name == CPU or reason is None]


setup(
    ext_modules=extensions(),
    cmdclass={"build": CleanBuild, "build_ext": BuildNative, "bdist_wheel": WheelOfAnyPython},
)
