"""Tests of frequency_penalties: kernels and reference against loops that follow the definition bin by bin."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from dovetail import ops
from dovetail.ops import _loader
from dovetail.ops._frequency import MAX_ALL_BANDS, MAX_BANDS, _spectrum, frequency_penalties_reference
from native_ops import DEVICES, by_number_of_threads, memory_growth, needs_native

RATE = 1000.0


# --- the oracle -----------------------------------------------------------------------------------------------------


def fraction_in(
    energies: np.ndarray, bin_width: float, bands: list[tuple[float, float]], length: int
) -> tuple[float, float]:
    """Return the fractions of energy and of bandwidth in the union of the bands, from a loop over bins."""
    inside = width = total = whole = 0.0
    for number in range(1, len(energies)):
        low, high = (number - 0.5) * bin_width, min(number + 0.5, length / 2) * bin_width
        cuts = sorted({low, high, *(edge for band in bands for edge in band if low < edge < high)})
        for left, right in itertools.pairwise(cuts):
            middle = (left + right) / 2
            covered = any(band[0] <= middle <= band[1] for band in bands)
            inside += energies[number] * (right - left) / bin_width * covered
            width += (right - left) * covered
            total += energies[number] * (right - left) / bin_width
            whole += right - left
    return (inside / total if total else math.nan), width / whole


def expected(signals: Tensor, bands: ops.Bands, rpm: Tensor | None, healthy: Tensor | None) -> np.ndarray:
    """Return the expected penalties in float64."""
    length = signals.shape[-1]
    ends = bands.ends.tolist()
    result = np.empty((len(signals), len(bands)))
    for sample, signal in enumerate(signals.double().numpy()):
        speed = 0.0 if rpm is None else abs(float(rpm[sample]))
        if not (np.isfinite(signal).all() and math.isfinite(speed)):
            result[sample] = math.nan
            continue
        energies = (np.abs(np.fft.rfft(np.atleast_2d(signal))) ** 2).sum(0)
        edges = (bands.edges[:, :2] + bands.edges[:, 2:] * speed).tolist()
        for which in range(len(bands)):
            own = [(low, high) for low, high in edges[ends[which] : ends[which + 1]]]
            fraction, normal = fraction_in(energies, RATE / length, own, length)
            has_width = normal > 0
            if healthy is not None and not math.isnan(float(healthy[which])):
                normal = float(healthy[which])
            undefined = math.isnan(fraction) or not has_width or fraction + normal == 0
            result[sample, which] = 0.5 if undefined else normal / (fraction + normal)
        fault = [which for which in range(len(bands)) if ends[which] < ends[which + 1]]
        least = min((result[sample, which] for which in fault), default=0.5)
        for which in set(range(len(bands))) - set(fault):
            result[sample, which] = 1 - least
    return result


# --- the cases ------------------------------------------------------------------------------------------------------


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, ops.Bands, dict[str, Any]]:
    """Draw signals of any dtype and layout, and classes with overlapping, out-of-range or no bands."""
    samples, length = draw(st.integers(0, 3)), draw(st.integers(2, 150))
    channels = draw(st.sampled_from([[], [1], [2]]))
    dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    signals = torch.randn(samples, *channels, length, generator=generator, dtype=torch.float64)
    signals = (signals + draw(st.sampled_from([0.0, 3.0]))).to(dtype)
    if draw(st.booleans()):
        signals = signals.repeat_interleave(2, dim=-1)[..., ::2]
    if samples and draw(st.booleans()):
        signals[0] = draw(st.sampled_from([0.0, math.nan, math.inf]))
    classes = draw(st.integers(1, 4))
    frequencies = st.lists(st.floats(0.5, 700), max_size=3)
    spans = st.lists(st.tuples(st.floats(0, 400), st.floats(401, 900)), max_size=2)
    bands = ops.bands_around(
        draw(st.lists(frequencies, min_size=classes, max_size=classes)),
        unit=draw(st.sampled_from(["hz", "orders"])),
        harmonics=draw(st.integers(1, 3)),
        tolerance=draw(st.sampled_from([0.02, 0.1, 0.5])),
        fixed=draw(st.lists(spans, max_size=classes)),
    )
    speed = st.sampled_from([60.0, 1797.0, -600.0, 0.0, math.nan, math.inf])
    fraction = st.sampled_from([0.0, 0.01, 0.5, 1.0, math.nan])
    rpm = draw(st.lists(speed, min_size=samples, max_size=samples))
    healthy = draw(st.none() | st.lists(fraction, min_size=classes, max_size=classes))
    options = {"rpm": torch.tensor(rpm), "healthy": None if healthy is None else torch.tensor(healthy)}
    return signals, bands, options


def on(device: str, options: dict[str, Any]) -> dict[str, Any]:
    """Move the options to a device."""
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in options.items()}


SILENT = (torch.zeros(1, 9), ops.bands_around([[100.0], []]), {"rpm": None, "healthy": None})


@pytest.mark.parametrize("device", DEVICES)
@given(case=cases())
@example(case=SILENT)
def test_agrees_with_the_definition(device: str, case: tuple[Tensor, ops.Bands, dict[str, Any]]) -> None:
    """Any signal, bands, speed and healthy fraction give the penalties of the loop."""
    signals, bands, options = case
    wanted = expected(signals, bands, **options)

    got = ops.frequency_penalties(signals.to(device), bands.to(device), sample_rate=RATE, **on(device, options))

    close = 1e-9 if signals.dtype is torch.float64 else 2e-4  # rfft in float32, of a mean of 3 as well
    np.testing.assert_allclose(got.cpu().double().numpy(), wanted, rtol=0, atol=close, equal_nan=True)
    assert got.dtype is (torch.float64 if signals.dtype is torch.float64 else torch.float32)
    assert got.isnan().logical_or((got >= 0) & (got <= 1)).all()


@needs_native
@pytest.mark.parametrize("device", DEVICES)
@given(case=cases())
def test_agrees_with_its_reference(device: str, case: tuple[Tensor, ops.Bands, dict[str, Any]]) -> None:
    """Penalties and gradients of the kernels equal those of the reference up to the last few bits."""
    signals, bands, options = case
    bands, options = bands.to(device), on(device, options)
    wide = signals.double() if signals.dtype is torch.float64 else signals.float()
    wide = wide.to(device) if wide.ndim == 3 else wide.to(device).unsqueeze(1)
    spectrum = _spectrum(wide).requires_grad_()
    rest = (*((value.double() if value is not None else None) for value in options.values()), RATE / wide.shape[-1])
    arguments = (spectrum, bands.edges, bands.ends, *rest, wide.shape[-1])
    assert _loader.is_native(spectrum)

    got, wanted = torch.ops.dovetail.frequency_penalties(*arguments), frequency_penalties_reference(*arguments)

    close = {"rtol": 1e-6, "atol": 1e-9} if wide.dtype is torch.float64 else {"rtol": 1e-6, "atol": 1e-6}
    torch.testing.assert_close(got, wanted, **close, equal_nan=True)
    sound = wanted.isfinite().all(1) & (spectrum.detach().square().sum((1, 2, 3)) > 1e-6)
    if not wanted.requires_grad:  # no class has bands: nothing depends on the signal
        return
    along = torch.randn_like(got)
    (grad,), (grad_wanted,) = (torch.autograd.grad(result, spectrum, along) for result in (got, wanted))
    scale = grad_wanted[sound].abs().amax().clamp(min=1e-3) if grad_wanted[sound].numel() else 1.0
    torch.testing.assert_close(grad[sound] / scale, grad_wanted[sound] / scale, rtol=1e-5, atol=1e-5)


# --- behaviour ------------------------------------------------------------------------------------------------------


def bearing(order: float, rpm: Tensor, length: int = 20_480, rate: float = 20_480.0) -> Tensor:
    """Return noisy signals with impacts at a multiple of the shaft's speed."""
    time = torch.arange(length) / rate
    frequency = order * rpm[:, None] / 60
    impacts = ((time * frequency) % 1 < 0.02).float()
    return impacts + 0.1 * torch.randn(len(rpm), length, generator=torch.Generator().manual_seed(0))


def test_the_fault_in_a_signal_has_the_smallest_penalty() -> None:
    """At three speeds, each fault of a bearing 6205 has the smallest penalty; noise has penalties of about 1/2."""
    rpm = torch.tensor([1730.0, 1797.0, 900.0])
    orders = {1: 3.5848, 2: 5.4152, 3: 4.7135}  # BPFO, BPFI, twice BSF
    bands = ops.bands_around([[], *([order] for order in orders.values())], unit="orders", harmonics=3, tolerance=0.02)

    for fault, order in orders.items():
        penalties = ops.frequency_penalties(bearing(order, rpm), bands, sample_rate=20_480, rpm=rpm)
        assert penalties.argmin(1).tolist() == [fault] * 3
        assert (penalties[:, fault] < 0.1).all()
        assert (penalties[:, 0] > 0.9).all()
    noise = torch.randn(3, 20_480, generator=torch.Generator().manual_seed(1))
    penalties = ops.frequency_penalties(noise, bands, sample_rate=20_480, rpm=rpm)
    assert ((penalties - 0.5).abs() < 0.25).all()


def test_penalties_are_relative_to_a_healthy_machine() -> None:
    """With the fractions of the signal itself as healthy, every class with bands has a penalty of 1/2."""
    signal = bearing(3.5, torch.tensor([1800.0]))
    bands = ops.bands_around([[105.0], [180.0]], harmonics=2)
    flat = ops.frequency_penalties(signal, bands, sample_rate=20_480)
    energies = torch.fft.rfft(signal.double())[0].abs().square()[1:]
    in_flat = torch.tensor([sum(2 * 0.1 * 105.0 * n for n in (1, 2)), sum(2 * 0.1 * 180.0 * n for n in (1, 2))])
    normal = in_flat / (20_480 / 2 - 0.5)
    fraction = normal / flat[0] - normal
    assert (fraction < 1).all()
    assert energies.sum() > 0

    own = ops.frequency_penalties(signal, bands, sample_rate=20_480, healthy=fraction)

    torch.testing.assert_close(own, torch.full_like(own, 0.5), rtol=0, atol=1e-3)


def test_a_narrow_band_contains_a_part_of_a_bin() -> None:
    """The penalty of a tone varies smoothly while a narrow band moves across it."""
    signal = torch.sin(2 * math.pi * 100 * torch.arange(1000) / RATE)[None].double()
    lows = torch.linspace(98.0, 102.0, 401)
    found = torch.stack(
        [
            ops.frequency_penalties(
                signal, ops.bands_around([[]], fixed=[[(float(low), float(low) + 0.2)]]), sample_rate=RATE
            )
            for low in lows
        ]
    ).flatten()

    assert found.min() < 0.01
    assert found[0] > 0.99
    fractions = (1 / found - 1) * 0.2 / 499.5
    assert fractions.diff().abs().max() < 0.011  # a step of 0.01 Hz changes the band by a hundredth of a bin's energy


@given(st.integers(0, 100))
def test_the_gradient_is_that_of_the_value(seed: int) -> None:
    """First and second derivatives with respect to the signal agree with finite differences in float64."""
    generator = torch.Generator().manual_seed(seed)
    signals = torch.randn(2, 12 + seed % 3, generator=generator, dtype=torch.float64, requires_grad=True)
    bands = ops.bands_around([[150.0], [], [320.0, 90.0]], harmonics=2)

    def penalties(signals: Tensor) -> Tensor:
        return ops.frequency_penalties(signals, bands, sample_rate=RATE)

    assert torch.autograd.gradcheck(penalties, signals)
    assert torch.autograd.gradgradcheck(penalties, signals)


def test_autocast_and_speeds_with_gradient() -> None:
    """Under autocast the penalties are the same float32; speeds that require a gradient get none."""
    signals = torch.randn(2, 64).bfloat16()
    rpm = torch.tensor([600.0, 900.0], requires_grad=True)
    bands = ops.bands_around([[3.0]], unit="orders")
    plain = ops.frequency_penalties(signals, bands, sample_rate=RATE, rpm=rpm)

    with torch.autocast("cpu", torch.bfloat16):
        under = ops.frequency_penalties(signals, bands, sample_rate=RATE, rpm=rpm)

    assert torch.equal(plain, under)
    assert under.dtype is torch.float32
    assert not under.requires_grad


@needs_native
def test_is_the_same_with_any_number_of_threads() -> None:
    """Penalties and gradients are equal bit for bit."""
    signals = torch.randn(7, 30_001, requires_grad=True)
    bands = ops.bands_around([[30.0, 40.0], [], [77.0]], harmonics=3)
    spectrum = torch.view_as_real(torch.fft.rfft(signals))[:, None].detach().requires_grad_()
    arguments = (spectrum, bands.edges, bands.ends, None, None, RATE / 30_001, 30_001)
    assert _loader.is_native(spectrum)

    def compute() -> tuple[Tensor, ...]:
        penalties = torch.ops.dovetail.frequency_penalties(*arguments)
        return penalties, *torch.autograd.grad(penalties.sum(), spectrum)

    results = by_number_of_threads(compute)

    for penalties, grad in results[1:]:
        assert torch.equal(penalties, results[0][0])
        assert torch.equal(grad, results[0][1])


@needs_native
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opcheck(dtype: torch.dtype, device: str) -> None:
    """torch.library.opcheck finds schema, fake implementation, autograd and tracing consistent."""
    bands = ops.bands_around([[150.0], [], [320.0, 90.0]], unit="orders").to(device)
    spectrum = torch.randn(3, 2, 9, 2, dtype=dtype, device=device)
    rpm = torch.tensor([60.0, 50.0, 40.0], dtype=torch.float64, device=device)
    healthy = torch.tensor([0.1, math.nan, 0.2], dtype=torch.float64, device=device)
    assert _loader.is_native(spectrum)
    for tensor in (spectrum, spectrum.transpose(0, 1).contiguous().transpose(0, 1), spectrum.clone().requires_grad_()):
        arguments = (tensor, bands.edges, bands.ends, rpm, healthy, 62.5, 16)
        torch.library.opcheck(torch.ops.dovetail.frequency_penalties.default, arguments)
    grad = torch.randn(3, 3, dtype=dtype, device=device)
    arguments = (grad, spectrum, bands.edges, bands.ends, rpm, healthy, 62.5, 16)
    torch.library.opcheck(torch.ops.dovetail.frequency_penalties_backward.default, arguments)


@needs_native
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layout", ["channels first", "every second bin", "unaligned", "expanded"])
def test_supports_spectra_of_any_layout(layout: str, dtype: torch.dtype, device: str) -> None:
    """Penalties and gradients equal those of a contiguous spectrum bit for bit."""
    spectrum = torch.randn(3, 2, 41, 2, dtype=dtype, generator=torch.Generator().manual_seed(0)).to(device)
    match layout:
        case "channels first":
            strided = spectrum.transpose(0, 1).contiguous().transpose(0, 1)
        case "every second bin":
            strided = spectrum.repeat_interleave(2, dim=2)[:, :, ::2]
        case "unaligned":
            strided = torch.cat([spectrum.new_ones(1), spectrum.flatten()])[1:].view(spectrum.shape)
        case _:
            strided = spectrum[:1].expand(3, 2, 41, 2)
    bands = ops.bands_around([[150.0], [], [320.0, 90.0]]).to(device)
    assert _loader.is_native(spectrum)
    results = []
    for tensor in (strided.detach(), strided.detach().clone(memory_format=torch.contiguous_format)):
        tensor.requires_grad_()
        found = torch.ops.dovetail.frequency_penalties(tensor, bands.edges, bands.ends, None, None, RATE / 80, 80)
        results.append((found, *torch.autograd.grad(found.square().sum(), tensor)))

    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("device", DEVICES)
@given(scale=st.sampled_from([1e-18, 1e-12, 1e12, 1e18]), seed=st.integers(0, 100))
def test_the_unit_of_the_signal_does_not_matter(device: str, scale: float, seed: int) -> None:
    """Scaling the signal by up to 1e18 does not change the penalties, although squares would overflow float32."""
    signals = torch.randn(2, 100, generator=torch.Generator().manual_seed(seed)).to(device)
    bands = ops.bands_around([[150.0], [], [320.0, 90.0]]).to(device)

    found = ops.frequency_penalties(signals * scale, bands, sample_rate=RATE)

    torch.testing.assert_close(found, ops.frequency_penalties(signals, bands, sample_rate=RATE), rtol=1e-4, atol=1e-5)


@needs_native
@pytest.mark.slow
def test_compiles_without_graph_breaks() -> None:
    """torch.compile with fullgraph=True gives the same gradient."""
    bands = ops.bands_around([[150.0], [], [320.0, 90.0]])
    signals = torch.randn(3, 64, requires_grad=True)

    def loss(signals: Tensor) -> Tensor:
        return ops.frequency_penalties(signals, bands, sample_rate=RATE).square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    expected_grad = torch.autograd.grad(loss(signals), signals)

    torch.testing.assert_close(torch.autograd.grad(compiled(signals), signals), expected_grad)


@needs_native
@pytest.mark.slow
def test_does_not_leak() -> None:
    """The memory of the process does not grow with the number of calls."""
    signals = torch.randn(2, 64).requires_grad_()
    bands = ops.bands_around([[150.0], [], [320.0, 90.0]], unit="orders")
    rpm, healthy = torch.tensor([60.0, 50.0]), torch.tensor([0.1, 0.2, 0.3])

    def call() -> None:
        ops.frequency_penalties(signals, bands, sample_rate=RATE, rpm=rpm, healthy=healthy).sum().backward()

    assert memory_growth(call) < 2048


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed, error, message",
    [
        ({"signals": torch.ones(2, 8, dtype=torch.int32)}, TypeError, r"not torch\.int32"),
        ({"signals": torch.ones(8)}, ValueError, r"\[N, L\] or \[N, M, L\] with L ≥ 2, got shape \(8,\)"),
        ({"signals": torch.ones(2, 1)}, ValueError, "with L ≥ 2"),
        ({"sample_rate": 0.0}, ValueError, "sample_rate must be above 0, got 0"),
        ({"sample_rate": math.nan}, ValueError, "sample_rate must be above 0"),
        ({"rpm": torch.ones(3)}, ValueError, r"rpm must have shape \(2,\), got \(3,\)"),
        ({"healthy": torch.ones(3)}, ValueError, r"healthy must have shape \(2,\), got \(3,\)"),
        ({"rpm": torch.ones(2, device="meta")}, ValueError, "rpm must be on cpu, .* not on meta"),
        ({"bands": ops.bands_around([])}, ValueError, "at least one class"),
        ({"bands": ops.bands_around([[1.0], []]).to("meta")}, ValueError, "bands must be on cpu"),
    ],
)
def test_invalid_arguments_are_errors(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    """The message says what is required and what was passed."""
    options = {"signals": torch.randn(2, 8), "bands": ops.bands_around([[100.0], []]), "sample_rate": RATE, **changed}

    with pytest.raises(error, match=message):
        ops.frequency_penalties(options.pop("signals"), options.pop("bands"), **options)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"frequencies": [[0.0]]}, r"class 0: expected frequencies must be above 0, got \[0\.0\]"),
        ({"frequencies": [[], [math.nan]]}, r"class 1: expected frequencies must be above 0, got \[nan\]"),
        ({"frequencies": [[1.0]], "harmonics": 0}, "harmonics must be at least 1, got 0"),
        ({"frequencies": [[1.0]], "tolerance": 1.0}, "tolerance must be above 0 and below 1, got 1"),
        (
            {"frequencies": [], "fixed": [[(5.0, 4.0)]]},
            r"class 0: a fixed band must be \(low, high\) with 0 <= low < high, got \[\(5",
        ),
        ({"frequencies": [[1.0] * 33], "harmonics": 2}, f"class 0 has 66 bands; at most {MAX_BANDS} are supported"),
        ({"frequencies": [[1.0] * 64] * 17}, f"the classes have 1088 bands; at most {MAX_ALL_BANDS} are supported"),
    ],
)
def test_invalid_bands_are_errors(options: dict[str, Any], message: str) -> None:
    """The message names the class and the numbers."""
    with pytest.raises(ValueError, match=message):
        ops.bands_around(**options)


def test_only_bands_in_orders_need_a_speed() -> None:
    """Bands in Hz need none."""
    assert ops.bands_around([[3.0]], unit="orders").need_speed
    assert not ops.bands_around([[3.0]], fixed=[[(4.0, 5.0)]]).need_speed


@needs_native
@pytest.mark.parametrize(
    "position, wrong, message",
    [
        (0, torch.ones(2, 1, 4, 2), "the spectrum must be"),
        (0, torch.ones(2, 1, 5, 2).bfloat16(), "float32 and float64 only"),
        (1, torch.ones(1, 3).double(), "bands must be float64"),
        (2, torch.ones(2), "ends must be int64"),
        (3, torch.ones(3).double(), "rpm must be float64"),
        (4, torch.ones(2).double(), "healthy must be float64"),
        (5, 0.0, "the width of a bin must be above 0"),
        (6, 12, "the spectrum must be"),
    ],
)
def test_the_kernel_checks_its_arguments(position: int, wrong: Any, message: str) -> None:
    """Called directly, the kernel raises instead of reading invalid memory."""
    spectrum, bands = torch.ones(2, 1, 5, 2), ops.bands_around([[100.0]])
    assert _loader.is_native(spectrum)
    arguments: list[Any] = [spectrum, bands.edges, bands.ends, None, None, 125.0, 8]
    arguments[position] = wrong

    with pytest.raises(RuntimeError, match=message):
        torch.ops.dovetail.frequency_penalties(*arguments)


@needs_native
def test_ends_outside_the_bands_are_clamped() -> None:
    """Invalid indices do not read outside the table of bands."""
    bands = ops.bands_around([[100.0], [200.0]])
    spectrum = torch.randn(1, 1, 5, 2)
    assert _loader.is_native(spectrum)

    found = torch.ops.dovetail.frequency_penalties(
        spectrum, bands.edges, torch.tensor([-7, 1, 1 << 40]), None, None, 125.0, 8
    )

    wanted = torch.ops.dovetail.frequency_penalties(spectrum, bands.edges, bands.ends, None, None, 125.0, 8)
    assert torch.equal(found, wanted)
