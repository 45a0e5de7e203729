"""Tests of dovetail.ops: the kernels against their references, and the loader."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from dovetail import ops
from dovetail.ops import _loader
from dovetail.ops._grad_norms import _joined
from places import ROOT

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
CHUNK = 1 << 15  # of both kernels

needs_native = pytest.mark.skipif(os.environ.get("DOVETAIL_NATIVE") == "0", reason="native ops are switched off")


def assert_same(got: ops.GradNorms, expected: ops.GradNorms) -> None:
    """Norms to a few roundings of float32; magnitudes and counts exactly."""
    close = {"rtol": 4e-6, "atol": 0, "equal_nan": True}
    for name in ("norms", "total", "clip_coef", "minimum", "mean", "maximum"):
        torch.testing.assert_close(getattr(got, name), getattr(expected, name), **close, msg=name)
    for name in ("max_abs", "zeros", "nans", "infs", "histogram"):
        torch.testing.assert_close(getattr(got, name), getattr(expected, name), rtol=0, atol=0, equal_nan=True)


def strided(tensor: Tensor, layout: str) -> Tensor:
    """The tensor's values in another memory layout (some change the shape as well)."""
    match layout:
        case "transposed":
            return tensor.transpose(0, -1) if tensor.ndim else tensor
        case "every second":
            return tensor.repeat_interleave(2, dim=-1)[..., ::2] if tensor.ndim else tensor
        case "expanded":
            return tensor.unsqueeze(0).expand(3, *tensor.shape)
        case "unaligned":
            return torch.cat([tensor.new_ones(1), tensor.flatten()])[1:]
        case "negated view":
            return torch.view_as_complex(torch.stack([tensor, tensor], -1).contiguous()).conj().imag
    return tensor


@st.composite
def gradients(draw: st.DrawFn) -> Tensor:
    """A tensor of any dtype, shape and layout, with large, tiny, NaN and infinite values in it."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 70), max_size=3))
    scale = draw(st.sampled_from([1.0, 1e-7, 1e4, 0.0, 1e-30, 1e-42, 1e25]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    tensor = (torch.randn(shape, generator=generator, dtype=torch.float64) * scale).to(dtype)
    specials = draw(st.lists(st.sampled_from([float("nan"), float("inf"), -float("inf"), -0.0, 5e-8]), max_size=3))
    for special in specials if tensor.numel() else []:
        tensor.view(-1)[draw(st.integers(0, tensor.numel() - 1))] = special
    layouts = ["plain", "transposed", "every second", "expanded", "unaligned"]
    if dtype in {torch.float32, torch.float64}:
        layouts.append("negated view")
    return strided(tensor, draw(st.sampled_from(layouts)))


@pytest.mark.parametrize("device", DEVICES)
@given(grads=st.lists(gradients(), max_size=6), max_norm=st.sampled_from([float("inf"), 1.0, 1e-3, 1e4]))
@example(grads=[torch.zeros(0), torch.zeros(3, 0), torch.ones(())], max_norm=1.0)
def test_grad_norms_agrees_with_its_reference(device: str, grads: list[Tensor], max_norm: float) -> None:
    """Any mixture of dtypes, shapes, strides, empties, NaN and infinities."""
    grads = [grad.to(device) for grad in grads]

    got = ops.grad_norms(grads, max_norm)

    assert_same(got, ops.grad_norms_reference(grads, max_norm))
    assert len(got) == len(grads)
    assert got.histogram.sum() == len(grads)
    assert {got.values.device.type, got.counts.device.type} == {device} or not grads


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("numel", [CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 17])
def test_grad_norms_crosses_chunks(dtype: torch.dtype, numel: int, device: str) -> None:
    """Tensors of around one and of several chunks, with a NaN as the very last element of one."""
    generator = torch.Generator().manual_seed(numel)
    grad = torch.randn(numel, generator=generator).to(device, dtype)
    broken = grad.clone()
    broken[-1] = float("nan")

    assert_same(ops.grad_norms([grad, broken]), ops.grad_norms_reference([grad, broken]))


@pytest.mark.parametrize("device", DEVICES)
def test_grad_norms_of_every_16_bit_pattern(device: str) -> None:
    """All 65,536 values of float16 and bfloat16, subnormals and NaN payloads included, each on its own."""
    patterns = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    for dtype in (torch.float16, torch.bfloat16):
        every = patterns.view(dtype).to(device)
        sample = list(every[:: 2**15 // 500].unbind())

        assert_same(ops.grad_norms([every]), ops.grad_norms_reference([every]))
        assert_same(ops.grad_norms([every[every.isfinite()]]), ops.grad_norms_reference([every[every.isfinite()]]))
        assert_same(ops.grad_norms(sample), ops.grad_norms_reference(sample))


@pytest.mark.parametrize("device", DEVICES)
def test_grad_norms_of_many_tiny_tensors(device: str) -> None:
    """More tensors than one CUDA launch holds."""
    grads = [torch.full((position % 3,), float(position), device=device) for position in range(2500)]

    assert_same(ops.grad_norms(grads), ops.grad_norms_reference(grads))


def test_grad_norms_does_not_overflow_where_float32_does() -> None:
    """Squares of 1e30 fit float64."""
    got = ops.grad_norms([torch.full((4,), 1e30)])

    assert got.norms.item() == pytest.approx(2e30)
    assert got.total.item() == pytest.approx(2e30)


@needs_native
def test_grad_norms_is_the_same_with_any_number_of_threads() -> None:
    """Bit for bit: the order of additions is fixed."""
    grads = [torch.randn(200_003), torch.randn(7), torch.randn(400, 400).t()]
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(ops.grad_norms(grads))
    finally:
        torch.set_num_threads(threads)

    for result in results[1:]:
        assert torch.equal(result.values, results[0].values)
        assert torch.equal(result.counts, results[0].counts)


def test_grad_norms_of_nothing() -> None:
    """No gradients: empty statistics and a total of zero."""
    for got in (ops.grad_norms([]), ops.grad_norms([None, None])):
        assert len(got) == 0
        assert got.values.tolist() == [0.0, 1.0, 0.0, 0.0, 0.0]
        assert got.counts.tolist() == [0] * 26


def test_grad_norms_by_hand() -> None:
    """Every field of a small case; None is skipped."""
    got = ops.grad_norms([torch.tensor([3.0, -4.0, 0.0]), None, torch.tensor([[0.0, -0.0], [0.0, 12.0]])], max_norm=6.5)

    assert got.norms.tolist() == [5.0, 12.0]
    assert got.max_abs.tolist() == [4.0, 12.0]
    assert got.zeros.tolist() == [1, 3]
    assert got.nans.tolist() == got.infs.tolist() == [0, 0]
    assert got.total.item() == 13.0
    assert got.clip_coef.item() == 6.5 / (13.0 + 1e-6)
    assert (got.minimum.item(), got.mean.item(), got.maximum.item()) == (5.0, 8.5, 12.0)
    assert got.to_host() is got
    occupied = [ops.HISTOGRAM_EDGES[place - 1] for place in got.histogram.nonzero().flatten().tolist()]
    assert occupied == [3.0, 10.0]


@given(norm=st.floats(1e-3, 1e3), max_norm=st.floats(1e-3, 1e3))
def test_grad_norms_clips_as_torch_does(norm: float, max_norm: float) -> None:
    """Gradients times `clip_coef` are what torch.nn.utils.clip_grad_norm_ leaves."""
    parameter = torch.nn.Parameter(torch.zeros(7))
    parameter.grad = torch.randn(7) * norm
    clipped = parameter.grad * ops.grad_norms([parameter.grad], max_norm).clip_coef.float()

    torch.nn.utils.clip_grad_norm_([parameter], max_norm)

    torch.testing.assert_close(clipped, parameter.grad)


def test_grad_norms_counts_edges_of_the_histogram_as_torch_does() -> None:
    """A norm on an edge belongs to the bin above it; zero to the first bin, NaN and Inf to the last."""
    norms = [0.0, *ops.HISTOGRAM_EDGES, float("inf"), float("nan")]

    got = ops.grad_norms([torch.tensor([norm], dtype=torch.float64) for norm in norms])

    assert got.histogram.tolist() == [1] * 25 + [3]
    assert_same(got, ops.grad_norms_reference([torch.tensor([norm], dtype=torch.float64) for norm in norms]))


def test_grad_norms_makes_sparse_gradients_dense() -> None:
    """A sparse gradient counts like the dense one it stands for, repeated indices summed; one warning says so."""
    sparse = torch.sparse_coo_tensor([[1, 3, 1]], [3.0, 8.0, 3.0], (5,), check_invariants=True)
    _loader.warn_once.cache_clear()

    with pytest.warns(RuntimeWarning, match="makes sparse gradients dense") as caught:
        results = [ops.grad_norms([sparse, sparse]) for _ in range(2)]

    assert len(caught) == 1
    assert Path(caught[0].filename).name == Path(__file__).name
    assert results[1].norms.tolist() == [10.0, 10.0]
    assert results[1].max_abs.tolist() == [8.0, 8.0]
    assert results[1].zeros.tolist() == [3, 3]


def test_grad_norms_joins_several_devices() -> None:
    """Each gradient is read where it is; rows stay in order. The second device here is a CUDA one or none at all."""
    grads = [torch.randn(3), torch.randn(4), torch.randn(5)]
    places = {torch.device("cpu"): [0, 2], torch.device(DEVICES[-1], 0): [1]}
    on_places = [grad.to(place) for grad, place in zip(grads, ["cpu", DEVICES[-1], "cpu"], strict=True)]

    assert_same(_joined(on_places, places, 1.0), ops.grad_norms(grads, 1.0))


@given(grads=st.lists(gradients(), min_size=1, max_size=5))
def test_the_reference_of_grad_norms_says_of_each_tensor_what_it_holds(grads: list[Tensor]) -> None:
    """One tensor after the other, in the plainest of torch."""
    got = ops.grad_norms_reference(grads)
    norms = torch.stack([torch.linalg.vector_norm(one, dtype=torch.float64) for one in grads])
    largest = torch.stack([one.abs().amax().double() if one.numel() else one.new_zeros(()).double() for one in grads])

    torch.testing.assert_close(got.norms, norms, rtol=1e-12, atol=0, equal_nan=True)
    torch.testing.assert_close(got.max_abs, largest, rtol=0, atol=0, equal_nan=True)
    assert got.zeros.tolist() == [int((one == 0).sum()) for one in grads]
    assert got.nans.tolist() == [int(one.isnan().sum()) for one in grads]
    assert got.infs.tolist() == [int(one.isinf().sum()) for one in grads]


@given(grads=st.lists(gradients(), min_size=1, max_size=5), max_norm=st.floats(1e-3, 1e3))
def test_a_plan_of_grad_norms_gives_what_grad_norms_gives(grads: list[Tensor], max_norm: float) -> None:
    """Of any dtypes and layouts, and of some of the parameters as well."""
    plan = ops.GradNormsPlan([torch.empty_like(one) for one in grads])
    for some in (grads, grads[:1], grads[-1:]):
        assert_same(plan(some, max_norm), ops.grad_norms(some, max_norm))


def test_a_plan_of_grad_norms_takes_sparse_gradients_and_those_that_are_differentiated() -> None:
    """What the kernel does not take, and what torch tracks, come out the same."""
    weight = torch.nn.Parameter(torch.ones(4, 2))
    plan = ops.GradNormsPlan([weight])
    sparse = torch.sparse_coo_tensor(torch.tensor([[1]]), torch.tensor([[3.0, 4.0]]), (4, 2), check_invariants=True)
    (tracked,) = torch.autograd.grad((weight**2).sum(), weight, create_graph=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)

        assert plan([sparse]).total.item() == pytest.approx(5.0)
    assert tracked.requires_grad
    assert plan([tracked]).values.numpy()[0] == pytest.approx(float((8 * 4) ** 0.5))


def test_grad_norms_leaves_its_input_alone() -> None:
    """Neither values nor version counters change, and no graph is recorded."""
    grad = torch.nn.Parameter(torch.randn(5, 5))
    before, version = grad.detach().clone(), grad._version

    got = ops.grad_norms([grad])

    assert torch.equal(grad, before)
    assert grad._version == version
    assert not got.values.requires_grad


def test_grad_norms_refuses_other_dtypes() -> None:
    """Complex and integer tensors, by position."""
    with pytest.raises(TypeError, match=r"gradient 1 is torch\.complex64"):
        ops.grad_norms([torch.ones(1), torch.ones(1, dtype=torch.complex64)])


@pytest.mark.parametrize("max_norm", [0, -1.0, float("nan")])
def test_grad_norms_refuses_a_max_norm_that_clips_all(max_norm: float) -> None:
    """It must be above zero."""
    with pytest.raises(ValueError, match="max_norm must be above 0"):
        ops.grad_norms([torch.ones(1)], max_norm)


@needs_native
@pytest.mark.parametrize("device", DEVICES)
def test_opcheck(device: str) -> None:
    """Schema, fake implementation and tracing hold together, as torch's own checker sees it."""
    assert ops.grad_norms([torch.ones(1, device=device)]).total.item() == 1.0  # loads the object
    for dtype in DTYPES:
        grads = [torch.randn(3, 4, device=device).to(dtype).t(), torch.zeros(0, device=device, dtype=dtype)]
        torch.library.opcheck(torch.ops.dovetail.grad_norms.default, (grads, 1.0))


@needs_native
def test_the_op_itself_refuses_what_its_face_does() -> None:
    """Called past the Python face, the kernel raises instead of reading wrong memory."""
    ops.grad_norms([torch.ones(1)])

    with pytest.raises(RuntimeError, match="float32, bfloat16, float16 and float64 only"):
        torch.ops.dovetail.grad_norms([torch.ones(1, dtype=torch.int32)], 1.0)


@needs_native
@pytest.mark.slow
def test_grad_norms_does_not_leak() -> None:
    """Ten thousand calls leave the process as large as a thousand did."""
    grads = [torch.randn(10, 10).t()[::2] for _ in range(20)]

    def size_after(calls: int) -> int:
        for _ in range(calls):
            ops.grad_norms(grads)
        gc.collect()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    warm = size_after(1000)

    assert size_after(10_000) - warm < 2048  # KiB: one leaked scalar tensor a call would be over 10,000


# --- the loader -----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder in which the loader looks for its objects, having loaded none."""
    monkeypatch.setattr(_loader, "FOLDER", tmp_path)
    monkeypatch.delenv("DOVETAIL_NATIVE", raising=False)
    _loader.load.cache_clear()
    yield tmp_path
    _loader.load.cache_clear()


def compile_c(source: str, target: Path) -> None:
    """A small shared object."""
    command = ["gcc", "-x", "c", "-shared", "-fPIC", "-o", str(target), "-"]
    subprocess.run(command, input=source, text=True, check=True)


def falls_back(match: str) -> None:
    """One warning, whatever the number of calls, and the reference's result."""
    grads = [torch.tensor([3.0, 4.0])]
    with pytest.warns(RuntimeWarning, match=match) as caught:
        results = [ops.grad_norms(grads) for _ in range(3)]

    assert len(caught) == 1
    assert "Plain torch does their work" in str(caught[0].message)
    assert "run `make native` in a checkout" in str(caught[0].message)
    assert Path(caught[0].filename).name == Path(__file__).name
    assert [result.total.item() for result in results] == [5.0] * 3
    assert not ops.status()[0].live


def test_a_missing_object_is_said_once(folder: Path) -> None:
    """The warning says what is missing and how to build it."""
    falls_back(r"libdovetail_cpu\.so is missing")


def test_a_corrupt_object_is_said_once(folder: Path) -> None:
    """A damaged file does not stop a run."""
    real = Path(_loader.__file__).with_name("libdovetail_cpu.so")
    damaged = bytearray(real.read_bytes()) if real.exists() else bytearray(4096)
    damaged[:16] = b"\0" * 16
    (folder / "libdovetail_cpu.so").write_bytes(damaged)

    falls_back("does not load under torch .*(invalid ELF header|file too short)")


def test_an_object_that_lacks_symbols_is_said_once(folder: Path) -> None:
    """As one built for a newer torch would."""
    source = "int torch_of_tomorrow(void); int (*pointer)(void) = torch_of_tomorrow;"
    compile_c(source, folder / "libdovetail_cpu.so")

    falls_back("undefined symbol: torch_of_tomorrow")


def test_an_object_of_an_older_checkout_is_said_once(folder: Path) -> None:
    """Its revision does not match, so its schemas may not either."""
    source = 'const char* dovetail_build_info(void) { return "{\\"revision\\": 0}"; }'
    compile_c(source, folder / "libdovetail_cpu.so")

    falls_back(f"has revision 0 of the ops, this version needs {_loader.REVISION}")


def test_a_strange_object_is_said_once(folder: Path) -> None:
    """A shared object that is none of ours."""
    compile_c("int nothing;", folder / "libdovetail_cpu.so")

    falls_back("dovetail_build_info")


@needs_native
def test_a_moved_object_loads(folder: Path) -> None:
    """The object needs nothing from the place it was built in."""
    shutil.copy(Path(_loader.__file__).with_name("libdovetail_cpu.so"), folder)
    program = (
        "import sys, pathlib, torch; from dovetail import ops; from dovetail.ops import _loader;"
        "_loader.FOLDER = pathlib.Path(sys.argv[1]);"
        "assert ops.grad_norms([torch.ones(4)]).total.item() == 2.0;"
        "print(ops.status()[0])"
    )
    command = [sys.executable, "-W", "error", "-c", program, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)

    assert done.stdout.startswith("cpu: native (torch ≥ 2.10; ")


def test_the_switch_runs_on_references_alone() -> None:
    """DOVETAIL_NATIVE=0: no object is loaded, nothing is said, the results are the same."""
    program = (
        "import torch; from dovetail import ops;"
        "print(ops.grad_norms([torch.tensor([3.0, 4.0])]).total.item(), hasattr(torch.ops.dovetail, 'grad_norms'));"
        "print(*ops.status(), sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "DOVETAIL_NATIVE": "0"},
    )

    assert done.stdout.splitlines() == [
        "5.0 False",
        "cpu: plain torch (DOVETAIL_NATIVE=0)",
        "cuda: plain torch (DOVETAIL_NATIVE=0)",
    ]


@needs_native
def test_status_tells_what_is_live() -> None:
    """The object says itself what it was built for; without a GPU the CUDA half is not asked for, nor missed."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cpu, cuda = ops.status()

    assert cpu.live
    assert cpu.build["torch_target"] == "2.10"
    assert cpu.build["revision"] == _loader.REVISION
    if not torch.cuda.is_available():
        assert str(cuda) == "cuda: plain torch (torch finds no CUDA device)"


def test_both_objects_have_the_revision_that_the_loader_wants() -> None:
    """The number in build_info.cpp and the one in _loader.py are raised together."""
    root = ROOT
    source = (root / "csrc" / "common" / "build_info.cpp").read_text()

    assert f'#define DOVETAIL_REVISION "{_loader.REVISION}"' in source


@needs_native
def test_the_object_tells_through_ctypes() -> None:
    """Reading the build information needs no torch."""
    path = Path(_loader.__file__).with_name("libdovetail_cpu.so")
    function = ctypes.CDLL(str(path)).dovetail_build_info
    function.restype = ctypes.c_char_p

    assert b'"torch_target": "2.10"' in function()
