"""Tests of count_right: the kernels against torch.argmax and small examples."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from dovetail import ops
from dovetail.ops._count_right import count_right_reference
from native_ops import DEVICES, DTYPES, needs_native


@st.composite
def labelled(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor | None]:
    """Draw logits with many ties, NaN and infinities, labels in and outside the classes, and a mask or None."""
    shape = draw(st.lists(st.integers(0, 5), max_size=3))
    classes = draw(st.sampled_from([1, 2, 3, 10, 33, 70]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    values = torch.tensor([0.0, -0.0, 1.0, 1.5, -2.0, math.inf, -math.inf, math.nan], dtype=torch.float64)
    kinds = draw(st.integers(1, len(values)))
    scores = values[torch.randint(kinds, (*shape, classes), generator=generator)].to(draw(st.sampled_from(DTYPES)))
    layout = draw(st.sampled_from(["plain", "classes first", "every second"]))
    if layout == "classes first":
        scores = scores.movedim(-1, 0).contiguous().movedim(0, -1)
    elif layout == "every second":
        scores = scores.repeat_interleave(2, dim=-1)[..., ::2]
    labels = torch.randint(-2, classes + 1, tuple(shape), generator=generator)
    mask = torch.rand(tuple(shape), generator=generator) < 0.7 if draw(st.booleans()) else None
    return scores, labels, mask


@pytest.mark.parametrize("device", DEVICES)
@given(some=labelled(), ignore_index=st.sampled_from([-100, 0, -1]))
@example(some=(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), None), ignore_index=-100)
@example(some=(torch.full((2, 3), math.nan), torch.tensor([0, 1]), None), ignore_index=-100)
def test_count_right_agrees_with_argmax(
    device: str, some: tuple[Tensor, Tensor, Tensor | None], ignore_index: int
) -> None:
    """Kernel and reference agree for any dtype, shape and layout, with ties, NaN, invalid labels and masks."""
    scores, labels, mask = (tensor if tensor is None else tensor.to(device) for tensor in some)

    got = ops.count_right(scores, labels, mask, ignore_index)

    assert got.tolist() == count_right_reference(scores, labels, mask, ignore_index).tolist()
    assert got.dtype is torch.int64
    assert got.device.type == device


def test_count_right_by_hand() -> None:
    """The first of two equal maxima is the prediction; the ignored label is not counted; an invalid label is wrong."""
    scores = torch.tensor([[2.0, 2.0, 1.0], [2.0, 2.0, 1.0], [0.0, 0.0, 9.0], [0.0, 0.0, 9.0], [1.0, 0.0, 0.0]])
    labels = torch.tensor([0, 1, 2, -100, 7])

    assert ops.count_right(scores, labels).tolist() == [2, 4]
    assert ops.count_right(scores, labels, torch.tensor([False, True, True, True, True])).tolist() == [1, 3]


def test_count_right_with_several_threads() -> None:
    """With enough rows for several threads, each row is counted once."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(20_000, 37, generator=generator)
    labels = torch.randint(37, (20_000,), generator=generator)

    expected = int((scores.argmax(-1) == labels).sum())

    assert ops.count_right(scores, labels).tolist() == [expected, 20_000]


def test_count_right_supports_other_integers_and_parameters() -> None:
    """int32 labels fall back to the reference; logits that require a gradient record no graph."""
    scores = torch.nn.Parameter(torch.eye(3))

    assert ops.count_right(scores, torch.tensor([0, 1, 0], dtype=torch.int32)).tolist() == [2, 3]
    assert not ops.count_right(scores, torch.tensor([0, 1, 0])).requires_grad


def test_shapes_that_do_not_match_are_an_error() -> None:
    """Logits need one more dimension than labels, and a mask the shape of the labels."""
    with pytest.raises(ValueError, match=r"logits \[\.\.\., classes\], targets \[\.\.\.\].*got \[\[4, 3\], \[3\]\]"):
        ops.count_right(torch.zeros(4, 3), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"got \[\[4, 3\], \[4\], \[1\]\]"):
        ops.count_right(torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64), torch.ones(1, dtype=torch.bool))


@needs_native
@pytest.mark.parametrize("device", DEVICES)
def test_opcheck(device: str) -> None:
    """torch.library.opcheck finds schema, fake implementation and tracing consistent."""
    labels = torch.tensor([0, 2], device=device)
    assert ops.count_right(torch.eye(3, device=device)[:2], labels).tolist() == [1, 2]  # loads the object
    for dtype in DTYPES:
        scores = torch.randn(3, 2, device=device).to(dtype).t()
        for mask in (None, torch.tensor([True, False], device=device)):
            torch.library.opcheck(torch.ops.dovetail.count_right.default, (scores, labels, mask, -100))


@needs_native
def test_the_kernel_checks_its_arguments() -> None:
    """Called directly, the kernel raises instead of reading invalid memory."""
    labels = torch.zeros(2, dtype=torch.int64)
    ops.count_right(torch.zeros(2, 3), labels)
    op = torch.ops.dovetail.count_right.default

    with pytest.raises(RuntimeError, match="float32, bfloat16, float16 and float64 only"):
        op(torch.zeros(2, 3, dtype=torch.int64), labels, None, -100)
    with pytest.raises(RuntimeError, match="targets must be int64"):
        op(torch.zeros(2, 3), labels.int(), None, -100)
    with pytest.raises(RuntimeError, match="do not match"):
        op(torch.zeros(3, 3), labels, None, -100)
    with pytest.raises(RuntimeError, match="mask must have a boolean for each target"):
        op(torch.zeros(2, 3), labels, torch.ones(3, dtype=torch.bool), -100)
