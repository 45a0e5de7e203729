"""Adapters of plain and native losses: exact weights, and errors for shapes and labels that do not fit."""

from __future__ import annotations

import functools
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from dovetail.losses import (
    FocalLoss,
    LabelSmoothingCrossEntropy,
    LanguageModelingLoss,
    LossResult,
    as_loss,
    cross_entropy,
)
from dovetail.models import ModelOutput

CLASSES = 3


def result(loss: Any, logits: Tensor, targets: Tensor, **more: Tensor) -> LossResult:
    """Return the result of an adapted loss for a batch."""
    return as_loss(loss)(ModelOutput(logits), {"targets": targets, **more})


def adds_up(loss: Any, logits: Tensor, targets: Tensor, cuts: list[int], mask: Tensor | None = None) -> None:
    """Assert that the weighted sum of the pieces has the value and gradient of the whole batch."""
    logits = logits.detach().requires_grad_()
    extra = {} if mask is None else {"mask": mask}
    whole = result(loss, logits, targets, **extra)
    (expected,) = torch.autograd.grad(whole.total, logits)
    places = [0, *sorted({cut % len(logits) for cut in cuts} - {0}), len(logits)]
    total, weight = logits.new_zeros(()), 0.0
    for start, stop in pairwise(places):
        piece = {} if mask is None else {"mask": mask[start:stop]}
        part = result(loss, logits[start:stop], targets[start:stop], **piece)
        total, weight = total + part.total * part.weight, weight + float(part.weight)
    (actual,) = torch.autograd.grad(total / max(weight, 1e-9), logits)

    assert weight == pytest.approx(float(whole.weight))
    torch.testing.assert_close(total / max(weight, 1e-9), whole.total)
    torch.testing.assert_close(actual, expected)


LABEL_LOSSES: list[Callable[..., Any]] = [
    nn.CrossEntropyLoss,
    FocalLoss,
    LabelSmoothingCrossEntropy,
    functools.partial(cross_entropy, label_smoothing=0.2),
]


@given(
    make=st.sampled_from(LABEL_LOSSES),
    seed=st.integers(0, 2**16),
    batch=st.integers(1, 7),
    space=st.sampled_from([(), (3,), (2, 2)]),
    reduction=st.sampled_from(["mean", "none"]),
    ignored=st.sampled_from([0.0, 0.3, 1.0]),
    masked=st.booleans(),
    cuts=st.lists(st.integers(0, 6), max_size=3),
)
def test_label_losses_add_up_exactly(
    *,
    make: Callable[..., Any],
    seed: int,
    batch: int,
    space: tuple[int, ...],
    reduction: str,
    ignored: float,
    masked: bool,
    cuts: list[int],
) -> None:
    """Pieces of a batch add up to the whole, with labels ignored or masked, even if a piece has no labels."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, CLASSES, *space, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, CLASSES, (batch, *space), generator=generator)
    targets[torch.rand(targets.shape, generator=generator) < ignored] = -100
    mask = torch.rand(targets.shape, generator=generator) < 0.7 if masked else None

    adds_up(make(reduction=reduction), logits, targets, cuts, mask)


@given(
    seed=st.integers(0, 2**16),
    batch=st.integers(1, 6),
    smoothing=st.sampled_from([0.0, 0.3]),
    reduction=st.sampled_from(["mean", "none"]),
    cuts=st.lists(st.integers(0, 5), max_size=3),
)
def test_class_weights_add_up_exactly(seed: int, batch: int, smoothing: float, reduction: str, cuts: list[int]) -> None:
    """The weight of a class-weighted loss is the class weight of its labels, so uneven pieces add up."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, CLASSES, 2, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, CLASSES, (batch, 2), generator=generator)
    targets[torch.rand(targets.shape, generator=generator) < 0.3] = -100
    loss = cross_entropy([0.5, 2.0, 3.0], label_smoothing=smoothing, reduction=reduction).double()

    adds_up(loss, logits, targets, cuts)
    kept = targets[targets != -100]
    assert float(result(loss, logits, targets).weight) == pytest.approx(float(loss.weight[kept].sum()))


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), nn.NLLLoss(), F.cross_entropy, F.nll_loss])
def test_total_is_the_loss_itself(loss: Any) -> None:
    """Adapting a loss does not change its value."""
    logits, targets = torch.randn(5, CLASSES).log_softmax(1), torch.tensor([0, 1, 2, -100, 1])

    actual = result(loss, logits, targets)

    assert actual.total == loss(logits, targets)
    assert float(actual.weight) == 4


def test_an_ignore_index_may_be_a_class() -> None:
    """A non-negative ``ignore_index`` does not count in the weight."""
    actual = result(nn.CrossEntropyLoss(ignore_index=1), torch.randn(4, CLASSES), torch.tensor([0, 1, 1, 2]))

    assert float(actual.weight) == 2


@pytest.mark.parametrize("weight", [None, [1.0, 2.0, 3.0]])
def test_ignoring_every_label_gives_zero(weight: list[float] | None) -> None:
    """If every label is ignored, torch's mean is NaN; the adapted loss is 0 with weight 0 and no gradient."""
    logits = torch.randn(2, CLASSES, requires_grad=True)

    actual = result(cross_entropy(weight), logits, torch.tensor([-100, -100]))
    (actual.total * actual.weight).backward()

    assert (actual.total.item(), float(actual.weight)) == (0, 0)
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize(
    "loss, targets",
    [
        (nn.CrossEntropyLoss(), torch.zeros(0, dtype=torch.int64)),
        (nn.CrossEntropyLoss(), torch.zeros(0, CLASSES)),
        (nn.MSELoss(), torch.zeros(0, CLASSES)),
        (nn.MSELoss(reduction="none"), torch.zeros(0, CLASSES)),
        (nn.MultiMarginLoss(), torch.zeros(0, dtype=torch.int64)),
    ],
)
def test_an_empty_batch_gives_zero(loss: Any, targets: Tensor) -> None:
    """An empty batch has loss 0, weight 0 and a gradient, without an error."""
    logits = torch.randn(0, CLASSES, requires_grad=True)

    actual = result(loss, logits, targets)
    actual.total.backward()

    assert (actual.total.item(), float(actual.weight)) == (0, 0)
    assert logits.grad is not None


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.bool])
def test_labels_may_have_any_integer_type(dtype: torch.dtype) -> None:
    """Labels may have integer types other than torch's int64."""
    logits, targets = torch.randn(3, CLASSES), torch.tensor([0, 1, 1])

    assert result(nn.CrossEntropyLoss(), logits, targets.to(dtype)).total == F.cross_entropy(logits, targets)


@pytest.mark.parametrize("make", LABEL_LOSSES)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_class_probabilities_are_averaged_over_samples(make: Callable[..., Any], reduction: str) -> None:
    """With class probabilities as targets, the weight is the number of samples and positions."""
    logits, q = torch.randn(4, CLASSES, 2), torch.rand(4, CLASSES, 2).softmax(1)

    actual = result(make(reduction=reduction), logits, q)

    torch.testing.assert_close(actual.total, make(reduction="mean")(logits, q))
    assert float(actual.weight) == 8


@pytest.mark.parametrize(
    "shape, targets, message",
    [
        ((4, 3), torch.zeros(4), r"CrossEntropyLoss: targets are torch.float32 of shape \[4\]; it takes class labels"),
        ((4, 3), torch.zeros(4, 2), r"class probabilities of shape \[4, 3\]"),
        ((4, 3), torch.zeros(5, dtype=torch.int64), r"labels must have shape \[4\], not \[5\]"),
        ((4, 3), torch.zeros(4, 1, dtype=torch.int64), r"labels must have shape \[4\], not \[4, 1\]"),
        ((2, 5, 3), torch.zeros(2, 5, dtype=torch.int64), r"\[2, 3\] \(classes go on dimension 1, before time or"),
        (
            (4,),
            torch.zeros(4, dtype=torch.int64),
            r"outputs have shape \[4\]; expected one score per class: \[batch, classes",
        ),
        ((4, 3), torch.tensor([0, 3, 1, 2]), "CrossEntropyLoss: label 3 is out of range for 3 classes, 0 to 2"),
        ((4, 3), torch.tensor([0, -1, 1, 2]), "label -1 is out of range for 3 classes"),
    ],
)
def test_labels_that_do_not_fit_raise(shape: tuple[int, ...], targets: Tensor, message: str) -> None:
    """The error for wrong shapes, types and labels has the given and the expected shapes."""
    with pytest.raises(ValueError, match=message):
        result(nn.CrossEntropyLoss(), torch.randn(shape), targets)


@pytest.mark.parametrize("make", LABEL_LOSSES)
def test_every_label_loss_names_a_label_out_of_range(make: Callable[..., Any]) -> None:
    """Our own losses name a label out of range, as cross-entropy does."""
    with pytest.raises(ValueError, match="label 7 is out of range"):
        result(make(), torch.randn(2, CLASSES), torch.tensor([0, 7]))


def test_other_errors_of_a_loss_pass_through() -> None:
    """An error that is not about labels passes through unchanged."""

    class Failing(nn.CrossEntropyLoss):
        def forward(self, *both: Tensor) -> Tensor:
            raise RuntimeError("out of order")

    with pytest.raises(RuntimeError, match="out of order"):
        result(Failing(), torch.randn(2, CLASSES), torch.tensor([0, 1]))


ELEMENTWISE = [nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.BCEWithLogitsLoss, nn.SoftMarginLoss]


@given(
    make=st.sampled_from(ELEMENTWISE),
    batch=st.integers(1, 6),
    inner=st.sampled_from([(), (1,), (3,), (2, 2)]),
    reduction=st.sampled_from(["mean", "none"]),
    cuts=st.lists(st.integers(0, 5), max_size=3),
)
def test_elementwise_losses_add_up_exactly(
    make: Callable[..., Any], batch: int, inner: tuple[int, ...], reduction: str, cuts: list[int]
) -> None:
    """The weight of an elementwise loss is its number of elements."""
    generator = torch.Generator().manual_seed(batch)
    logits = torch.randn(batch, *inner, generator=generator, dtype=torch.float64)
    targets = torch.rand(batch, *inner, generator=generator, dtype=torch.float64)

    adds_up(make(reduction=reduction), logits, targets, cuts)
    assert result(make(reduction=reduction), logits, targets).weight == targets.numel()


@given(seed=st.integers(0, 99), features=st.sampled_from([(), (2,)]), cuts=st.lists(st.integers(0, 3), max_size=2))
def test_a_mask_leaves_targets_out_of_an_elementwise_loss(
    seed: int, features: tuple[int, ...], cuts: list[int]
) -> None:
    """With ``reduction = "none"``, masked elements count neither in the mean nor in the weight."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 5, *features, generator=generator, dtype=torch.float64)
    targets = torch.randn(4, 5, *features, generator=generator, dtype=torch.float64)
    mask = torch.rand(4, 5, generator=generator) < 0.6
    loss = nn.MSELoss(reduction="none")

    actual = result(loss, logits, targets, mask=mask)

    torch.testing.assert_close(actual.total, F.mse_loss(logits[mask], targets[mask]))
    assert float(actual.weight) == targets[mask].numel()
    adds_up(loss, logits, targets, cuts, mask)


def test_a_mask_of_the_inputs_does_not_mask_targets() -> None:
    """A mask over time does not apply to one target per sample."""
    actual = result(nn.MSELoss(), torch.randn(4), torch.randn(4), mask=torch.ones(4, 7, dtype=torch.bool))

    assert actual.weight == 4


def test_a_mask_needs_a_loss_without_reduction() -> None:
    """A loss that has already averaged over padding cannot leave it out."""
    with pytest.raises(ValueError, match=r"MSELoss: the batch's mask leaves some targets out.* set reduction = 'none'"):
        result(nn.MSELoss(), torch.randn(2, 3), torch.randn(2, 3), mask=torch.ones(2, 3, dtype=torch.bool))


@pytest.mark.parametrize("loss", [*(make() for make in ELEMENTWISE), F.mse_loss, F.l1_loss, F.huber_loss])
def test_elementwise_losses_do_not_broadcast(loss: Any) -> None:
    """Shapes [4, 1] and [4], which would broadcast to [4, 4], raise an error with both shapes."""
    with pytest.raises(ValueError, match=r"outputs have shape \[4, 1\] but targets \[4\]; .*does not broadcast"):
        result(loss, torch.randn(4, 1), torch.rand(4))


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.float16])
def test_targets_take_the_type_of_the_outputs(dtype: torch.dtype) -> None:
    """Double, half and integer targets work with a float model."""
    logits = torch.randn(4, requires_grad=True)

    actual = result(nn.MSELoss(), logits, torch.tensor([1, 2, 3, 4], dtype=dtype))
    actual.total.backward()

    assert actual.total.dtype == torch.float32
    torch.testing.assert_close(actual.total, F.mse_loss(logits, torch.tensor([1.0, 2, 3, 4])))


def test_half_precision_outputs_are_compared_in_float32() -> None:
    """Outputs in bf16 do not round exact targets to bf16."""
    logits = torch.tensor([256.0], dtype=torch.bfloat16)

    assert float(result(nn.L1Loss(), logits, torch.tensor([257.0])).total) == 1


def test_batchmean_is_a_mean_over_samples() -> None:
    """The weight of KLDivLoss with ``batchmean`` is the number of samples."""
    loss = nn.KLDivLoss(reduction="batchmean")
    logits, q = torch.randn(4, 3, dtype=torch.float64).log_softmax(1), torch.rand(4, 3).double().softmax(1)

    assert result(loss, logits, q).weight == 4
    adds_up(loss, logits, q, [1, 2])


class PerSample(nn.Module):
    """A plain loss that returns one number per sample."""

    def forward(self, scores: Tensor, target: Tensor) -> Tensor:
        """Return the squared error of each sample's sum."""
        return (scores.sum(1) - target) ** 2


@pytest.mark.parametrize(
    "loss", [PerSample(), lambda scores, target: ((scores.sum(1) - target) ** 2).mean(), nn.MultiMarginLoss()]
)
def test_any_other_loss_is_a_mean_over_samples(loss: Any) -> None:
    """The weight of an unknown loss is the number of samples."""
    logits = torch.randn(5, 3, dtype=torch.float64)
    targets = torch.tensor([0, 1, 2, 0, 1])

    assert result(loss, logits, targets).weight == 5
    adds_up(loss, logits, targets, [2, 3])


class Named(nn.Module):
    """A loss that is native because of its parameter's name."""

    def forward(self, outputs: ModelOutput, batch: Any) -> LossResult:
        """Return the mean."""
        return LossResult(outputs.logits.mean(), {"mean": outputs.logits.mean()}, float(len(batch["targets"])))


def annotated(outputs, data: Batch) -> LossResult:  # noqa: F821 (a name that exists for type checkers only)
    """Return the mean: native because of its parameter's annotation."""
    return LossResult(outputs.logits.mean(), {}, float(len(data["targets"])))


@pytest.mark.parametrize("loss", [Named(), annotated, LanguageModelingLoss()])
def test_native_losses_are_called_unchanged(loss: Any) -> None:
    """A loss that takes a batch gets outputs and batch, and the adapter returns its result."""
    outputs, batch = ModelOutput(torch.randn(2, 3, 4)), {"targets": torch.ones(2, 3, dtype=torch.int64)}

    actual, own = as_loss(loss)(outputs, batch), loss(outputs, batch)

    assert (actual.total, actual.parts, float(actual.weight)) == (own.total, own.parts, float(own.weight))


def test_adapting_twice_changes_nothing() -> None:
    """``as_loss`` returns an adapted loss unchanged."""
    once = as_loss(nn.MSELoss())

    assert as_loss(once) is once
    assert repr(once) == "as_loss(MSELoss())"


def test_a_native_loss_must_return_a_loss_result() -> None:
    """The error for another result says what a native loss returns."""
    with pytest.raises(TypeError, match=r"<lambda> returned Tensor; a loss that takes a batch returns LossResult"):
        as_loss(lambda outputs, batch: outputs.logits.sum())(ModelOutput(torch.ones(2)), {})


@pytest.mark.parametrize(
    "loss", [nn.MSELoss(reduction="sum"), nn.CrossEntropyLoss(reduction="sum"), FocalLoss(reduction="sum")]
)
def test_reduction_sum_raises(loss: Any) -> None:
    """``reduction = "sum"`` would make the step depend on the batch size; the error says what to do instead."""
    with pytest.raises(
        ValueError, match="reduction = 'sum' makes the step depend on the batch size; leave it at 'mean'"
    ):
        as_loss(loss)


@pytest.mark.parametrize(
    "loss, message",
    [
        (3, "int is not callable, so it cannot be a loss"),
        (nn.CrossEntropyLoss, r"CrossEntropyLoss is a class, not a loss; pass an instance: CrossEntropyLoss\(\)"),
        (lambda only: only, r"<lambda> takes \(only\)"),
        (nn.TripletMarginLoss(), r"TripletMarginLoss takes \(anchor, positive, negative\)"),
        (lambda a, b, *, scale: a, r"<lambda> takes \(a, b, scale\); a loss takes \(outputs, batch\)"),
    ],
)
def test_anything_else_is_not_a_loss(loss: Any, message: str) -> None:
    """A loss takes outputs and batch, or input and target, and nothing else."""
    with pytest.raises(TypeError, match=message):
        as_loss(loss)


def test_a_loss_with_variadic_arguments_is_plain() -> None:
    """A loss that takes ``*args`` gets logits and targets."""
    assert float(result(lambda *both: (both[0] - both[1]).abs().mean(), torch.ones(2), torch.zeros(2)).total) == 1


def test_a_loss_without_a_signature_is_plain() -> None:
    """A function written in C, without a signature, gets logits and targets."""
    assert float(result(torch.dist, torch.ones(4), torch.zeros(4)).total) == 2


@pytest.mark.parametrize("make", [*LABEL_LOSSES, nn.MSELoss, nn.HuberLoss])
def test_the_gradient_reaches_every_logit(make: Callable[..., Any]) -> None:
    """No loss uses argmax: every logit gets a gradient."""
    logits = torch.randn(4, CLASSES, requires_grad=True)
    targets = torch.randn(4, CLASSES) if make in {nn.MSELoss, nn.HuberLoss} else torch.tensor([0, 1, 2, 0])

    result(make(), logits, targets).total.backward()

    assert logits.grad is not None
    assert bool((logits.grad != 0).all())
