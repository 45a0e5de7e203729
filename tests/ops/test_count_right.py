"""Tests of count_right: the kernels against torch's argmax and against counting by hand."""

from __future__ import annotations

import math
import os

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from dovetail import ops
from dovetail.ops._count_right import count_right_reference

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]

needs_native = pytest.mark.skipif(os.environ.get("DOVETAIL_NATIVE") == "0", reason="native ops are switched off")


@st.composite
def labelled(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor | None]:
    """Scores of few different values, so that many are equal, also NaN and infinite; labels, also of no class."""
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
    """Any dtype, shape and layout, equal scores, NaN, labels that are no class, masks."""
    scores, labels, mask = (one if one is None else one.to(device) for one in some)

    got = ops.count_right(scores, labels, mask, ignore_index)

    assert got.tolist() == count_right_reference(scores, labels, mask, ignore_index).tolist()
    assert got.dtype is torch.int64
    assert got.device.type == device


def test_count_right_by_hand() -> None:
    """The first of two largest scores is predicted; the ignored label does not count; one that is no class is wrong."""
    scores = torch.tensor([[2.0, 2.0, 1.0], [2.0, 2.0, 1.0], [0.0, 0.0, 9.0], [0.0, 0.0, 9.0], [1.0, 0.0, 0.0]])
    labels = torch.tensor([0, 1, 2, -100, 7])

    assert ops.count_right(scores, labels).tolist() == [2, 4]
    assert ops.count_right(scores, labels, torch.tensor([False, True, True, True, True])).tolist() == [1, 3]


def test_count_right_takes_many_rows_on_several_threads() -> None:
    """Rows enough to be shared out are counted once each."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(20_000, 37, generator=generator)
    labels = torch.randint(37, (20_000,), generator=generator)

    expected = int((scores.argmax(-1) == labels).sum())

    assert ops.count_right(scores, labels).tolist() == [expected, 20_000]


def test_count_right_takes_labels_of_other_integers_and_scores_that_are_differentiated() -> None:
    """What the kernel does not take is counted all the same; no graph is recorded."""
    scores = torch.nn.Parameter(torch.eye(3))

    assert ops.count_right(scores, torch.tensor([0, 1, 0], dtype=torch.int32)).tolist() == [2, 3]
    assert not ops.count_right(scores, torch.tensor([0, 1, 0])).requires_grad


def test_count_right_says_which_shapes_do_not_fit() -> None:
    """Scores need one dimension more than labels, and a mask is like the labels."""
    with pytest.raises(ValueError, match=r"logits \[\.\.\., classes\], targets \[\.\.\.\].*got \[\[4, 3\], \[3\]\]"):
        ops.count_right(torch.zeros(4, 3), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"got \[\[4, 3\], \[4\], \[1\]\]"):
        ops.count_right(torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64), torch.ones(1, dtype=torch.bool))


@needs_native
@pytest.mark.parametrize("device", DEVICES)
def test_opcheck_of_count_right(device: str) -> None:
    """Schema, fake implementation and tracing hold together, as torch's own checker sees it."""
    labels = torch.tensor([0, 2], device=device)
    assert ops.count_right(torch.eye(3, device=device)[:2], labels).tolist() == [1, 2]  # loads the object
    for dtype in DTYPES:
        scores = torch.randn(3, 2, device=device).to(dtype).t()
        for mask in (None, torch.tensor([True, False], device=device)):
            torch.library.opcheck(torch.ops.dovetail.count_right.default, (scores, labels, mask, -100))


@needs_native
def test_the_kernel_of_count_right_refuses_what_its_face_does() -> None:
    """Called past the Python face, it raises instead of reading wrong memory."""
    labels = torch.zeros(2, dtype=torch.int64)
    ops.count_right(torch.zeros(2, 3), labels)
    op = torch.ops.dovetail.count_right.default

    with pytest.raises(RuntimeError, match="float32, bfloat16, float16 and float64 only"):
        op(torch.zeros(2, 3, dtype=torch.int64), labels, None, -100)
    with pytest.raises(RuntimeError, match="targets must be int64"):
        op(torch.zeros(2, 3), labels.int(), None, -100)
    with pytest.raises(RuntimeError, match="do not fit"):
        op(torch.zeros(3, 3), labels, None, -100)
    with pytest.raises(RuntimeError, match="a mask is a boolean for each target"):
        op(torch.zeros(2, 3), labels, torch.ones(3, dtype=torch.bool), -100)
