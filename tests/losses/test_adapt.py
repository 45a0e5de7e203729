"""Adapting plain losses: exact weights, refused shapes, labels out of range."""

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

from dovetail.losses.adapt import as_loss
from dovetail.losses.cross_entropy import cross_entropy
from dovetail.losses.focal import FocalLoss
from dovetail.losses.label_smoothing import LabelSmoothingCrossEntropy
from dovetail.losses.language_modeling import LanguageModelingLoss
from dovetail.losses.result import LossResult
from dovetail.losses.targets import LabelGuard
from dovetail.models.output import ModelOutput

CLASSES = 3


def result(loss: Any, logits: Tensor, targets: Tensor, **more: Tensor) -> LossResult:
    """Return what an adapted loss makes of a batch."""
    return as_loss(loss)(ModelOutput(logits), {"targets": targets, **more})


def adds_up(loss: Any, logits: Tensor, targets: Tensor, cuts: list[int], mask: Tensor | None = None) -> None:
    """Assert that value and gradient of the whole batch are those of its pieces, weighted."""
    logits = logits.detach().requires_grad_()
    extra = {} if mask is None else {"mask": mask}
    whole = result(loss, logits, targets, **extra)
    (expected,) = torch.autograd.grad(whole.total, logits)
    places = [0, *sorted({cut % len(logits) for cut in cuts} - {0}), len(logits)]
    total, weight = logits.new_zeros(()), 0.0
    for start, stop in pairwise(places):
        piece = {} if mask is None else {"mask": mask[start:stop]}
        one = result(loss, logits[start:stop], targets[start:stop], **piece)
        total, weight = total + one.total * one.weight, weight + float(one.weight)
    (found,) = torch.autograd.grad(total / max(weight, 1e-9), logits)

    assert weight == pytest.approx(float(whole.weight))
    torch.testing.assert_close(total / max(weight, 1e-9), whole.total)
    torch.testing.assert_close(found, expected)


# --- labels -----------------------------------------------------------------------------------------------------

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
    """However a batch is cut, with labels ignored or masked, pieces of nothing included, the pieces make the whole."""
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
    """The weight of a class-weighted loss is the class weight of its labels, so ragged pieces make the whole."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, CLASSES, 2, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, CLASSES, (batch, 2), generator=generator)
    targets[torch.rand(targets.shape, generator=generator) < 0.3] = -100
    loss = cross_entropy([0.5, 2.0, 3.0], label_smoothing=smoothing, reduction=reduction).double()

    adds_up(loss, logits, targets, cuts)
    kept = targets[targets != -100]
    assert float(result(loss, logits, targets).weight) == pytest.approx(float(loss.weight[kept].sum()))


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), nn.NLLLoss(), F.cross_entropy, F.nll_loss])
def test_the_total_is_the_losss_own(loss: Any) -> None:
    """Adapting changes no value: the total is what the loss returns by itself."""
    logits, targets = torch.randn(5, CLASSES).log_softmax(1), torch.tensor([0, 1, 2, -100, 1])

    found = result(loss, logits, targets)

    assert found.total == loss(logits, targets)
    assert float(found.weight) == 4


def test_an_ignore_index_among_the_classes_is_left_out() -> None:
    """A positive ignore_index is counted out of the weight too."""
    found = result(nn.CrossEntropyLoss(ignore_index=1), torch.randn(4, CLASSES), torch.tensor([0, 1, 1, 2]))

    assert float(found.weight) == 2


@pytest.mark.parametrize("weight", [None, [1.0, 2.0, 3.0]])
def test_nothing_to_learn_from_weighs_nothing(weight: list[float] | None) -> None:
    """Where every label is ignored, torch's mean is NaN; here it is 0 with weight 0, and no gradient."""
    logits = torch.randn(2, CLASSES, requires_grad=True)

    found = result(cross_entropy(weight), logits, torch.tensor([-100, -100]))
    (found.total * found.weight).backward()

    assert (found.total.item(), float(found.weight)) == (0, 0)
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
def test_an_empty_batch_weighs_nothing(loss: Any, targets: Tensor) -> None:
    """No samples at all is nothing to learn from, not an error: 0 with weight 0, and a gradient to go back."""
    logits = torch.randn(0, CLASSES, requires_grad=True)

    found = result(loss, logits, targets)
    found.total.backward()

    assert (found.total.item(), float(found.weight)) == (0, 0)
    assert logits.grad is not None


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.bool])
def test_labels_of_any_integer_type_are_taken(dtype: torch.dtype) -> None:
    """Labels need not be int64, as torch would have it."""
    logits, targets = torch.randn(3, CLASSES), torch.tensor([0, 1, 1])

    assert result(nn.CrossEntropyLoss(), logits, targets.to(dtype)).total == F.cross_entropy(logits, targets)


@pytest.mark.parametrize("make", LABEL_LOSSES)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_class_probabilities_are_averaged_over_samples(make: Callable[..., Any], reduction: str) -> None:
    """With probabilities as targets, each sample and place counts one."""
    logits, q = torch.randn(4, CLASSES, 2), torch.rand(4, CLASSES, 2).softmax(1)

    found = result(make(reduction=reduction), logits, q)

    torch.testing.assert_close(found.total, make(reduction="mean")(logits, q))
    assert float(found.weight) == 8


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
            r"outputs have shape \[4\]; it needs one per class: \[batch, classes",
        ),
        ((4, 3), torch.tensor([0, 3, 1, 2]), "CrossEntropyLoss: label 3 is out of range for 3 classes, 0 to 2"),
        ((4, 3), torch.tensor([0, -1, 1, 2]), "label -1 is out of range for 3 classes"),
    ],
)
def test_labels_that_do_not_fit_are_named(shape: tuple[int, ...], targets: Tensor, message: str) -> None:
    """Wrong shapes, types and labels are refused with what was given and what would do."""
    with pytest.raises(ValueError, match=message):
        result(nn.CrossEntropyLoss(), torch.randn(shape), targets)


@pytest.mark.parametrize("make", LABEL_LOSSES)
def test_every_label_loss_names_a_bad_label(make: Callable[..., Any]) -> None:
    """Our own losses name a bad label as cross-entropy does."""
    with pytest.raises(ValueError, match="label 7 is out of range"):
        result(make(), torch.randn(2, CLASSES), torch.tensor([0, 7]))


def test_away_from_the_cpu_only_the_first_batch_is_looked_at() -> None:
    """Where looking means waiting: the first of training and the first of evaluation, and none after that."""

    class Elsewhere(Tensor):
        is_cpu = False

    guard, bad = LabelGuard("loss", -100), torch.tensor([0, 5]).as_subclass(Elsewhere)
    fine = torch.tensor([0, 1]).as_subclass(Elsewhere)

    for gradients in (False, True):
        with torch.set_grad_enabled(gradients):
            with pytest.raises(ValueError, match="loss: label 5 is out of range"):
                guard(lambda: pytest.fail("a kernel would have aborted"), bad, 3)
            assert guard(lambda: fine, fine, 3) is fine
            assert guard(lambda: bad, bad, 3) is bad


def test_an_error_that_is_not_about_labels_is_left_alone() -> None:
    """Whatever else a loss raises comes through unchanged."""

    class Failing(nn.CrossEntropyLoss):
        def forward(self, *both: Tensor) -> Tensor:
            raise RuntimeError("out of order")

    with pytest.raises(RuntimeError, match="out of order"):
        result(Failing(), torch.randn(2, CLASSES), torch.tensor([0, 1]))


# --- elementwise ------------------------------------------------------------------------------------------------

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
    """The weight of an elementwise loss is its elements."""
    generator = torch.Generator().manual_seed(batch)
    logits = torch.randn(batch, *inner, generator=generator, dtype=torch.float64)
    targets = torch.rand(batch, *inner, generator=generator, dtype=torch.float64)

    adds_up(make(reduction=reduction), logits, targets, cuts)
    assert result(make(reduction=reduction), logits, targets).weight == targets.numel()


@given(seed=st.integers(0, 99), features=st.sampled_from([(), (2,)]), cuts=st.lists(st.integers(0, 3), max_size=2))
def test_a_mask_leaves_targets_out_of_an_elementwise_loss(
    seed: int, features: tuple[int, ...], cuts: list[int]
) -> None:
    """With reduction «none», masked places count neither in the mean nor in the weight."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 5, *features, generator=generator, dtype=torch.float64)
    targets = torch.randn(4, 5, *features, generator=generator, dtype=torch.float64)
    mask = torch.rand(4, 5, generator=generator) < 0.6
    loss = nn.MSELoss(reduction="none")

    found = result(loss, logits, targets, mask=mask)

    torch.testing.assert_close(found.total, F.mse_loss(logits[mask], targets[mask]))
    assert float(found.weight) == targets[mask].numel()
    adds_up(loss, logits, targets, cuts, mask)


def test_a_mask_of_the_inputs_is_not_taken_for_one_of_the_targets() -> None:
    """Padded inputs with one target each have a mask that says nothing about targets."""
    found = result(nn.MSELoss(), torch.randn(4), torch.randn(4), mask=torch.ones(4, 7, dtype=torch.bool))

    assert found.weight == 4


def test_a_mask_after_the_mean_is_refused() -> None:
    """A loss that has averaged over padding already cannot take it out again."""
    with pytest.raises(ValueError, match=r"MSELoss: the batch's mask leaves some targets out.* set reduction = 'none'"):
        result(nn.MSELoss(), torch.randn(2, 3), torch.randn(2, 3), mask=torch.ones(2, 3, dtype=torch.bool))


@pytest.mark.parametrize("loss", [*(make() for make in ELEMENTWISE), F.mse_loss, F.l1_loss, F.huber_loss])
def test_elementwise_losses_do_not_broadcast(loss: Any) -> None:
    """[4, 1] against [4] would compare every sample with every other: it is refused with both shapes."""
    with pytest.raises(ValueError, match=r"outputs have shape \[4, 1\] but targets \[4\]; .*does not broadcast"):
        result(loss, torch.randn(4, 1), torch.rand(4))


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.float16])
def test_targets_take_the_type_of_the_outputs(dtype: torch.dtype) -> None:
    """Double, half or integer targets train a float model."""
    logits = torch.randn(4, requires_grad=True)

    found = result(nn.MSELoss(), logits, torch.tensor([1, 2, 3, 4], dtype=dtype))
    found.total.backward()

    assert found.total.dtype == torch.float32
    torch.testing.assert_close(found.total, F.mse_loss(logits, torch.tensor([1.0, 2, 3, 4])))


def test_half_precision_outputs_are_compared_in_single() -> None:
    """Outputs in bf16 do not pull exact targets down to bf16."""
    logits = torch.tensor([256.0], dtype=torch.bfloat16)

    assert float(result(nn.L1Loss(), logits, torch.tensor([257.0])).total) == 1


def test_batchmean_is_a_mean_over_samples() -> None:
    """KLDivLoss's own way of averaging weighs samples."""
    loss = nn.KLDivLoss(reduction="batchmean")
    logits, q = torch.randn(4, 3, dtype=torch.float64).log_softmax(1), torch.rand(4, 3).double().softmax(1)

    assert result(loss, logits, q).weight == 4
    adds_up(loss, logits, q, [1, 2])


# --- other plain losses, native losses, what is refused ---------------------------------------------------------


class PerSample(nn.Module):
    """A loss of one number per sample."""

    def forward(self, scores: Tensor, target: Tensor) -> Tensor:
        """Return them."""
        return (scores.sum(1) - target) ** 2


@pytest.mark.parametrize(
    "loss", [PerSample(), lambda scores, target: ((scores.sum(1) - target) ** 2).mean(), nn.MultiMarginLoss()]
)
def test_any_other_loss_weighs_samples(loss: Any) -> None:
    """A loss that nothing is known about is taken for a mean over samples."""
    logits = torch.randn(5, 3, dtype=torch.float64)
    targets = torch.tensor([0, 1, 2, 0, 1])

    assert result(loss, logits, targets).weight == 5
    adds_up(loss, logits, targets, [2, 3])


class Named(nn.Module):
    """A native loss by the name of its parameter."""

    def forward(self, outputs: ModelOutput, batch: Any) -> LossResult:
        """Return the mean."""
        return LossResult(outputs.logits.mean(), {"mean": outputs.logits.mean()}, float(len(batch["targets"])))


def annotated(outputs, data: Batch) -> LossResult:  # noqa: F821 (a name that exists for type checkers only)
    """Return the mean: a native loss by its annotation."""
    return LossResult(outputs.logits.mean(), {}, float(len(data["targets"])))


@pytest.mark.parametrize("loss", [Named(), annotated, LanguageModelingLoss()])
def test_native_losses_are_called_as_they_are(loss: Any) -> None:
    """A loss that takes a batch gets outputs and batch, and its result is handed on."""
    outputs, batch = ModelOutput(torch.randn(2, 3, 4)), {"targets": torch.ones(2, 3, dtype=torch.int64)}

    found, own = as_loss(loss)(outputs, batch), loss(outputs, batch)

    assert (found.total, found.parts, float(found.weight)) == (own.total, own.parts, float(own.weight))


def test_adapting_twice_changes_nothing() -> None:
    """An adapted loss is a loss already."""
    once = as_loss(nn.MSELoss())

    assert as_loss(once) is once
    assert repr(once) == "as_loss(MSELoss())"


def test_a_native_loss_that_returns_a_tensor_is_told_what_to_return() -> None:
    """The result's type is checked, not discovered later."""
    with pytest.raises(TypeError, match=r"<lambda> returned Tensor; a loss that takes a batch returns LossResult"):
        as_loss(lambda outputs, batch: outputs.logits.sum())(ModelOutput(torch.ones(2)), {})


@pytest.mark.parametrize(
    "loss", [nn.MSELoss(reduction="sum"), nn.CrossEntropyLoss(reduction="sum"), FocalLoss(reduction="sum")]
)
def test_sums_are_refused_with_advice(loss: Any) -> None:
    """A sum makes the step depend on the batch size."""
    with pytest.raises(
        ValueError, match="reduction = 'sum' makes the step depend on the batch size; leave it at 'mean'"
    ):
        as_loss(loss)


@pytest.mark.parametrize(
    "loss, message",
    [
        (3, "int cannot be called"),
        (nn.CrossEntropyLoss, r"CrossEntropyLoss is a class: a loss is made of it, CrossEntropyLoss\(\)"),
        (lambda only: only, r"<lambda> takes \(only\)"),
        (nn.TripletMarginLoss(), r"TripletMarginLoss takes \(anchor, positive, negative\)"),
        (lambda a, b, *, scale: a, r"<lambda> takes \(a, b, scale\); a loss takes \(outputs, batch\)"),
    ],
)
def test_what_is_no_loss_is_refused(loss: Any, message: str) -> None:
    """A loss takes outputs and batch, or input and target, and nothing else."""
    with pytest.raises(TypeError, match=message):
        as_loss(loss)


def test_a_loss_that_takes_anything_is_given_logits_and_targets() -> None:
    """``*args`` says nothing, so the loss is taken for a plain one."""
    assert float(result(lambda *both: (both[0] - both[1]).abs().mean(), torch.ones(2), torch.zeros(2)).total) == 1


def test_a_loss_written_in_c_is_given_logits_and_targets() -> None:
    """A function that does not tell its parameters is taken for a plain one."""
    assert float(result(torch.dist, torch.ones(4), torch.zeros(4)).total) == 2


def test_targets_that_are_no_tensor_are_named() -> None:
    """A collator that left targets as a list is told so."""
    with pytest.raises(ValueError, match="the batch has targets of list, not a tensor; it has inputs, targets"):
        as_loss(nn.MSELoss())(ModelOutput(torch.ones(2)), {"targets": [1, 2], "inputs": torch.ones(2)})


@pytest.mark.parametrize("make", [*LABEL_LOSSES, nn.MSELoss, nn.HuberLoss])
def test_the_gradient_reaches_every_logit(make: Callable[..., Any]) -> None:
    """No loss of ours chooses with argmax: every logit gets a gradient."""
    logits = torch.randn(4, CLASSES, requires_grad=True)
    targets = torch.randn(4, CLASSES) if make in {nn.MSELoss, nn.HuberLoss} else torch.tensor([0, 1, 2, 0])

    result(make(), logits, targets).total.backward()

    assert logits.grad is not None
    assert bool((logits.grad != 0).all())
