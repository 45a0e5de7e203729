"""Finds, checks and loads the shared objects of the native ops, once, when the first op is called.

The objects are built against torch's stable ABI and have no Python symbols, so one build serves torch 2.10
and later under any Python. When one is missing or does not fit, a single warning says so and what to do, and
every op goes on with its plain-torch reference: slower, the same results.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, cast

import torch
from attrs import field, frozen
from torch import Tensor
from torch.autograd import forward_ad

Device = Literal["cpu", "cuda"]
_Fake = TypeVar("_Fake", bound=Callable[..., Any])

#: The switch: DOVETAIL_NATIVE=0 runs everything on the plain-torch references.
SWITCH: Final = "DOVETAIL_NATIVE"

#: Raised when a schema or the meaning of a result changes, in step with csrc/common/build_info.cpp.
REVISION: Final = 5

#: Where setup.py puts the objects.
FOLDER: Final = Path(__file__).parent

FOLDER_OF_CODE: Final = Path(__file__).parent


class _WhenLoaded:
    """What torch is to be told of each op; it waits until the object that defines the schemas is loaded."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[], None]] | None = []

    def __call__(self, tell: Callable[[], None]) -> None:
        if self._waiting is None:
            tell()
        else:
            self._waiting.append(tell)

    def now(self) -> None:
        waiting, self._waiting = self._waiting or [], None
        for tell in waiting:
            tell()


_when_loaded: Final = _WhenLoaded()

# The ops whose modules are imported.
_OPS: Final[set[str]] = set()

# Of each differentiable op whose schema is loaded: what torch calls where gradients are recorded.
_AUTOGRAD: Final[dict[str, Callable[..., Any]]] = {}

# What gives ops their autograd; torch forgets that when the library goes.
_LIBRARY: Final = torch.library.Library("dovetail", "FRAGMENT")  # type: ignore[no-untyped-call]  # of torch's

_REBUILD = "reinstall dovetail, or run `make native` in a checkout"


@frozen
class Native:
    """One shared object: whether it is loaded, and if not, why not.

    Attributes:
        device: The kind of tensor whose kernels it holds.
        path: Where it is, or would be.
        why_not: Empty if it is loaded; else a sentence.
        build: What it was built with and for (`compiler`, `torch_target`, `built_with_torch`, `revision`, and
            `cuda_archs` for CUDA). Empty if it is not loaded.
    """

    device: Device
    path: Path
    why_not: str = ""
    build: dict[str, Any] = field(factory=dict)

    @property
    def live(self) -> bool:
        """Whether its kernels do the work."""
        return not self.why_not

    def __str__(self) -> str:
        """One line for `dovetail doctor`."""
        if not self.live:
            return f"{self.device}: plain torch ({self.why_not})"
        archs = self.build.get("cuda_archs")
        made_for = f"torch ≥ {self.build['torch_target']}" + (f", sm_{', sm_'.join(archs)}" if archs else "")
        return f"{self.device}: native ({made_for}; {self.build['compiler']}): {', '.join(sorted(_OPS))}"


def fake(op: str) -> Callable[[_Fake], _Fake]:
    """Marks the function that gives the shapes of an op's results, for torch.compile and torch.export."""

    def mark(function: _Fake) -> _Fake:
        _OPS.add(op)
        _when_loaded(lambda: torch.library.register_fake(f"dovetail::{op}", function))
        return function

    return mark


def differentiable(op: str, backward: Callable[..., Any], keep: Callable[..., None]) -> None:
    """Says how to differentiate an op, in the form of `torch.library.register_autograd`.

    Such an op takes all of its arguments by position, and is called by `call`.
    """

    def tell() -> None:
        _AUTOGRAD[op] = _recording(op, backward, keep)
        _LIBRARY.impl(op, _AUTOGRAD[op], "Autograd")  # type: ignore[no-untyped-call]  # torch leaves it without types

    _when_loaded(tell)


def call(op: str, *arguments: Any) -> Any:
    """Call a differentiable op whose object is loaded; in eager code without a turn through torch's dispatcher."""
    if torch.compiler.is_compiling():
        return getattr(torch.ops.dovetail, op)(*arguments)
    return _AUTOGRAD[op](*arguments)


@functools.cache
def load(device: Device) -> Native:
    """The object for a device, loaded if it can be; warns at most once if it should be there and is not."""
    native = _load(device)
    if not native.live and not _expected_absence(device):
        instead = "Plain torch does their work, slower."
        message = f"dovetail's native {device} ops are not in use: {native.why_not}. {instead}"
        warnings.warn(message, RuntimeWarning, stacklevel=_callers_level())
    return native


def _live(device_type: str) -> bool:
    """Whether there are kernels for this type of device, as torch.compile may take for settled."""
    return device_type in {"cpu", "cuda"} and load(cast("Device", device_type)).live


# All that torch.compiler.assume_constant_result does, but it would import torch's compiler: a second, and 80 MB.
_live._dynamo_marked_constant = True  # type: ignore[attr-defined]  # noqa: SLF001  # as above


def native(tensor: Tensor) -> bool:
    """Whether a kernel does the work for this tensor; loads the object of its device if need be."""
    return bool(_live(tensor.device.type))


@functools.cache
def warn_once(message: str) -> None:
    """Warn the caller of an op's Python face, the first time in this process."""
    warnings.warn(message, RuntimeWarning, stacklevel=_callers_level())


def status() -> tuple[Native, ...]:
    """The state of both objects, for `dovetail doctor`; loads them if need be and never warns.

    `str()` of each is one line, such as «cpu: native (torch ≥ 2.10; g++ 12.2): grad_norms, spec_augment» or
    «cuda: plain torch (torch finds no CUDA device)».
    """
    from dovetail import ops

    for name in ops.__all__:  # importing the modules of all ops
        getattr(ops, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return load("cpu"), load("cuda")


def _callers_level() -> int:
    """The stack level, seen from the function that asks, of the first frame outside of this package and of torch."""
    inside = (str(FOLDER_OF_CODE), str(Path(torch.__file__).parent))
    level, frame = 1, sys._getframe(1)  # noqa: SLF001  # the documented way to a caller's frame
    while frame.f_back is not None and frame.f_code.co_filename.startswith(inside):
        level, frame = level + 1, frame.f_back
    return level


def _expected_absence(device: Device) -> bool:
    """Whether nobody needs to be told that the object is not in use."""
    return os.environ.get(SWITCH) == "0" or (device == "cuda" and not torch.cuda.is_available())


def _load(device: Device) -> Native:
    path = FOLDER / f"libdovetail_{device}.so"
    if os.environ.get(SWITCH) == "0":
        return Native(device, path, f"{SWITCH}=0")
    if device == "cuda":
        if not torch.cuda.is_available():
            return Native(device, path, "torch finds no CUDA device")
        if not load("cpu").live:  # it holds the schemas
            return Native(device, path, "the CPU object, which holds the schemas, is not loaded")
    if not path.exists():
        need = "; it needs nvcc" if device == "cuda" else ""
        return Native(device, path, f"{path.name} is missing{need}; {_REBUILD}")
    try:
        torch.ops.load_library(path)  # type: ignore[no-untyped-call]  # torch leaves it without types
        build = _build_info(path)
    except (OSError, AttributeError, ValueError) as error:
        reason = " ".join(str(error.__cause__ or error).split())[:300]  # torch wraps the loader's own words
        found = f"{path.name} does not load under torch {torch.__version__} ({reason})"
        return Native(device, path, f"{found}; {_REBUILD}")
    if build["revision"] != REVISION:
        found = f"{path.name} has revision {build['revision']} of the ops, this version needs {REVISION}"
        return Native(device, path, f"{found}; {_REBUILD}")
    if device == "cpu":
        _when_loaded.now()
    return Native(device, path, build=build)


def _recording(op: str, backward: Callable[..., Any], keep: Callable[..., None]) -> Callable[..., Any]:
    """What `torch.library.register_autograd` makes of an op, at a third of its cost per call.

    Torch's own looks up defaults and keyword arguments in the schema each time.
    """
    plain = getattr(torch.ops.dovetail, op).default

    def below(*arguments: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():  # noqa: SLF001  # what torch's own wrapper uses
            return plain(*arguments)

    def forward(ctx: Any, *arguments: Any) -> Any:
        output = below(*arguments)
        keep(ctx, arguments, output)
        return output

    members = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    function: Any = type(op, (torch.autograd.Function,), members)
    # Without what Function.apply does in Python for torch.func, which refuses such functions anyway.
    apply: Callable[..., Any] = super(torch.autograd.Function, function).apply

    def recording(*arguments: Any) -> Any:
        needed = torch.is_grad_enabled() and any(isinstance(one, Tensor) and one.requires_grad for one in arguments)
        # Tangents of forward mode would be lost below autograd without a word; a function without jvp refuses them.
        if not needed and forward_ad._current_level < 0:  # noqa: SLF001  # there is no public way to ask
            return below(*arguments)
        if torch._C._are_functorch_transforms_active():  # noqa: SLF001  # likewise
            return function.apply(*arguments)
        return apply(*arguments)

    return recording


def _build_info(path: Path) -> dict[str, Any]:
    """What the object says about itself."""
    function = ctypes.CDLL(str(path)).dovetail_build_info
    function.restype = ctypes.c_char_p
    info: dict[str, Any] = json.loads(function())
    return info
