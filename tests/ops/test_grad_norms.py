"""Tests of grad_norms: the kernels against their reference, and the reference against plain loops."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from dovetail import ops
from dovetail.ops import _loader
from dovetail.ops._grad_norms import _combine_devices
from native_ops import DEVICES, DTYPES, by_number_of_threads, memory_growth, needs_native

CHUNK = 1 << 15  # of both kernels


def assert_same(got: ops.GradNorms, expected: ops.GradNorms) -> None:
    """Assert equal norms up to a few float32 roundings, and exactly equal magnitudes and counts."""
    close = {"rtol": 4e-6, "atol": 0, "equal_nan": True}
    for name in ("norms", "total", "clip_coef", "minimum", "mean", "maximum"):
        torch.testing.assert_close(getattr(got, name), getattr(expected, name), **close, msg=name)
    for name in ("max_abs", "zeros", "nans", "infs", "histogram"):
        torch.testing.assert_close(getattr(got, name), getattr(expected, name), rtol=0, atol=0, equal_nan=True)


def strided(tensor: Tensor, layout: str) -> Tensor:
    """Return the values in another memory layout; some layouts change the shape."""
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
    """Draw a tensor of any dtype, shape and layout, with large, tiny, NaN and infinite values."""
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
    """Kernel and reference agree for any mixture of dtypes, shapes, strides, empty tensors, NaN and infinity."""
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
    """Tensors of about one and of several chunks are read completely, up to a NaN in the last element."""
    generator = torch.Generator().manual_seed(numel)
    grad = torch.randn(numel, generator=generator).to(device, dtype)
    broken = grad.clone()
    broken[-1] = float("nan")

    assert_same(ops.grad_norms([grad, broken]), ops.grad_norms_reference([grad, broken]))


@pytest.mark.parametrize("device", DEVICES)
def test_grad_norms_of_every_16_bit_pattern(device: str) -> None:
    """All 65,536 values of float16 and bfloat16, with subnormals and NaN payloads, together and one by one."""
    patterns = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    for dtype in (torch.float16, torch.bfloat16):
        every = patterns.view(dtype).to(device)
        sample = list(every[:: 2**15 // 500].unbind())

        assert_same(ops.grad_norms([every]), ops.grad_norms_reference([every]))
        assert_same(ops.grad_norms([every[every.isfinite()]]), ops.grad_norms_reference([every[every.isfinite()]]))
        assert_same(ops.grad_norms(sample), ops.grad_norms_reference(sample))


@pytest.mark.parametrize("device", DEVICES)
def test_grad_norms_of_many_tiny_tensors(device: str) -> None:
    """More tensors than fit in one CUDA launch."""
    grads = [torch.full((position % 3,), float(position), device=device) for position in range(2500)]

    assert_same(ops.grad_norms(grads), ops.grad_norms_reference(grads))


def test_grad_norms_does_not_overflow_where_float32_does() -> None:
    """The norm of values of 1e30 is finite."""
    got = ops.grad_norms([torch.full((4,), 1e30)])

    assert got.norms.item() == pytest.approx(2e30)
    assert got.total.item() == pytest.approx(2e30)


@needs_native
def test_grad_norms_is_the_same_with_any_number_of_threads() -> None:
    """The order of additions is fixed, so results are equal bit for bit."""
    grads = [torch.randn(200_003), torch.randn(7), torch.randn(400, 400).t()]

    results = by_number_of_threads(lambda: ops.grad_norms(grads))

    for result in results[1:]:
        assert torch.equal(result.values, results[0].values)
        assert torch.equal(result.counts, results[0].counts)


def test_grad_norms_of_nothing() -> None:
    """Without gradients, the statistics are empty and the total is 0."""
    for got in (ops.grad_norms([]), ops.grad_norms([None, None])):
        assert len(got) == 0
        assert got.values.tolist() == [0.0, 1.0, 0.0, 0.0, 0.0]
        assert got.counts.tolist() == [0] * 26


def test_grad_norms_by_hand() -> None:
    """Every field of a small example, in which None is skipped."""
    got = ops.grad_norms([torch.tensor([3.0, -4.0, 0.0]), None, torch.tensor([[0.0, -0.0], [0.0, 12.0]])], max_norm=6.5)

    assert got.norms.tolist() == [5.0, 12.0]
    assert got.max_abs.tolist() == [4.0, 12.0]
    assert got.zeros.tolist() == [1, 3]
    assert got.nans.tolist() == got.infs.tolist() == [0, 0]
    assert got.total.item() == 13.0
    assert got.clip_coef.item() == 6.5 / (13.0 + 1e-6)
    assert (got.minimum.item(), got.mean.item(), got.maximum.item()) == (5.0, 8.5, 12.0)
    assert got.to_host() is got
    occupied = [ops.HISTOGRAM_EDGES[edge - 1] for edge in got.histogram.nonzero().flatten().tolist()]
    assert occupied == [3.0, 10.0]


@given(norm=st.floats(1e-3, 1e3), max_norm=st.floats(1e-3, 1e3))
def test_grad_norms_clips_as_torch_does(norm: float, max_norm: float) -> None:
    """Gradients times `clip_coef` equal those clipped by torch.nn.utils.clip_grad_norm_."""
    parameter = torch.nn.Parameter(torch.zeros(7))
    parameter.grad = torch.randn(7) * norm
    clipped = parameter.grad * ops.grad_norms([parameter.grad], max_norm).clip_coef.float()

    torch.nn.utils.clip_grad_norm_([parameter], max_norm)

    torch.testing.assert_close(clipped, parameter.grad)


def test_grad_norms_counts_edges_of_the_histogram_as_torch_does() -> None:
    """A norm on an edge is in the bin above; 0 is in the first bin, NaN and Inf in the last."""
    norms = [0.0, *ops.HISTOGRAM_EDGES, float("inf"), float("nan")]

    got = ops.grad_norms([torch.tensor([norm], dtype=torch.float64) for norm in norms])

    assert got.histogram.tolist() == [1] * 25 + [3]
    assert_same(got, ops.grad_norms_reference([torch.tensor([norm], dtype=torch.float64) for norm in norms]))


def test_grad_norms_converts_sparse_gradients() -> None:
    """A sparse gradient counts like its dense equivalent, with repeated indices summed; a single warning says so."""
    sparse = torch.sparse_coo_tensor([[1, 3, 1]], [3.0, 8.0, 3.0], (5,), check_invariants=True)
    _loader.warn_once.cache_clear()

    with pytest.warns(RuntimeWarning, match="converts sparse gradients to dense") as caught:
        results = [ops.grad_norms([sparse, sparse]) for _ in range(2)]

    assert len(caught) == 1
    assert Path(caught[0].filename).name == Path(__file__).name
    assert results[1].norms.tolist() == [10.0, 10.0]
    assert results[1].max_abs.tolist() == [8.0, 8.0]
    assert results[1].zeros.tolist() == [3, 3]


def test_grad_norms_combines_several_devices() -> None:
    """Gradients on several devices keep their order; without CUDA, the second device is a stand-in."""
    grads = [torch.randn(3), torch.randn(4), torch.randn(5)]
    by_device = {torch.device("cpu"): [0, 2], torch.device(DEVICES[-1], 0): [1]}
    moved = [grad.to(device) for grad, device in zip(grads, ["cpu", DEVICES[-1], "cpu"], strict=True)]

    assert_same(_combine_devices(moved, by_device, 1.0), ops.grad_norms(grads, 1.0))


@given(grads=st.lists(gradients(), min_size=1, max_size=5))
def test_the_reference_agrees_with_a_loop(grads: list[Tensor]) -> None:
    """The statistics equal those of a loop over the tensors."""
    got = ops.grad_norms_reference(grads)
    norms = torch.stack([torch.linalg.vector_norm(grad, dtype=torch.float64) for grad in grads])
    largest = torch.stack([(grad.abs().amax() if grad.numel() else grad.new_zeros(())).double() for grad in grads])

    torch.testing.assert_close(got.norms, norms, rtol=1e-12, atol=0, equal_nan=True)
    torch.testing.assert_close(got.max_abs, largest, rtol=0, atol=0, equal_nan=True)
    assert got.zeros.tolist() == [int((grad == 0).sum()) for grad in grads]
    assert got.nans.tolist() == [int(grad.isnan().sum()) for grad in grads]
    assert got.infs.tolist() == [int(grad.isinf().sum()) for grad in grads]


@given(grads=st.lists(gradients(), min_size=1, max_size=5), max_norm=st.floats(1e-3, 1e3))
def test_a_plan_agrees_with_grad_norms(grads: list[Tensor], max_norm: float) -> None:
    """A plan gives the same statistics for any dtypes and layouts, also for some of the parameters."""
    plan = ops.GradNormsPlan([torch.empty_like(grad) for grad in grads])
    for some in (grads, grads[:1], grads[-1:]):
        assert_same(plan(some, max_norm), ops.grad_norms(some, max_norm))


def test_a_plan_supports_sparse_and_differentiable_gradients() -> None:
    """A plan gives the same statistics for gradients that the kernel does not support or that have a graph."""
    weight = torch.nn.Parameter(torch.ones(4, 2))
    plan = ops.GradNormsPlan([weight])
    sparse = torch.sparse_coo_tensor(torch.tensor([[1]]), torch.tensor([[3.0, 4.0]]), (4, 2), check_invariants=True)
    (tracked,) = torch.autograd.grad((weight**2).sum(), weight, create_graph=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)

        assert plan([sparse]).total.item() == pytest.approx(5.0)
    assert tracked.requires_grad
    assert plan([tracked]).values.numpy()[0] == pytest.approx(float((8 * 4) ** 0.5))


def test_grad_norms_does_not_change_its_input() -> None:
    """Values and version counters stay the same, and no graph is recorded."""
    grad = torch.nn.Parameter(torch.randn(5, 5))
    before, version = grad.detach().clone(), grad._version

    got = ops.grad_norms([grad])

    assert torch.equal(grad, before)
    assert grad._version == version
    assert not got.values.requires_grad


def test_other_dtypes_are_an_error() -> None:
    """The message names the position and the dtype."""
    with pytest.raises(TypeError, match=r"gradient 1 is torch\.complex64"):
        ops.grad_norms([torch.ones(1), torch.ones(1, dtype=torch.complex64)])


@pytest.mark.parametrize("max_norm", [0, -1.0, float("nan")])
def test_max_norm_must_be_above_zero(max_norm: float) -> None:
    """Zero, negative numbers and NaN are errors."""
    with pytest.raises(ValueError, match="max_norm must be above 0"):
        ops.grad_norms([torch.ones(1)], max_norm)


@needs_native
@pytest.mark.parametrize("device", DEVICES)
def test_opcheck(device: str) -> None:
    """torch.library.opcheck finds schema, fake implementation and tracing consistent."""
    assert ops.grad_norms([torch.ones(1, device=device)]).total.item() == 1.0  # loads the object
    for dtype in DTYPES:
        grads = [torch.randn(3, 4, device=device).to(dtype).t(), torch.zeros(0, device=device, dtype=dtype)]
        torch.library.opcheck(torch.ops.dovetail.grad_norms.default, (grads, 1.0))


@needs_native
def test_the_kernel_checks_its_arguments() -> None:
    """Called directly, the kernel raises instead of reading invalid memory."""
    ops.grad_norms([torch.ones(1)])

    with pytest.raises(RuntimeError, match="float32, bfloat16, float16 and float64 only"):
        torch.ops.dovetail.grad_norms([torch.ones(1, dtype=torch.int32)], 1.0)


@needs_native
@pytest.mark.slow
def test_grad_norms_does_not_leak() -> None:
    """The memory of the process does not grow with the number of calls."""
    grads = [torch.randn(10, 10).t()[::2] for _ in range(20)]

    assert memory_growth(lambda: ops.grad_norms(grads)) < 2048  # a leaked scalar tensor per call would be over 10,000
