"""Tests of spec_augment: kernels and reference against loops that follow the definition."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from dovetail import ops
from dovetail.ops import _loader
from dovetail.ops._spec_augment import MAX_MASKS, _arguments, spec_augment_reference
from dovetail.random import uniform
from native_ops import DEVICES, DTYPES, by_number_of_threads, memory_growth, needs_native

DEFAULTS: dict[str, Any] = {
    "lengths": None,
    "time_mask_param": 40,
    "freq_mask_param": 20,
    "num_time_masks": 2,
    "num_freq_masks": 2,
    "max_time_share": 1.0,
    "fill": 0.0,
}


# --- the oracle -----------------------------------------------------------------------------------------------------


def span(pair: list[float], widest: int, extent: int) -> range:
    """Return the positions that a pair of numbers masks, in exact arithmetic."""
    first, second = (Fraction(0) if math.isnan(number) else Fraction(min(max(number, 0.0), 1.0)) for number in pair)
    width = min(math.floor(first * (widest + 1)), widest)
    start = min(math.floor(second * (extent - width + 1)), extent - width)
    return range(start, start + width)


def masked_positions(
    shape: torch.Size, uniforms: Tensor, *, lengths: Tensor | None, max_time_share: float, **options: Any
) -> Tensor:
    """Return [N, F, T], True at masked positions, from a loop over positions."""
    samples, *_, frequencies, times = shape
    masked = torch.zeros(samples, frequencies, times, dtype=torch.bool)
    split = options["num_freq_masks"]
    for sample in range(samples):
        pairs = uniforms[sample].tolist()
        length = times if lengths is None else min(max(int(lengths[sample]), 0), times)
        bands = [span(pair, min(options["freq_mask_param"], frequencies), frequencies) for pair in pairs[:split]]
        stretches: list[range] = []
        left = math.floor(max_time_share * length)
        for pair in pairs[split:]:
            stretches.append(span(pair, min(options["time_mask_param"], left), length))
            left -= len(stretches[-1])
        for frequency in range(frequencies):
            for time in range(length):
                masked[sample, frequency, time] = any(frequency in band for band in bands) or any(
                    time in stretch for stretch in stretches
                )
    return masked


def expected(spectrograms: Tensor, uniforms: Tensor, options: dict[str, Any]) -> Tensor:
    """Return the expected result, bit for bit."""
    plain = spectrograms.cpu().clone(memory_format=torch.contiguous_format)
    options = {name: value.cpu() if isinstance(value, Tensor) else value for name, value in options.items()}
    fill = options.pop("fill")
    masked = masked_positions(plain.shape, uniforms.cpu(), **options)
    for sample in range(len(plain)):
        pictures = plain[sample] if plain.ndim == 4 else plain[sample : sample + 1]
        length = plain.shape[-1] if options["lengths"] is None else max(int(options["lengths"][sample]), 0)
        for picture in pictures:
            value = picture[:, :length].double().mean() if fill == "mean" else torch.tensor(fill, dtype=torch.float64)
            picture[masked[sample]] = value.to(plain.dtype)
    return plain.to(spectrograms.device)


def assert_same(got: Tensor, wanted: Tensor, fill: float | str) -> None:
    """Assert equality bit for bit (NaN equals NaN), or up to the order of summation for a mean."""
    close = {"rtol": 1e-12 if got.dtype is torch.float64 else 1e-2, "atol": 1e-12} if fill == "mean" else None
    torch.testing.assert_close(got, wanted, **close or {"rtol": 0, "atol": 0}, equal_nan=True)


# --- the cases ------------------------------------------------------------------------------------------------------


def laid_out(tensor: Tensor, layout: str) -> Tensor:
    """Return the values in another memory layout."""
    match layout:
        case "times before frequencies":
            return tensor.transpose(-1, -2).contiguous().transpose(-1, -2)
        case "samples last":
            return tensor.movedim(0, -1).contiguous().movedim(-1, 0)
        case "every second":
            return tensor.repeat_interleave(2, dim=-1)[..., ::2]
        case "rows apart":
            return torch.cat([tensor, torch.full_like(tensor, 7)], -1)[..., : tensor.shape[-1]]
        case "unaligned":
            return torch.cat([tensor.new_ones(1), tensor.flatten()])[1:].view(tensor.shape)
    return tensor


LAYOUTS = ["plain", "times before frequencies", "samples last", "every second", "rows apart", "unaligned"]


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Draw spectrograms of any dtype, shape and layout, uniform numbers in and out of range, and options."""
    samples, frequencies, times = draw(st.integers(0, 4)), draw(st.integers(0, 11)), draw(st.integers(0, 37))
    channels = draw(st.sampled_from([[], [0], [1], [3]]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    plain = torch.randn(samples, *channels, frequencies, times, generator=generator, dtype=torch.float64)
    spectrograms = plain.to(draw(st.sampled_from(DTYPES)))
    options = {
        "time_mask_param": draw(st.integers(0, 40)),
        "freq_mask_param": draw(st.integers(0, 12)),
        "num_time_masks": draw(st.integers(0, 3)),
        "num_freq_masks": draw(st.integers(0, 3)),
        "max_time_share": draw(st.sampled_from([0.0, 0.2, 0.5, 0.999, 1.0])),
        "fill": draw(st.sampled_from([0.0, -1.5, 0.1, 1e-40, 1e6, math.inf, math.nan, "mean"])),
        "lengths": None,
    }
    if draw(st.booleans()):
        dtype = draw(st.sampled_from([torch.int64, torch.int32]))
        options["lengths"] = torch.tensor([draw(st.integers(-2, times + 3)) for _ in range(samples)], dtype=dtype)
    masks = options["num_time_masks"] + options["num_freq_masks"]
    uniforms = torch.rand(samples, masks, 2, generator=generator)
    for special in draw(st.lists(st.sampled_from([0.0, 1.0, 1 - 2**-24, -1.0, 2.0, math.nan, math.inf]), max_size=3)):
        if uniforms.numel():
            uniforms.view(-1)[draw(st.integers(0, uniforms.numel() - 1))] = special
    return laid_out(spectrograms, draw(st.sampled_from(LAYOUTS))), uniforms, options


def to_device(device: str, spectrograms: Tensor, uniforms: Tensor, options: dict[str, Any]) -> Any:
    """Move a case to a device."""
    lengths = options["lengths"]
    return (
        spectrograms.to(device),
        uniforms.to(device),
        {**options, "lengths": None if lengths is None else lengths.to(device)},
    )


# --- values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@given(case=cases())
@example(case=(torch.ones(2, 3, 0), torch.rand(2, 4, 2), DEFAULTS))
@example(case=(torch.ones(1, 1, 1, 1), torch.full((1, 4, 2), 0.999), DEFAULTS))
def test_agrees_with_the_definition(device: str, case: tuple[Tensor, Tensor, dict[str, Any]]) -> None:
    """The functional form does not change its input; the in-place form writes only masked positions."""
    spectrograms, uniforms, options = to_device(device, *case)
    before = spectrograms.clone()
    wanted = expected(spectrograms, uniforms, options)

    got = ops.spec_augment(spectrograms, uniforms, **options)

    assert_same(got, wanted, options["fill"])
    assert torch.equal(spectrograms, before)
    assert got.is_contiguous()
    assert got.dtype is spectrograms.dtype

    around = spectrograms if spectrograms._base is None else spectrograms._base
    untouched = around.clone()
    assert ops.spec_augment_(spectrograms, uniforms, **options) is spectrograms
    assert_same(spectrograms, wanted, options["fill"])
    spectrograms.copy_(before)
    assert torch.equal(around, untouched)  # memory between the rows is unchanged


@given(case=cases())
def test_the_reference_has_the_same_bits(case: tuple[Tensor, Tensor, dict[str, Any]]) -> None:
    """Reference and kernels agree bit for bit, including fill values and means."""
    spectrograms, uniforms, options = case
    arguments = _arguments(spectrograms, uniforms, **options)

    reference = spec_augment_reference(*arguments).view(spectrograms.shape)
    got = ops.spec_augment(spectrograms, uniforms, **options)

    torch.testing.assert_close(got, reference, rtol=0, atol=0, equal_nan=True)
    assert reference.is_contiguous()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("times", [1024, 1031])
def test_large_inputs(dtype: torch.dtype, times: int, device: str) -> None:
    """Inputs for several threads and blocks agree, with rows that are and are not multiples of vector loads."""
    spectrograms = torch.randn(5, 2, 80, times, generator=torch.Generator().manual_seed(1)).to(device, dtype)
    uniforms = uniform(1, 2, range(5), "masks", (4, 2), device=device)
    arguments = _arguments(spectrograms, uniforms, **DEFAULTS)
    wanted = spec_augment_reference(*arguments)

    assert torch.equal(ops.spec_augment(spectrograms, uniforms), wanted)
    assert torch.equal(ops.spec_augment(spectrograms.mT.contiguous().mT, uniforms), wanted)
    assert 0.02 < (wanted == 0).double().mean() < 0.6
    assert torch.equal(ops.spec_augment_(spectrograms, uniforms), wanted)


def test_by_hand() -> None:
    """A small example."""
    spectrograms = torch.ones(1, 4, 8)
    uniforms = torch.tensor([[[0.5, 0.5], [0.75, 0.0]]])

    got = ops.spec_augment(
        spectrograms, uniforms, time_mask_param=3, freq_mask_param=1, num_time_masks=1, num_freq_masks=1, fill=-1
    )

    row = [-1, -1, -1, 1, 1, 1, 1, 1]
    assert got[0].tolist() == [row, row, [-1] * 8, row]


@given(st.integers(0, 2**31), st.integers(0, 60), st.integers(0, 6), st.floats(0, 1))
def test_time_masks_stay_within_max_time_share(seed: int, length: int, masks: int, fraction: float) -> None:
    """Any number of time masks covers at most that fraction of the length; padding is unchanged."""
    spectrograms = torch.ones(3, 2, 50)
    options = {"num_time_masks": masks, "num_freq_masks": 0, "time_mask_param": 50, "max_time_share": fraction}

    got = ops.spec_augment(
        spectrograms,
        uniform(seed, 0, range(3), "masks", (masks, 2)),
        lengths=torch.tensor([length, 50, 0]),
        **options,
    )

    hidden = (got == 0).all(1)
    valid = torch.tensor([min(length, 50), 50, 0])
    assert (hidden.sum(1) <= fraction * valid).all()
    assert not hidden[0, length:].any()
    assert not hidden[2].any()


def test_widths_and_starts_are_uniform() -> None:
    """All widths occur equally often, and so do all starts of one width."""
    count = 70_000
    options = {"num_time_masks": 1, "num_freq_masks": 0, "time_mask_param": 6}

    hidden = ops.spec_augment(torch.ones(count, 1, 10), uniform(0, 0, range(count), "m", (1, 2)), **options)[:, 0] == 0

    widths = torch.bincount(hidden.sum(1), minlength=7)
    starts = torch.bincount(hidden[hidden.sum(1) == 4].int().argmax(1), minlength=7)
    assert len(widths) == len(starts) == 7
    for counts in (widths, starts):
        even = counts.sum() / 7
        assert ((counts - even).square() / even).sum() < 22.5  # chi-squared with 6 degrees of freedom, p = 0.001


@pytest.mark.parametrize("device", DEVICES)
@given(order=st.permutations(range(8)), size=st.integers(1, 8), fraction=st.sampled_from([1.0, 0.3]))
def test_the_same_masks_in_any_batch(device: str, order: list[int], size: int, fraction: float) -> None:
    """A sample's masks depend only on its address, not on batch, device or dtype."""
    spectrograms = torch.ones(8, 2, 20, 50)
    options = {"time_mask_param": 15, "freq_mask_param": 8, "max_time_share": fraction}
    lengths = torch.tensor([50, 44, 38, 32, 26, 20, 14, 8])
    whole = ops.spec_augment(spectrograms, uniform(7, 3, range(8), "m", (4, 2)), lengths=lengths, **options)

    some = torch.tensor(order[:size])
    part = ops.spec_augment(
        spectrograms[some].to(device, torch.bfloat16),
        uniform(7, 3, some, "m", (4, 2), device=device),
        lengths=lengths[some].to(device),
        **options,
    )

    assert torch.equal(part.cpu().float(), whole[some])
    assert (whole == 0).any()


@needs_native
def test_the_same_with_any_number_of_threads() -> None:
    """Results of both forms are equal bit for bit."""
    spectrograms = torch.randn(6, 3, 90, 501)
    uniforms = uniform(0, 0, range(6), "m", (4, 2))

    results = by_number_of_threads(lambda: ops.spec_augment(spectrograms, uniforms))
    results += by_number_of_threads(lambda: ops.spec_augment_(spectrograms.clone(), uniforms))

    assert all(torch.equal(result, results[0]) for result in results)


def test_the_largest_number_of_masks() -> None:
    """64 masks work; 65 are an error."""
    spectrograms = torch.ones(2, 30, 200)
    options = {**DEFAULTS, "num_time_masks": 50, "num_freq_masks": 14, "time_mask_param": 3, "freq_mask_param": 2}
    uniforms = uniform(0, 0, range(2), "m", (MAX_MASKS, 2))

    assert torch.equal(
        ops.spec_augment(spectrograms, uniforms, **options), expected(spectrograms, uniforms, dict(options))
    )
    with pytest.raises(ValueError, match="at most 64 masks per sample, got 65"):
        ops.spec_augment(spectrograms, uniforms, **{**options, "num_time_masks": 51})


def test_lazily_negated_views() -> None:
    """A lazily negated view gives the result of its values."""
    values = torch.rand(2, 5, 9) + 1
    negated = torch.view_as_complex(torch.stack([values, -values], -1)).conj().imag
    uniforms = uniform(0, 1, range(2), "m", (4, 2))
    assert negated.is_neg()

    wanted = ops.spec_augment(values, uniforms)

    assert torch.equal(ops.spec_augment(negated, uniforms), wanted)
    assert torch.equal(ops.spec_augment_(negated, uniforms), wanted)


# --- gradients ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@given(case=cases())
def test_the_gradient_has_the_same_masks(device: str, case: tuple[Tensor, Tensor, dict[str, Any]]) -> None:
    """The gradient is 0 at masked positions and unchanged elsewhere, in both forms."""
    spectrograms, uniforms, options = to_device(device, *case)
    above = torch.randn(spectrograms.shape, generator=torch.Generator().manual_seed(3)).to(spectrograms)
    wanted = expected(above, uniforms, {**options, "fill": 0.0})

    leaf = spectrograms.detach().requires_grad_()
    (grad,) = torch.autograd.grad(ops.spec_augment(leaf, uniforms, **options), leaf, above)
    (grad_in_place,) = torch.autograd.grad(ops.spec_augment_(leaf.clone(), uniforms, **options), leaf, above)

    assert torch.equal(grad, wanted)
    assert torch.equal(grad_in_place, wanted)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("lengths", [None, [9, 4]])
def test_gradcheck(device: str, lengths: list[int] | None) -> None:
    """First and second derivatives agree with finite differences in float64."""
    spectrograms = torch.randn(2, 3, 5, 9, dtype=torch.float64, device=device).requires_grad_()
    uniforms = uniform(0, 4, range(2), "m", (4, 2), device=device)
    options = {
        "time_mask_param": 4,
        "freq_mask_param": 2,
        "fill": 1.5,
        "lengths": None if lengths is None else torch.tensor(lengths, device=device),
    }
    assert (ops.spec_augment(spectrograms, uniforms, **options) == 1.5).any()

    def masked_square(values: Tensor) -> Tensor:
        return ops.spec_augment(values.square(), uniforms, **options)

    def masked_in_place(values: Tensor) -> Tensor:
        return ops.spec_augment_(values.square(), uniforms, **options).exp()

    for function in (masked_square, masked_in_place):
        assert torch.autograd.gradcheck(function, spectrograms)
        assert torch.autograd.gradgradcheck(function, spectrograms)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", ["3D", "4D"])
def test_the_in_place_form_increments_the_version(device: str, layout: str) -> None:
    """A backward that needs the old values raises an error."""
    spectrograms = torch.ones(*(2, 1)[: 2 if layout == "4D" else 1], 5, 9, device=device)
    uniforms = uniform(0, 4, range(2), "m", (4, 2), device=device)
    weight = torch.ones((), device=device, requires_grad=True)
    product = spectrograms * weight
    version = spectrograms._version

    ops.spec_augment_(spectrograms, uniforms)

    assert spectrograms._version == version + 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.sum().backward()


def test_writing_to_a_leaf_is_an_error() -> None:
    """As in torch, it is allowed only without a graph."""
    leaf = torch.ones(2, 5, 9, requires_grad=True)
    uniforms = uniform(0, 4, range(2), "m", (4, 2))

    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        ops.spec_augment_(leaf, uniforms)
    with torch.no_grad():
        ops.spec_augment_(leaf, uniforms)
    assert (leaf == 0).any()


def test_inference_mode() -> None:
    """The in-place form supports tensors without version counters."""
    with torch.inference_mode():
        spectrograms = torch.ones(2, 5, 9)
        uniforms = uniform(0, 4, range(2), "m", (4, 2))
        wanted = ops.spec_augment(spectrograms, uniforms)

        assert torch.equal(ops.spec_augment_(spectrograms, uniforms), wanted)


# --- torch features -------------------------------------------------------------------------------------------------


@needs_native
@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_opcheck(dtype: torch.dtype, device: str) -> None:
    """torch.library.opcheck finds schema, fake implementation, autograd and tracing consistent."""
    assert _loader.is_native(torch.ones(1, device=device))
    lengths = torch.tensor([7, 3], device=device)
    uniforms = uniform(0, 4, range(2), "m", (4, 2), device=device)
    for plain in (torch.randn(2, 3, 5, 9), torch.randn(2, 3, 9, 5).mT, torch.randn(2, 3, 0, 9)):
        spectrograms = plain.to(device, dtype)
        fills = torch.randn(2, 3, device=device).to(dtype)
        for rest in ((None, None, 2, 3, 4, 1.0, 0.5), (lengths, fills, 1, 3, 4, 0.5, 0.0)):
            torch.library.opcheck(torch.ops.dovetail.spec_augment_.default, (spectrograms.clone(), uniforms, *rest))
            for leaf in (spectrograms, spectrograms.detach().clone().requires_grad_()):
                torch.library.opcheck(torch.ops.dovetail.spec_augment.default, (leaf, uniforms, *rest))


@needs_native
@pytest.mark.parametrize("fill", [0.25, "mean"])
def test_compiles_without_graph_breaks(fill: float | str) -> None:
    """torch.compile with fullgraph=True gives the bits of eager mode, with the gradient and in place."""
    uniforms = uniform(0, 4, range(3), "m", (4, 2))
    lengths = torch.tensor([9, 4, 0])
    leaf = torch.randn(3, 6, 9, requires_grad=True)
    options = {"time_mask_param": 4, "freq_mask_param": 3, "lengths": lengths, "fill": fill}

    def functional(values: Tensor) -> Tensor:
        return ops.spec_augment(values * 2, uniforms, **options)

    def in_place(values: Tensor) -> Tensor:
        return ops.spec_augment_(values * 2, uniforms, **options)

    wanted = functional(leaf)
    (grad,) = torch.autograd.grad(wanted.sum(), leaf)
    compiled = torch.compile(functional, fullgraph=True, backend="aot_eager")(leaf)

    assert torch.equal(compiled, wanted)
    assert torch.equal(torch.autograd.grad(compiled.sum(), leaf)[0], grad)
    assert torch.equal(torch.compile(in_place, fullgraph=True, backend="aot_eager")(leaf.detach()), wanted)


@pytest.mark.parametrize("dtype", DTYPES)
def test_autocast_keeps_the_dtype(dtype: torch.dtype) -> None:
    """Both forms return the dtype of their input."""
    spectrograms = torch.ones(2, 5, 9, dtype=dtype)
    uniforms = uniform(0, 4, range(2), "m", (4, 2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ops.spec_augment(spectrograms, uniforms).dtype is dtype
        assert ops.spec_augment_(spectrograms, uniforms).dtype is dtype


@needs_native
@pytest.mark.slow
def test_does_not_leak() -> None:
    """The memory of the process does not grow with the number of calls of either form."""
    spectrograms = torch.rand(4, 2, 16, 16).mT.requires_grad_()
    uniforms = uniform(0, 4, range(4), "m", (4, 2))
    lengths = torch.tensor([9, 4, 0, 16], dtype=torch.int32)

    def call() -> None:
        masked = ops.spec_augment(spectrograms, uniforms, lengths=lengths, fill="mean")
        masked.sum().backward()
        ops.spec_augment_(masked.detach(), uniforms, lengths=lengths)

    assert memory_growth(call) < 2048  # a leaked scalar tensor per call would be over 10,000


@pytest.mark.parametrize("device", DEVICES)
@given(case=cases(), layout=st.sampled_from(LAYOUTS))
def test_writes_to_out(device: str, case: tuple[Tensor, Tensor, dict[str, Any]], layout: str) -> None:
    """`out` of any layout gets the bits of a new result; the input is unchanged."""
    spectrograms, uniforms, options = case
    options = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in options.items()}
    spectrograms, uniforms = spectrograms.to(device), uniforms.to(device)
    out = laid_out(torch.full_like(spectrograms, 3, memory_format=torch.contiguous_format), layout)
    before, version = spectrograms.clone(), out._version

    found = ops.spec_augment(spectrograms, uniforms, **options, out=out)

    assert found is out
    assert_same(out, ops.spec_augment(spectrograms, uniforms, **options), 0.0)
    assert_same(spectrograms, before, 0.0)
    assert out._version > version


def test_an_invalid_out_is_an_error() -> None:
    """Shape and dtype must match, and no gradient may be required."""
    spectrograms, uniforms = torch.ones(2, 5, 9), torch.rand(2, 4, 2)

    with pytest.raises(ValueError, match=r"out must be torch\.float32 \(2, 5, 9\) on cpu, got torch\.float32 \(2, 5\)"):
        ops.spec_augment(spectrograms, uniforms, out=torch.ones(2, 5))
    with pytest.raises(ValueError, match=r"got torch\.float64"):
        ops.spec_augment(spectrograms, uniforms, out=spectrograms.double())
    with pytest.raises(ValueError, match="cannot write to an expanded tensor"):
        ops.spec_augment(spectrograms, uniforms, out=torch.ones(5, 9).expand(2, 5, 9))
    with pytest.raises(RuntimeError, match="does not support gradients with out"):
        ops.spec_augment(spectrograms.requires_grad_(), uniforms, out=torch.ones(2, 5, 9))


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [ops.spec_augment, ops.spec_augment_])
@pytest.mark.parametrize(
    "changed, error, message",
    [
        ({"spectrograms": torch.ones(2, 5, 9, dtype=torch.int32)}, TypeError, r"not torch\.int32"),
        ({"spectrograms": torch.ones(5, 9)}, ValueError, r"\[N, F, T\] or \[N, C, F, T\], got shape \(5, 9\)"),
        ({"uniforms": torch.rand(2, 3, 2)}, ValueError, r"float32 \(2, 4, 2\) for these masks, got .* \(2, 3, 2\)"),
        ({"uniforms": torch.rand(3, 4, 2)}, ValueError, r"\(2, 4, 2\) for these masks"),
        ({"uniforms": torch.rand(2, 4, 2).bfloat16()}, ValueError, r"got torch\.bfloat16"),
        ({"uniforms": torch.rand(2, 4, 2, device="meta")}, ValueError, "uniforms must be on cpu, .* not on meta"),
        (
            {"lengths": torch.ones(3, dtype=torch.int64)},
            ValueError,
            r"for each of 2 samples, got torch\.int64 \(3,\)",
        ),
        ({"lengths": torch.ones(2)}, ValueError, "lengths must be integers"),
        ({"lengths": torch.ones(2, dtype=torch.int64, device="meta")}, ValueError, "lengths must be on cpu"),
        ({"time_mask_param": -1}, ValueError, "time_mask_param must be at least 0, got -1"),
        ({"freq_mask_param": -1}, ValueError, "freq_mask_param must be at least 0"),
        ({"num_time_masks": -2}, ValueError, "num_time_masks must be at least 0"),
        ({"num_freq_masks": -2}, ValueError, "num_freq_masks must be at least 0"),
        ({"max_time_share": 1.5}, ValueError, r"max_time_share must be between 0 and 1, got 1\.5"),
        ({"max_time_share": math.nan}, ValueError, "max_time_share must be between 0 and 1"),
    ],
)
def test_invalid_arguments_are_errors(form: Any, changed: dict[str, Any], error: type[Exception], message: str) -> None:
    """The message says what is required and what was passed."""
    options = {"spectrograms": torch.ones(2, 5, 9), "uniforms": torch.rand(2, 4, 2), **changed}

    with pytest.raises(error, match=message):
        form(options.pop("spectrograms"), options.pop("uniforms"), **options)


def test_writing_to_an_expanded_tensor_is_an_error() -> None:
    """One write would change several samples; the functional form supports expanded tensors."""
    expanded = torch.ones(5, 9).expand(2, 5, 9)
    uniforms = uniform(0, 4, range(2), "m", (4, 2))

    with pytest.raises(ValueError, match="cannot write to an expanded tensor"):
        ops.spec_augment_(expanded, uniforms)
    assert torch.equal(ops.spec_augment(expanded, uniforms), ops.spec_augment(expanded.clone(), uniforms))


@needs_native
@pytest.mark.parametrize(
    "position, wrong, message",
    [
        (0, torch.ones(2, 5, 9), "the input must be"),
        (0, torch.ones(2, 1, 5, 9, dtype=torch.int32), "float32, bfloat16, float16 and float64 only"),
        (1, torch.rand(2, 4, 3), "uniforms must be float32"),
        (1, torch.rand(2, 65, 2), "the number of masks is invalid"),
        (2, torch.ones(3, dtype=torch.int64), "lengths must be int64"),
        (3, torch.ones(2, 2), "fills must be"),
        (4, 5, "the number of masks is invalid"),
        (5, -1, "widths must be at least 0"),
        (7, 1.5, "max_time_share from 0 to 1"),
    ],
)
def test_the_kernel_checks_its_arguments(position: int, wrong: Any, message: str) -> None:
    """Called directly, the kernels raise instead of accessing invalid memory."""
    spectrograms = torch.ones(2, 1, 5, 9)
    assert _loader.is_native(spectrograms)
    arguments: list[Any] = [spectrograms, torch.rand(2, 4, 2), None, None, 2, 3, 4, 1.0, 0.0]
    arguments[position] = wrong

    for op in (torch.ops.dovetail.spec_augment, torch.ops.dovetail.spec_augment_):
        with pytest.raises(RuntimeError, match=message):
            op(*arguments)
