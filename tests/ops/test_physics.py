"""Tests of physical_terms and what is made of it: kernels and reference against loops that follow the definitions."""

from __future__ import annotations

import gc
import math
import os
import resource
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import forward_ad

from dovetail import ops
from dovetail.ops import _loader
from dovetail.ops._physics import physical_terms_reference

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
WEIGHTS = ("lambda_classification", "lambda_freq", "lambda_sommerfeld", "lambda_temporal")

needs_native = pytest.mark.skipif(os.environ.get("DOVETAIL_NATIVE") == "0", reason="native ops are switched off")


# --- the oracle -----------------------------------------------------------------------------------------------------


def softmax(scores: np.ndarray) -> np.ndarray:
    """Of one sample."""
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


def expected(logits: Tensor, targets: Tensor | None, options: dict[str, Any]) -> list[float]:
    """The four terms in float64, one sample after another."""
    q = [softmax(row) for row in logits.double().detach().numpy()]
    samples = len(q)
    terms = [0.0] * 4
    if targets is not None:
        losses = [-math.log(q[n][y]) if q[n][y] else math.inf for n, y in enumerate(targets.tolist()) if y != -100]
        terms[0] = sum(losses) / len(losses) if losses else 0.0
    if options.get("penalties") is not None and samples:
        penalties = options["penalties"].double().numpy()
        terms[1] = sum(float((row * p).sum()) for row, p in zip(q, penalties, strict=True)) / samples
    if options.get("severity") is not None and samples:
        levels, severity = options["levels"].double().numpy(), options["severity"].tolist()
        found = [float((row * levels).sum()) for row in q]
        terms[2] = sum((one - wanted) ** 2 for one, wanted in zip(found, severity, strict=True)) / samples
    if options.get("windows") is not None:
        before, rates = options["windows"].neighbours[:, 0].tolist(), options["windows"].rates.tolist()
        changes = [rates[n] * float(((q[n] - q[m]) ** 2).sum()) for n, m in enumerate(before) if m >= 0]
        terms[3] = sum(changes) / len(changes) if changes else 0.0
    return terms


# --- what is drawn --------------------------------------------------------------------------------------------------


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, Tensor | None, dict[str, Any]]:
    """Logits of any dtype and layout, and any of the terms with their factors."""
    samples, classes = draw(st.integers(0, 9)), draw(st.integers(1, 40))
    dtype = draw(st.sampled_from(DTYPES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scale = draw(st.sampled_from([0.0, 1.0, 5.0, 80.0]))
    logits = (torch.randn(samples, classes, generator=generator, dtype=torch.float64) * scale).to(dtype)
    match draw(st.sampled_from(["plain", "transposed", "every second", "unaligned"])):
        case "transposed":
            logits = logits.t().contiguous().t()
        case "every second":
            logits = logits.repeat_interleave(2, dim=1)[:, ::2]
        case "unaligned":
            logits = torch.cat([logits.new_ones(1), logits.flatten()])[1:].view(logits.shape)
    targets = None
    if draw(st.booleans()):
        targets = torch.randint(classes, (samples,), generator=generator)
        targets = targets.where(torch.rand(samples, generator=generator) < 0.8, -100)
    options: dict[str, Any] = {}
    if draw(st.booleans()):
        options["penalties"] = torch.rand(samples, classes, generator=generator)
    if draw(st.booleans()):
        options["severity"] = torch.rand(samples, generator=generator)
        options["levels"] = torch.rand(classes, generator=generator)
    if draw(st.booleans()):
        recordings = torch.randint(3, (samples,), generator=generator) if draw(st.booleans()) else None
        times = torch.rand(samples, generator=generator) * 5 if draw(st.booleans()) else None
        options["windows"] = ops.consecutive(samples, recordings, times)
    for name in WEIGHTS:
        options[name] = draw(st.sampled_from([1.0, 0.5, 0.0, 3.0]))
    return logits, targets, options


def on(device: str, options: dict[str, Any]) -> dict[str, Any]:
    """The same on a device."""
    moved = {name: one.to(device) if isinstance(one, Tensor) else one for name, one in options.items()}
    if "windows" in moved:
        moved["windows"] = ops.Windows(*(one.to(device) for one in moved["windows"]))
    return moved


EVERYTHING = {
    "penalties": torch.rand(300, 7, generator=torch.Generator().manual_seed(1)),
    "severity": torch.rand(300, generator=torch.Generator().manual_seed(2)),
    "levels": torch.linspace(0, 1, 7),
    "windows": ops.consecutive(300),
    **dict.fromkeys(WEIGHTS, 0.5),
}
MANY = (torch.randn(300, 7, generator=torch.Generator().manual_seed(3)), torch.arange(300) % 7, EVERYTHING)


@pytest.mark.parametrize("device", DEVICES)
@given(case=cases())
@example(case=MANY)
def test_agrees_with_the_definitions(device: str, case: tuple[Tensor, Tensor | None, dict[str, Any]]) -> None:
    """Any logits and any choice of terms: what loops over samples give, in the order of the fields."""
    logits, targets, options = case
    wanted = expected(logits, targets, options)

    got = ops.physical_terms(logits.to(device), None if targets is None else targets.to(device), **on(device, options))

    found = [float(part) for part in (got.classification, got.frequency, got.sommerfeld, got.temporal)]
    close = 1e-9 if logits.dtype is torch.float64 and "penalties" not in options else 2e-5
    np.testing.assert_allclose(found, wanted, rtol=close, atol=close)
    total = sum(options[name] * part for name, part in zip(WEIGHTS, found, strict=True))
    assert got.total.item() == pytest.approx(total, rel=1e-5, abs=1e-6)
    assert got.total.dtype is (torch.float64 if logits.dtype is torch.float64 else torch.float32)


@needs_native
@pytest.mark.parametrize("device", DEVICES)
@given(case=cases())
@example(case=MANY)
def test_gradients_agree_with_the_reference(device: str, case: tuple[Tensor, Tensor | None, dict[str, Any]]) -> None:
    """The gradients with respect to logits and penalties are those that autograd finds for plain torch."""
    logits, targets, options = case
    options = on(device, options)
    wide = torch.float64 if logits.dtype is torch.float64 else torch.float32
    logits = logits.to(device).requires_grad_()
    targets = None if targets is None else targets.to(device)
    wanted_of = [logits]
    if "penalties" in options:
        options["penalties"] = options["penalties"].to(wide).requires_grad_()
        wanted_of.append(options["penalties"])
    windows = options.get("windows", (None, None))
    others = [None if one is None else one.to(wide) for one in (options.get("levels"), options.get("severity"))]
    total, _ = physical_terms_reference(
        logits,
        targets,
        options.get("penalties"),
        *others,
        windows[0],
        None if windows[1] is None else windows[1].to(wide),
        *(options[name] for name in WEIGHTS),
    )
    wanted = torch.autograd.grad(total, wanted_of, allow_unused=True) if total.requires_grad else [None]

    found = ops.physical_terms(logits, targets, **options).total
    got = torch.autograd.grad(found, wanted_of, allow_unused=True)

    close = {torch.bfloat16: 1e-2, torch.float16: 2e-3, torch.float32: 1e-5, torch.float64: 1e-9}[logits.dtype]
    for one, other in zip(got, wanted, strict=False):
        assert one is not None
        torch.testing.assert_close(one, torch.zeros_like(one) if other is None else other, rtol=close, atol=close)


@given(seed=st.integers(0, 50))
def test_the_gradient_is_that_of_the_value(seed: int) -> None:
    """By finite differences in float64, once and twice, with respect to logits and penalties."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    penalties = torch.rand(4, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 2, -100, 1])
    options = {
        "severity": torch.rand(4, generator=generator, dtype=torch.float64),
        "levels": torch.rand(3, generator=generator, dtype=torch.float64),
        "windows": ops.consecutive(4, torch.tensor([0, 1, 0, 0]), torch.tensor([0.0, 1.0, 2.0, 2.5])),
    }

    def total(logits: Tensor, penalties: Tensor) -> Tensor:
        return ops.physical_terms(logits, targets, penalties=penalties, **options).total

    assert torch.autograd.gradcheck(total, (logits, penalties))
    assert torch.autograd.gradgradcheck(total, (logits, penalties))


# --- each term alone ------------------------------------------------------------------------------------------------


def test_frequency_consistency_reaches_the_logits() -> None:
    """One step down its gradient moves probability to the class that the signal speaks for; argmax would move none."""
    logits = torch.zeros(2, 3, requires_grad=True)
    penalties = torch.tensor([[0.9, 0.1, 0.8], [0.2, 0.9, 0.9]])

    loss = ops.frequency_consistency(logits, penalties)
    loss.backward()

    assert loss.item() == pytest.approx((1.8 + 2.0) / 3 / 2)
    assert logits.grad is not None
    assert logits.grad.argmin(1).tolist() == [1, 0]
    assert logits.grad.abs().min() > 0.01


def test_frequency_consistency_reaches_the_signal() -> None:
    """Through the penalties, where the signal requires a gradient."""
    signals = torch.randn(2, 64, requires_grad=True)
    penalties = ops.frequency_penalties(signals, ops.bands_around([[], [100.0]]), sample_rate=1000)

    ops.frequency_consistency(torch.randn(2, 2), penalties).backward()

    assert signals.grad is not None
    assert signals.grad.abs().max() > 0


def test_sommerfeld_consistency_of_scores_and_of_a_scalar() -> None:
    """Scores are weighed by the levels; a severity that the model predicts is taken as it is."""
    levels, severity = torch.tensor([0.0, 0.5, 1.0]), torch.tensor([0.25, 0.75])
    scores = torch.tensor([[0.0, 0.0, -math.inf], [-math.inf, 0.0, 0.0]], requires_grad=True)
    scalars = torch.tensor([[0.5], [0.25]], requires_grad=True)

    of_scores = ops.sommerfeld_consistency(scores, severity, levels)
    of_scalars = ops.sommerfeld_consistency(scalars, severity)
    of_scalars.backward()

    assert of_scores.item() == pytest.approx(0.0)
    assert of_scalars.item() == pytest.approx((0.25**2 + 0.5**2) / 2)
    assert scalars.grad is not None
    assert scalars.grad.flatten().tolist() == pytest.approx([0.25, -0.5])
    assert float(ops.sommerfeld_consistency(torch.zeros(0), torch.zeros(0))) == 0.0


def test_temporal_smoothness_knows_time_and_recordings() -> None:
    """A change over twice the time counts for a quarter; between recordings none counts."""
    logits = torch.tensor([[20.0, -20.0], [-20.0, 20.0], [20.0, -20.0]])

    def smoothness(*arguments: Any, **options: Any) -> float:
        return float(ops.temporal_smoothness(logits, *arguments, **options))

    assert smoothness() == pytest.approx(2.0)
    assert smoothness(torch.tensor([0, 0, 1])) == pytest.approx(2.0)
    assert smoothness(torch.tensor([0, 1, 2])) == 0.0
    assert smoothness(torch.tensor([5, 1, 5])) == pytest.approx(0.0, abs=1e-6)
    assert smoothness(None, torch.tensor([0.0, 2.0, 4.0])) == pytest.approx(0.5)
    assert smoothness(None, torch.tensor([0.0, 2.0, 4.0]), time_step=2.0) == pytest.approx(2.0)


@given(
    recordings=st.lists(st.integers(0, 3), max_size=9),
    times=st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, 7.0, math.nan]), min_size=9, max_size=9),
    with_recordings=st.booleans(),
    with_times=st.booleans(),
)
def test_consecutive_finds_the_window_before(
    recordings: list[int], times: list[float], with_recordings: bool, with_times: bool
) -> None:
    """In any order of the batch: the latest earlier window of the same recording, and the other way round."""
    count = len(recordings)
    recordings = recordings if with_recordings else [0] * count
    times = [0.0 if math.isnan(one) and not with_times else one for one in times[:count]]
    times = times if with_times else [float(place) for place in range(count)]
    windows = ops.consecutive(
        count,
        torch.tensor(recordings, dtype=torch.int64) if with_recordings else None,
        torch.tensor(times, dtype=torch.float64) if with_times else None,
    )
    before, after = windows.neighbours[:, 0].tolist(), windows.neighbours[:, 1].tolist()

    for window, previous in enumerate(before):
        same = [other for other in range(count) if recordings[other] == recordings[window]]
        if with_times:
            earlier = [other for other in same if times[other] < times[window]]
            level = [other for other in same if times[other] == times[window]]
            first_of_its_time = not level or min(level) == window
            latest = max((times[other] for other in earlier), default=math.nan)
            if previous >= 0:
                assert times[previous] == latest
                passed = times[window] - latest
                assert windows.rates[window].item() == pytest.approx(passed**-2)
            else:
                assert not earlier or not first_of_its_time
        else:
            assert previous == max((other for other in same if other < window), default=-1)
        assert previous < 0 or after[previous] == window
    assert sum(one >= 0 for one in before) == sum(one >= 0 for one in after)


# --- numbers that are none, dtypes, machinery -----------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("spoilt", ["logits", "penalties", "severity"])
def test_a_nan_shows(spoilt: str, device: str) -> None:
    """In what is read, it is in the total and in the gradient."""
    logits = torch.randn(3, 4, device=device)
    tensors = {"penalties": torch.rand(3, 4, device=device), "severity": torch.rand(3, device=device)}
    (logits if spoilt == "logits" else tensors[spoilt]).view(-1)[1] = math.nan
    logits.requires_grad_()

    terms = ops.physical_terms(logits, levels=torch.linspace(0, 1, 4, device=device), **tensors)
    terms.total.backward()

    assert terms.total.isnan()
    assert logits.grad is not None
    assert logits.grad.isnan().any()


def test_a_class_that_is_ruled_out_has_no_probability() -> None:
    """A score of minus infinity."""
    logits = torch.tensor([[0.0, -math.inf, 1.0]], requires_grad=True)

    terms = ops.physical_terms(logits, torch.tensor([2]), penalties=torch.ones(1, 3))
    terms.total.backward()

    assert terms.frequency.item() == pytest.approx(1.0)
    assert logits.grad is not None
    assert logits.grad[0, 1] == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_small_gradients_of_16_bits_survive_a_loss_scale(dtype: torch.dtype) -> None:
    """A gradient that would be 0 in float16 is there once the loss has been scaled, as an fp16 scaler needs it."""
    logits = torch.zeros(4096, 4, dtype=dtype, requires_grad=True)
    penalties = torch.tensor([0.5, 0.5, 0.5, 0.5001]).expand(4096, 4)

    (ops.frequency_consistency(logits, penalties) * 2.0**16).backward()

    assert logits.grad is not None
    assert logits.grad.dtype is dtype
    assert (logits.grad[:, 3] > 0).all()


def test_autocast_changes_nothing() -> None:
    """The terms of bfloat16 logits are float32 with and without it."""
    logits, targets = torch.randn(5, 3).bfloat16(), torch.tensor([0, 1, 2, 0, 1])
    plain = ops.physical_terms(logits, targets)

    with torch.autocast("cpu", torch.bfloat16):
        under = ops.physical_terms(logits, targets)

    assert torch.equal(plain.total, under.total)
    assert under.total.dtype is torch.float32
    torch.testing.assert_close(plain.total, F.cross_entropy(logits.float(), targets))


def test_parts_are_outside_of_the_graph() -> None:
    """Only the total has a gradient: it is the one that is minimised."""
    terms = ops.physical_terms(torch.randn(2, 3, requires_grad=True), torch.tensor([0, 1]))

    assert terms.total.requires_grad
    assert not any(part.requires_grad for part in terms[1:])


@needs_native
def test_is_the_same_with_any_number_of_threads() -> None:
    """Bit for bit, the gradient as well."""
    logits = torch.randn(3000, 7, requires_grad=True)
    windows = ops.consecutive(3000)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            total = ops.physical_terms(logits, torch.arange(3000) % 7, windows=windows).total
            results.append((total, *torch.autograd.grad(total, logits)))
    finally:
        torch.set_num_threads(threads)

    for total, grad in results[1:]:
        assert torch.equal(total, results[0][0])
        assert torch.equal(grad, results[0][1])


def arguments(device: str, dtype: torch.dtype) -> list[Any]:
    """Of the op, all of them given."""
    wide = torch.float64 if dtype is torch.float64 else torch.float32
    windows = ops.consecutive(4, device=device)
    return [
        torch.randn(4, 3, device=device).to(dtype),
        torch.tensor([0, 2, -100, 1], device=device),
        torch.rand(4, 3, device=device, dtype=wide),
        torch.rand(3, device=device, dtype=wide),
        torch.rand(4, device=device, dtype=wide),
        windows.neighbours,
        windows.rates.to(wide),
        *(1.0, 0.5, 0.25, 0.1),
        True,
    ]


@needs_native
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_opcheck(dtype: torch.dtype, device: str) -> None:
    """Schema, fake implementation, autograd and tracing hold together, as torch's own checker sees it."""
    given_ones = arguments(device, dtype)
    assert _loader.native(given_ones[0])
    op = torch.ops.dovetail.physical_terms.default
    torch.library.opcheck(op, tuple(given_ones))
    given_ones[0].requires_grad_()
    torch.library.opcheck(op, tuple(given_ones))
    torch.library.opcheck(op, (given_ones[0].detach(), *[None] * 6, 1.0, 1.0, 1.0, 1.0, False))


@needs_native
@pytest.mark.parametrize("device", DEVICES)
def test_the_op_itself_has_the_gradient_too(device: str) -> None:
    """Called through torch's dispatcher, as compiled code calls it."""
    logits = torch.randn(5, 3, device=device, requires_grad=True)
    targets = torch.tensor([0, 2, 1, 0, -100], device=device)
    ops.physical_terms(logits, targets).total.backward()
    wanted = logits.grad
    logits.grad = None

    nothing = [None] * 5
    torch.ops.dovetail.physical_terms(logits, targets, *nothing, 1.0, 1.0, 1.0, 1.0, True)[0].backward()

    assert wanted is not None
    assert torch.equal(logits.grad, wanted)


@needs_native
def test_forward_mode_is_refused() -> None:
    """A tangent is not dropped without a word, neither by hand nor under torch.func."""
    logits, penalties = torch.randn(2, 3), torch.rand(2, 3)

    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="jvp"):
        ops.frequency_consistency(forward_ad.make_dual(logits, logits), penalties)
    with pytest.raises(RuntimeError, match="functorch transforms"):
        torch.func.jvp(lambda one: ops.frequency_consistency(one, penalties), (logits,), (logits,))


@needs_native
@pytest.mark.slow
def test_compiles_in_one_piece() -> None:
    """Under torch.compile without a break, with the gradient."""
    logits = torch.randn(5, 3, requires_grad=True)
    targets, penalties = torch.tensor([0, 1, 2, 0, 1]), torch.rand(5, 3)

    def loss(logits: Tensor) -> Tensor:
        return ops.physical_terms(logits, targets, penalties=penalties).total

    wanted = torch.autograd.grad(loss(logits), logits)
    got = torch.autograd.grad(torch.compile(loss, fullgraph=True, backend="aot_eager")(logits), logits)

    torch.testing.assert_close(got, wanted)


@needs_native
@pytest.mark.slow
def test_does_not_leak() -> None:
    """Ten thousand calls leave the process as large as a thousand did."""
    logits = torch.randn(8, 3).t().contiguous().t().requires_grad_()
    windows, targets = ops.consecutive(8), torch.arange(8) % 3

    def size_after(calls: int) -> int:
        for _ in range(calls):
            ops.physical_terms(logits, targets, windows=windows).total.backward()
        gc.collect()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    warm = size_after(1000)

    assert size_after(10_000) - warm < 2048  # KiB


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed, error, message",
    [
        ({"logits": torch.ones(2, 3, dtype=torch.int32)}, TypeError, r"not torch\.int32"),
        ({"logits": torch.ones(3)}, ValueError, r"logits must be \[N, classes\], .* got shape \(3,\)"),
        ({"logits": torch.ones(3, 0)}, ValueError, "of one class or more"),
        ({"targets": torch.ones(3, dtype=torch.int64)}, ValueError, r"targets must be integers of shape \(2,\)"),
        ({"targets": torch.ones(2)}, ValueError, r"targets must be integers .*, got torch\.float32 \(2,\)"),
        ({"penalties": torch.ones(2, 4)}, ValueError, r"penalties must be numbers of shape \(2, 3\)"),
        ({"penalties": torch.ones(2, 3, device="meta")}, ValueError, "penalties must be on cpu, .* not on meta"),
        ({"severity": torch.ones(2)}, ValueError, "severity and levels go together"),
        ({"levels": torch.ones(3)}, ValueError, "severity and levels go together"),
        ({"levels": torch.ones(2), "severity": torch.ones(2)}, ValueError, r"levels must be numbers of shape \(3,\)"),
        ({"windows": ops.consecutive(3)}, ValueError, r"windows must be integers of shape \(2, 2\)"),
    ],
)
def test_what_does_not_fit_is_refused(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    """With what was wanted and what was found."""
    good = {"logits": torch.randn(2, 3), **changed}

    with pytest.raises(error, match=message):
        ops.physical_terms(good.pop("logits"), **good)


def test_consecutive_refuses_what_does_not_fit() -> None:
    """Shapes and steps."""
    with pytest.raises(ValueError, match=r"recordings must have shape \(3,\), got \(2,\)"):
        ops.consecutive(3, torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="time_step must be above 0, got 0"):
        ops.consecutive(3, time_step=0)


def test_sommerfeld_consistency_refuses_what_does_not_fit() -> None:
    """Predictions of another number of samples."""
    with pytest.raises(ValueError, match=r"must be \[N\] or \[N, 1\]"):
        ops.sommerfeld_consistency(torch.zeros(3), torch.zeros(2))


def test_a_label_that_is_none_of_the_classes_is_refused() -> None:
    """By number; plain torch has words of its own."""
    with pytest.raises((RuntimeError, IndexError), match=r"label 3 is none of the classes 0 to 2|out of bounds"):
        ops.physical_terms(torch.randn(2, 3), torch.tensor([0, 3]))


@needs_native
@pytest.mark.parametrize("place", range(7))
def test_the_op_itself_refuses_what_its_face_does(place: int) -> None:
    """Called past the Python face, the kernel raises instead of reading wrong memory."""
    given_ones = arguments("cpu", torch.float32)
    assert _loader.native(given_ones[0])
    given_ones[place] = torch.ones(5, dtype=torch.float32)

    with pytest.raises(RuntimeError, match=r"does not fit the logits|must be"):
        torch.ops.dovetail.physical_terms(*given_ones)


@needs_native
def test_neighbours_outside_of_the_batch_are_none() -> None:
    """As a damaged table would have them."""
    given_ones = arguments("cpu", torch.float32)
    given_ones[5] = torch.tensor([[-9, 1 << 40]] * 4)

    _, parts, grad = torch.ops.dovetail.physical_terms(*given_ones)

    assert parts[3] == 0
    assert grad.isfinite().all()
