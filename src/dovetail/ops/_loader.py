"""Find, check and load the shared objects of the native ops at the first call of an op.

The objects are built against torch's stable ABI and have no Python symbols, so one build works with torch 2.10 and
later and any Python. If an object is missing or incompatible, a single warning says how to fix it, and the ops run
their plain-torch references: slower, with the same results.
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

#: The environment variable that disables native ops: with DOVETAIL_NATIVE=0 the ops run their references.
SWITCH: Final = "DOVETAIL_NATIVE"

#: Incremented together with csrc/common/build_info.cpp when a schema or the meaning of a result changes.
REVISION: Final = 5

#: The folder with the objects, as setup.py installs them.
FOLDER: Final = Path(__file__).parent
#: The package of the ops; warnings skip its frames.
_PACKAGE: Final = str(Path(__file__).parent)


class _Registrations:
    """Registrations with torch, deferred until the object that defines the schemas is loaded."""

    def __init__(self) -> None:
        self._deferred: list[Callable[[], None]] | None = []

    def add(self, register: Callable[[], None]) -> None:
        """Call ``register``, now or once the schemas are loaded."""
        if self._deferred is None:
            register()
        else:
            self._deferred.append(register)

    def run(self) -> None:
        """Make the deferred registrations, and later ones at once."""
        deferred, self._deferred = self._deferred or [], None
        for register in deferred:
            register()


_registrations: Final = _Registrations()

# The ops whose modules are imported.
_OPS: Final[set[str]] = set()

# The autograd implementation of each differentiable op whose schema is loaded.
_AUTOGRAD: Final[dict[str, Callable[..., Any]]] = {}

# Holds the autograd implementations; torch drops them when the library is collected.
_LIBRARY: Final = torch.library.Library("dovetail", "FRAGMENT")  # type: ignore[no-untyped-call]  # of torch's

_REBUILD = "reinstall dovetail, or run `make native` in a checkout"


@frozen
class Native:
    """The state of one shared object.

    Attributes:
        device: The device type of its kernels.
        path: Its path, whether it exists or not.
        why_not: Why it is not loaded; empty if it is.
        build: Its build information: `compiler`, `torch_target`, `built_with_torch`, `revision` and, for CUDA,
            `cuda_archs`. Empty if it is not loaded.
    """

    device: Device
    path: Path
    why_not: str = ""
    build: dict[str, Any] = field(factory=dict)

    @property
    def live(self) -> bool:
        """Whether its kernels are in use."""
        return not self.why_not

    def __str__(self) -> str:
        """Return one line for `dovetail doctor`."""
        if not self.live:
            return f"{self.device}: plain torch ({self.why_not})"
        archs = self.build.get("cuda_archs")
        target = f"torch ≥ {self.build['torch_target']}" + (f", sm_{', sm_'.join(archs)}" if archs else "")
        return f"{self.device}: native ({target}; {self.build['compiler']}): {', '.join(sorted(_OPS))}"


def fake(op: str) -> Callable[[_Fake], _Fake]:
    """Register the decorated function as the fake implementation of an op, for torch.compile and torch.export."""

    def register(function: _Fake) -> _Fake:
        _OPS.add(op)
        _registrations.add(lambda: torch.library.register_fake(f"dovetail::{op}", function))
        return function

    return register


def register_autograd(op: str, backward: Callable[..., Any], setup_context: Callable[..., None]) -> None:
    """Register the backward of an op; the arguments are those of `torch.library.register_autograd`.

    Call such an op with `call` and positional arguments.
    """

    def register() -> None:
        _AUTOGRAD[op] = _autograd_wrapper(op, backward, setup_context)
        _LIBRARY.impl(op, _AUTOGRAD[op], "Autograd")  # type: ignore[no-untyped-call]  # torch leaves it without types

    _registrations.add(register)


def call(op: str, *arguments: Any) -> Any:
    """Call a differentiable op whose object is loaded; eager code bypasses the outer dispatch of torch."""
    if torch.compiler.is_compiling():
        return getattr(torch.ops.dovetail, op)(*arguments)
    return _AUTOGRAD[op](*arguments)


@functools.cache
def load(device: Device) -> Native:
    """Load the object for a device and return its state; warn once if it cannot be loaded unexpectedly."""
    native = _load(device)
    if not native.live and not _is_absence_expected(device):
        message = f"dovetail's native {device} ops are not in use: {native.why_not}. Plain torch replaces them, slower."
        warnings.warn(message, RuntimeWarning, stacklevel=_callers_level())
    return native


def _live(device_type: str) -> bool:
    """Return whether kernels for this device type are loaded; torch.compile treats the result as a constant."""
    return device_type in {"cpu", "cuda"} and load(cast("Device", device_type)).live


# Equivalent to torch.compiler.assume_constant_result, which would import torch's compiler: a second and 80 MB.
_live._dynamo_marked_constant = True  # type: ignore[attr-defined]  # noqa: SLF001  # as above


def is_native(tensor: Tensor) -> bool:
    """Return whether native kernels handle this tensor; load the object of its device if necessary."""
    return bool(_live(tensor.device.type))


@functools.cache
def warn_once(message: str) -> None:
    """Warn the caller of an op, once per process and message."""
    warnings.warn(message, RuntimeWarning, stacklevel=_callers_level())


def status() -> tuple[Native, ...]:
    """Return the state of both objects, for `dovetail doctor`; load them if necessary, without warnings.

    `str()` of each is one line, such as "cpu: native (torch ≥ 2.10; g++ 12.2): grad_norms, spec_augment" or
    "cuda: plain torch (torch finds no CUDA device)".
    """
    from dovetail import ops

    for name in dir(ops):  # import the modules of all ops
        getattr(ops, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return load("cpu"), load("cuda")


def _callers_level() -> int:
    """Return the stack level, relative to the calling function, of the first frame outside this package and torch."""
    inside = (_PACKAGE, str(Path(torch.__file__).parent))
    level, frame = 1, sys._getframe(1)  # noqa: SLF001  # the documented way to a caller's frame
    while frame.f_back is not None and frame.f_code.co_filename.startswith(inside):
        level, frame = level + 1, frame.f_back
    return level


def _is_absence_expected(device: Device) -> bool:
    """Return whether the object is unused for an expected reason: disabled, or CUDA without a GPU."""
    return os.environ.get(SWITCH) == "0" or (device == "cuda" and not torch.cuda.is_available())


def _load(device: Device) -> Native:
    path = FOLDER / f"libdovetail_{device}.so"
    if os.environ.get(SWITCH) == "0":
        return Native(device, path, f"{SWITCH}=0")
    if device == "cuda":
        if not torch.cuda.is_available():
            return Native(device, path, "torch finds no CUDA device")
        if not load("cpu").live:  # it defines the schemas
            return Native(device, path, "the CPU object, which defines the schemas, is not loaded")
    if not path.exists():
        requirement = "; building it requires nvcc" if device == "cuda" else ""
        return Native(device, path, f"{path.name} is missing{requirement}; {_REBUILD}")
    try:
        torch.ops.load_library(path)  # type: ignore[no-untyped-call]  # torch leaves it without types
        build = _build_info(path)
    except (OSError, AttributeError, ValueError) as error:
        reason = " ".join(str(error.__cause__ or error).split())[:300]  # torch wraps the linker's message
        problem = f"{path.name} does not load with torch {torch.__version__} ({reason})"
        return Native(device, path, f"{problem}; {_REBUILD}")
    if build["revision"] != REVISION:
        problem = f"{path.name} has revision {build['revision']} of the ops, but this version requires {REVISION}"
        return Native(device, path, f"{problem}; {_REBUILD}")
    if device == "cpu":
        _registrations.run()
    return Native(device, path, build=build)


def _autograd_wrapper(op: str, backward: Callable[..., Any], setup_context: Callable[..., None]) -> Callable[..., Any]:
    """Return an equivalent of the wrapper of `torch.library.register_autograd` at a third of its cost per call.

    Torch's wrapper looks up defaults and keyword arguments in the schema at every call.
    """
    plain = getattr(torch.ops.dovetail, op).default

    def below(*arguments: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():  # noqa: SLF001  # torch's wrapper uses it
            return plain(*arguments)

    def forward(ctx: Any, *arguments: Any) -> Any:
        output = below(*arguments)
        setup_context(ctx, arguments, output)
        return output

    members = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    function: Any = type(op, (torch.autograd.Function,), members)
    # Bypass Function.apply, whose Python code is for torch.func: torch.func rejects such functions anyway.
    apply: Callable[..., Any] = super(torch.autograd.Function, function).apply

    def call_with_autograd(*arguments: Any) -> Any:
        needs_grad = torch.is_grad_enabled() and any(
            isinstance(argument, Tensor) and argument.requires_grad for argument in arguments
        )
        # Below autograd, forward-mode tangents would be silently lost; a function without jvp raises an error.
        if not needs_grad and forward_ad._current_level < 0:  # noqa: SLF001  # there is no public API
            return below(*arguments)
        if torch._C._are_functorch_transforms_active():  # noqa: SLF001  # there is no public API
            return function.apply(*arguments)
        return apply(*arguments)

    return call_with_autograd


def _build_info(path: Path) -> dict[str, Any]:
    """Return the build information in an object."""
    function = ctypes.CDLL(str(path)).dovetail_build_info
    function.restype = ctypes.c_char_p
    info: dict[str, Any] = json.loads(function())
    return info
