"""Tests of physical_terms: kernels and reference against loops that follow the definitions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from dovetail import ops
from dovetail.ops import _loader
from dovetail.ops._physical_terms import physical_terms_reference
from native_ops import DEVICES, DTYPES, by_number_of_threads, memory_growth, needs_native

WEIGHTS = ("lambda_classification", "lambda_freq", "lambda_sommerfeld", "lambda_temporal")


# --- the oracle -----------------------------------------------------------------------------------------------------


def softmax(scores: np.ndarray) -> np.ndarray:
    """Return the softmax of one sample."""
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


def expected(logits: Tensor, targets: Tensor | None, options: dict[str, Any]) -> list[float]:
    """Return the four terms in float64, from a loop over samples."""
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
        predicted = [float((row * levels).sum()) for row in q]
        terms[2] = sum((level - wanted) ** 2 for level, wanted in zip(predicted, severity, strict=True)) / samples
    if options.get("windows") is not None:
        before, rates = options["windows"].neighbours[:, 0].tolist(), options["windows"].rates.tolist()
        changes = [rates[n] * float(((q[n] - q[m]) ** 2).sum()) for n, m in enumerate(before) if m >= 0]
        terms[3] = sum(changes) / len(changes) if changes else 0.0
    return terms


# --- the cases ------------------------------------------------------------------------------------------------------


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, Tensor | None, dict[str, Any]]:
    """Draw logits of any dtype and layout, and any of the terms with their factors."""
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
    """Move the options to a device."""
    moved = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in options.items()}
    if "windows" in moved:
        moved["windows"] = ops.Windows(*(tensor.to(device) for tensor in moved["windows"]))
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
    """Any logits and any choice of terms give the values of the loop."""
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
    """The gradients with respect to logits and penalties equal those of autograd for the reference."""
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
    tensors = (options.get("levels"), options.get("severity"))
    others = [None if tensor is None else tensor.to(wide) for tensor in tensors]
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
    for grad, expected_grad in zip(got, wanted, strict=False):
        assert grad is not None
        reference = torch.zeros_like(grad) if expected_grad is None else expected_grad
        torch.testing.assert_close(grad, reference, rtol=close, atol=close)


@given(seed=st.integers(0, 50))
def test_the_gradient_is_that_of_the_value(seed: int) -> None:
    """First and second derivatives agree with finite differences in float64, for logits and penalties."""
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


# --- NaN, dtypes, autograd and compilation --------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("spoilt", ["logits", "penalties", "severity"])
def test_nan_propagates(spoilt: str, device: str) -> None:
    """NaN in an input makes the total and the gradient NaN."""
    logits = torch.randn(3, 4, device=device)
    tensors = {"penalties": torch.rand(3, 4, device=device), "severity": torch.rand(3, device=device)}
    (logits if spoilt == "logits" else tensors[spoilt]).view(-1)[1] = math.nan
    logits.requires_grad_()

    terms = ops.physical_terms(logits, levels=torch.linspace(0, 1, 4, device=device), **tensors)
    terms.total.backward()

    assert terms.total.isnan()
    assert logits.grad is not None
    assert logits.grad.isnan().any()


def test_a_logit_of_minus_infinity_has_no_probability() -> None:
    """Such a class contributes neither to the terms nor to the gradient."""
    logits = torch.tensor([[0.0, -math.inf, 1.0]], requires_grad=True)

    terms = ops.physical_terms(logits, torch.tensor([2]), penalties=torch.ones(1, 3))
    terms.total.backward()

    assert terms.frequency.item() == pytest.approx(1.0)
    assert logits.grad is not None
    assert logits.grad[0, 1] == 0


def test_autocast_changes_nothing() -> None:
    """The terms of bfloat16 logits are float32 with and without autocast."""
    logits, targets = torch.randn(5, 3).bfloat16(), torch.tensor([0, 1, 2, 0, 1])
    plain = ops.physical_terms(logits, targets)

    with torch.autocast("cpu", torch.bfloat16):
        under = ops.physical_terms(logits, targets)

    assert torch.equal(plain.total, under.total)
    assert under.total.dtype is torch.float32
    torch.testing.assert_close(plain.total, F.cross_entropy(logits.float(), targets))


def test_parts_have_no_gradient() -> None:
    """Only the total requires a gradient."""
    terms = ops.physical_terms(torch.randn(2, 3, requires_grad=True), torch.tensor([0, 1]))

    assert terms.total.requires_grad
    assert not any(part.requires_grad for part in terms[1:])


@needs_native
def test_is_the_same_with_any_number_of_threads() -> None:
    """Terms and gradients are equal bit for bit."""
    logits = torch.randn(3000, 7, requires_grad=True)
    windows = ops.consecutive(3000)

    def compute() -> tuple[Tensor, ...]:
        total = ops.physical_terms(logits, torch.arange(3000) % 7, windows=windows).total
        return total, *torch.autograd.grad(total, logits)

    results = by_number_of_threads(compute)

    for total, grad in results[1:]:
        assert torch.equal(total, results[0][0])
        assert torch.equal(grad, results[0][1])


def arguments(device: str, dtype: torch.dtype) -> list[Any]:
    """Return a complete list of arguments for the op."""
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
    """torch.library.opcheck finds schema, fake implementation, autograd and tracing consistent."""
    op_arguments = arguments(device, dtype)
    assert _loader.is_native(op_arguments[0])
    op = torch.ops.dovetail.physical_terms.default
    torch.library.opcheck(op, tuple(op_arguments))
    op_arguments[0].requires_grad_()
    torch.library.opcheck(op, tuple(op_arguments))
    torch.library.opcheck(op, (op_arguments[0].detach(), *[None] * 6, 1.0, 1.0, 1.0, 1.0, False))


@needs_native
@pytest.mark.parametrize("device", DEVICES)
def test_the_op_has_a_gradient_through_the_dispatcher(device: str) -> None:
    """Called as compiled code calls it, the op gives the same gradient."""
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
@pytest.mark.slow
def test_compiles_without_graph_breaks() -> None:
    """torch.compile with fullgraph=True gives the same gradient."""
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
    """The memory of the process does not grow with the number of calls."""
    logits = torch.randn(8, 3).t().contiguous().t().requires_grad_()
    windows, targets = ops.consecutive(8), torch.arange(8) % 3

    def call() -> None:
        ops.physical_terms(logits, targets, windows=windows).total.backward()

    assert memory_growth(call) < 2048


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed, error, message",
    [
        ({"logits": torch.ones(2, 3, dtype=torch.int32)}, TypeError, r"not torch\.int32"),
        ({"logits": torch.ones(3)}, ValueError, r"logits must be \[N, classes\] .* got shape \(3,\)"),
        ({"logits": torch.ones(3, 0)}, ValueError, "with at least one class"),
        ({"targets": torch.ones(3, dtype=torch.int64)}, ValueError, r"targets must be integers of shape \(2,\)"),
        ({"targets": torch.ones(2)}, ValueError, r"targets must be integers .*, got torch\.float32 \(2,\)"),
        ({"penalties": torch.ones(2, 4)}, ValueError, r"penalties must be numbers of shape \(2, 3\)"),
        ({"penalties": torch.ones(2, 3, device="meta")}, ValueError, "penalties must be on cpu, .* not on meta"),
        ({"severity": torch.ones(2)}, ValueError, "severity and levels must be passed together"),
        ({"levels": torch.ones(3)}, ValueError, "severity and levels must be passed together"),
        ({"levels": torch.ones(2), "severity": torch.ones(2)}, ValueError, r"levels must be numbers of shape \(3,\)"),
        ({"windows": ops.consecutive(3)}, ValueError, r"windows must be integers of shape \(2, 2\)"),
    ],
)
def test_invalid_arguments_are_errors(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    """The message says what is required and what was passed."""
    options = {"logits": torch.randn(2, 3), **changed}

    with pytest.raises(error, match=message):
        ops.physical_terms(options.pop("logits"), **options)


def test_a_label_outside_the_classes_is_an_error() -> None:
    """The kernel names the label; the reference has the message of torch."""
    with pytest.raises((RuntimeError, IndexError), match=r"label 3 is not one of the classes 0 to 2|out of bounds"):
        ops.physical_terms(torch.randn(2, 3), torch.tensor([0, 3]))


@needs_native
@pytest.mark.parametrize("position", range(7))
def test_the_kernel_checks_its_arguments(position: int) -> None:
    """Called directly, the kernel raises instead of reading invalid memory."""
    op_arguments = arguments("cpu", torch.float32)
    assert _loader.is_native(op_arguments[0])
    op_arguments[position] = torch.ones(5, dtype=torch.float32)

    with pytest.raises(RuntimeError, match=r"does not match the logits|must be"):
        torch.ops.dovetail.physical_terms(*op_arguments)


@needs_native
def test_neighbours_outside_the_batch_are_ignored() -> None:
    """Invalid indices count as no neighbour."""
    op_arguments = arguments("cpu", torch.float32)
    op_arguments[5] = torch.tensor([[-9, 1 << 40]] * 4)

    _, parts, grad = torch.ops.dovetail.physical_terms(*op_arguments)

    assert parts[3] == 0
    assert grad.isfinite().all()
