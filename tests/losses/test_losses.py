"""Losses against torch, closed forms and numerical gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from dovetail.losses.class_weights import balanced_weights, compute_class_weights, read_class_weights
from dovetail.losses.cross_entropy import cross_entropy
from dovetail.losses.focal import FocalLoss
from dovetail.losses.label_smoothing import LabelSmoothingCrossEntropy
from dovetail.losses.language_modeling import LanguageModelingLoss
from dovetail.models.output import ModelOutput

CLASSES = 4


@st.composite
def labelled(draw: st.DrawFn, *, ignored: bool = True) -> tuple[Tensor, Tensor]:
    """Draw fp64 logits ``[batch, classes, *space]`` and labels, at least one of which counts."""
    batch, space = draw(st.integers(1, 5)), draw(st.sampled_from([(), (3,), (2, 2)]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    shape = (batch, CLASSES, *space)
    logits = draw(st.sampled_from([0.1, 1.0, 8.0])) * torch.randn(shape, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, CLASSES, (batch, *space), generator=generator)
    if ignored:
        hidden = torch.rand(labels.shape, generator=generator) < draw(st.sampled_from([0.0, 0.4]))
        hidden.view(-1)[0] = False
        labels[hidden] = -100
    return logits.requires_grad_(), labels


def soft(labels: Tensor) -> Tensor:
    """Return labels as one-hot probabilities with the classes on dimension 1."""
    return F.one_hot(labels, CLASSES).movedim(-1, 1).double()


# --- focal ------------------------------------------------------------------------------------------------------


@given(labelled(), st.sampled_from(["mean", "sum", "none"]))
def test_focal_without_gamma_is_cross_entropy(drawn: tuple[Tensor, Tensor], reduction: str) -> None:
    """With gamma 0 and no alpha, the focal loss is torch's cross-entropy, whatever the reduction."""
    logits, labels = drawn

    found = FocalLoss(gamma=0.0, reduction=reduction)(logits, labels)

    torch.testing.assert_close(found, F.cross_entropy(logits, labels, reduction=reduction))


@given(labelled(), st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.5]), st.sampled_from([None, 0.25, [0.1, 1.0, 2.0, 0.0]]))
def test_focal_is_its_closed_form(
    drawn: tuple[Tensor, Tensor], gamma: float, alpha: float | list[float] | None
) -> None:
    """The focal loss is the mean of alpha · (1 - p)^gamma · -log p over the labels that count."""
    logits, labels = drawn
    factors = [1.0] * CLASSES if alpha is None else [alpha] * CLASSES if isinstance(alpha, float) else alpha
    p = logits.detach().softmax(dim=1).movedim(1, -1).reshape(-1, CLASSES)
    terms = [
        factors[label] * (1 - float(p[row, label])) ** gamma * -math.log(float(p[row, label]))
        for row, label in enumerate(labels.flatten().tolist())
        if label != -100
    ]

    found = FocalLoss(alpha, gamma)(logits, labels)

    assert found.item() == pytest.approx(sum(terms) / len(terms), rel=1e-6, abs=1e-9)


@given(labelled(ignored=False), st.sampled_from([0.0, 0.5, 2.0]), st.sampled_from([None, [0.1, 1.0, 2.0, 0.5]]))
def test_focal_of_one_hot_probabilities_is_focal_of_labels(
    drawn: tuple[Tensor, Tensor], gamma: float, alpha: list[float] | None
) -> None:
    """Certain class probabilities give what their labels give."""
    logits, labels = drawn
    loss = FocalLoss(alpha, gamma)

    torch.testing.assert_close(loss(logits, soft(labels)), loss(logits, labels))


@given(st.sampled_from([0.0, 0.5, 1.0, 2.0]), st.booleans())
def test_focal_gradient_is_the_numerical_one(gamma: float, probabilities: bool) -> None:
    """Autograd's gradient agrees with finite differences, also where labels are probabilities or ignored."""
    logits = torch.randn(3, CLASSES, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([[0, 1], [3, 2], [2, -100]])
    targets = torch.full_like(logits, 1 / CLASSES) if probabilities else labels

    assert torch.autograd.gradcheck(
        lambda x: FocalLoss([1.0, 2.0, 0.5, 1.0], gamma)(x, targets), logits.requires_grad_()
    )


@pytest.mark.parametrize("gamma", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_focal_gradient_is_finite_where_the_model_is_certain(gamma: float, dtype: torch.dtype) -> None:
    """A probability of exactly 1 gives no NaN, although the slope of (1 - p)^gamma is infinite there."""
    logits = torch.tensor([[1000.0, 0.0], [-1000.0, 0.0]], dtype=dtype, requires_grad=True)

    FocalLoss(gamma=gamma)(logits, torch.tensor([0, 0])).backward()

    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())
    assert float(logits.grad[1].abs().sum()) > 0


def test_focal_of_nothing_is_zero() -> None:
    """A batch in which every label is ignored has loss 0 and gradient 0."""
    logits = torch.randn(2, 3, requires_grad=True)

    loss = FocalLoss()(logits, torch.tensor([-100, -100]))
    loss.backward()

    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"gamma": -1.0}, "gamma: must be at least 0, got -1"),
        ({"reduction": "avg"}, "reduction: 'avg' is not one of mean, none, sum"),
        ({"alpha": -0.5}, "alpha: must be one finite number ≥ 0 per class"),
        ({"alpha": [1.0, -1.0]}, "alpha: must be one finite number ≥ 0 per class"),
        ({"alpha": "balanced"}, "alpha: 'balanced' needs the samples per class"),
        ({"alpha": "even"}, "alpha: must be a list of numbers or 'balanced', got 'even'"),
        ({"alpha": [1.0, 2.0], "class_counts": [1, 2, 3]}, "alpha: has 2 numbers, but there are 3 classes"),
    ],
)
def test_focal_names_a_bad_option(options: dict[str, object], message: str) -> None:
    """A bad option is refused when the loss is built, by name."""
    with pytest.raises(ValueError, match=message):
        FocalLoss(**options)


def test_focal_names_an_alpha_of_the_wrong_length() -> None:
    """Without class counts, the number of factors is compared with the logits."""
    with pytest.raises(ValueError, match="alpha: has 2 factors, but the model has 3 classes"):
        FocalLoss([1.0, 2.0])(torch.randn(2, 3), torch.tensor([0, 1]))


def test_focal_takes_tensors_for_alpha() -> None:
    """From Python, alpha may be a tensor with one factor, or one per class."""
    logits, labels = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])

    for given_alpha, same in ((torch.tensor(0.25), 0.25), (torch.tensor([1.0, 2.0, 3.0]), [1.0, 2.0, 3.0])):
        torch.testing.assert_close(FocalLoss(given_alpha)(logits, labels), FocalLoss(same)(logits, labels))


# --- label smoothing, cross-entropy -----------------------------------------------------------------------------


@given(labelled(), st.sampled_from([0.0, 0.1, 1.0]), st.sampled_from([None, [0.5, 1.0, 2.0, 4.0]]))
def test_label_smoothing_is_its_closed_form(
    drawn: tuple[Tensor, Tensor], smoothing: float, weight: list[float] | None
) -> None:
    """The loss is Σ_c w_c · q_c · -log p_c per label, q being the smoothed label, over the weight of the labels."""
    logits, labels = drawn
    weights = torch.tensor(weight or [1.0] * CLASSES, dtype=torch.float64)
    log_p = logits.log_softmax(dim=1).movedim(1, -1).reshape(-1, CLASSES)
    kept = labels.flatten() != -100
    log_p, true = log_p[kept], labels.flatten()[kept]
    q = (1 - smoothing) * F.one_hot(true, CLASSES).double() + smoothing / CLASSES

    found = LabelSmoothingCrossEntropy(smoothing, weight).double()(logits, labels)

    torch.testing.assert_close(found, -(weights * q * log_p).sum() / weights[true].sum())


@given(labelled(ignored=False))
def test_label_smoothing_takes_probabilities(drawn: tuple[Tensor, Tensor]) -> None:
    """Certain class probabilities give what their labels give."""
    logits, labels = drawn
    loss = LabelSmoothingCrossEntropy(0.2)

    torch.testing.assert_close(loss(logits, soft(labels)), loss(logits, labels))


@pytest.mark.parametrize("smoothing", [-0.1, 1.1])
def test_label_smoothing_names_a_bad_share(smoothing: float) -> None:
    """A share outside 0 to 1 is refused by name."""
    with pytest.raises(ValueError, match="smoothing: must be between 0 and 1"):
        LabelSmoothingCrossEntropy(smoothing)


def test_class_weights_are_no_state() -> None:
    """Weights come from the config, so they are not saved; but they move with the module."""
    loss = LabelSmoothingCrossEntropy(weight=[1.0, 2.0]).double()

    assert loss.state_dict() == {}
    assert loss.weight is not None
    assert loss.weight.dtype == torch.float64


def test_cross_entropy_is_torchs_own() -> None:
    """The factory returns torch's class with the options that were given."""
    loss = cross_entropy([1.0, 2.0], ignore_index=7, label_smoothing=0.1, reduction="none")

    assert type(loss) is torch.nn.CrossEntropyLoss
    assert (loss.ignore_index, loss.label_smoothing, loss.reduction) == (7, 0.1, "none")
    assert loss.weight is not None
    assert loss.weight.tolist() == [1.0, 2.0]


def test_balanced_weights_come_from_the_counts_provided() -> None:
    """«balanced» is the inverse frequency of the training split's classes."""
    loss = cross_entropy("balanced", class_counts=[10, 30, 60])

    assert loss.weight is not None
    torch.testing.assert_close(loss.weight, torch.tensor([100 / 30, 100 / 90, 100 / 180]))


# --- class weights ----------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40))
def test_class_weights_are_scikit_learns(labels: list[int]) -> None:
    """Weights of the classes that occur are scikit-learn's «balanced»; the others get 1."""
    present = np.unique(labels)
    expected = np.ones(max(labels) + 1)
    expected[present] = compute_class_weight("balanced", classes=present, y=np.array(labels))

    found = compute_class_weights(np.array(labels))

    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30))
def test_class_weights_average_to_one(labels: list[int]) -> None:
    """Over the labels they were computed from, the mean weight is 1."""
    weights = compute_class_weights(labels, num_classes=5)

    assert float(weights[labels].mean()) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize(
    "labels, num_classes, message",
    [
        ([], None, "there are none"),
        ([0, -1], None, "-1 is not a class"),
        ([0, 3], 3, r"3 is not a class \(0 to 2\)"),
        ([0.5], None, "must be integers, got torch.float32"),
        (["a", "b"], None, r"must be integers; numpy\.unique\(labels, return_inverse=True\)\[1\] makes them of names"),
    ],
)
def test_class_weights_name_a_bad_label(labels: list[float], num_classes: int | None, message: str) -> None:
    """Labels that cannot be counted are refused with the label."""
    with pytest.raises(ValueError, match=message):
        compute_class_weights(labels, num_classes)


def test_weights_of_counts_and_of_labels_agree() -> None:
    """Counting first gives the same weights."""
    torch.testing.assert_close(balanced_weights([2, 0, 1]), compute_class_weights([0, 0, 2]))
    assert read_class_weights("weight", None, [1, 2]) is None


# --- language modelling -----------------------------------------------------------------------------------------


def texts(seed: int, batch: int, time: int, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Return fp64 logits and tokens."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, time, vocabulary, generator=generator, dtype=torch.float64).requires_grad_()
    return logits, torch.randint(0, vocabulary, (batch, time), generator=generator)


@given(
    seed=st.integers(0, 2**16),
    batch=st.integers(1, 3),
    time=st.integers(1, 5),
    shift=st.booleans(),
    pad=st.sampled_from([None, 0]),
    masked=st.booleans(),
)
def test_language_modelling_is_a_loop_over_tokens(
    *, seed: int, batch: int, time: int, shift: bool, pad: int | None, masked: bool
) -> None:
    """Total and weight are what counting token by token gives."""
    logits, tokens = texts(seed, batch, time, 6)
    tokens[torch.rand(tokens.shape, generator=torch.Generator().manual_seed(seed)) < 0.2] = -100
    made = {"targets": tokens}
    mask = torch.ones_like(tokens, dtype=torch.bool)
    if masked:
        mask = torch.arange(time).expand(batch, time) < torch.arange(1, batch + 1)[:, None]
        made["mask"] = mask
    terms = []
    for row in range(batch):
        for place in range(time):
            target = place + 1 if shift else place
            if target >= time or not mask[row, target] or int(tokens[row, target]) in {-100, pad}:
                continue
            terms.append(-logits[row, place].log_softmax(-1)[tokens[row, target]])

    result = LanguageModelingLoss(shift=shift, pad_token_id=pad)(ModelOutput(logits), made)
    result.total.backward()

    assert int(result.weight) == len(terms)
    torch.testing.assert_close(result.total, torch.stack(terms).mean() if terms else torch.tensor(0.0).double())
    assert result.parts == {}
    assert logits.grad is not None
    assert bool(logits.grad.any()) == bool(terms)


def test_language_modelling_adds_up_over_ragged_pieces() -> None:
    """Weighted totals of pieces with different padding make the total of the whole."""
    logits, tokens = texts(3, 4, 6, 5)
    mask = torch.tensor([[1] * 6, [1] * 2 + [0] * 4, [1] * 4 + [0] * 2, [1] + [0] * 5], dtype=torch.bool)
    loss = LanguageModelingLoss()

    whole = loss(ModelOutput(logits), {"targets": tokens, "mask": mask})
    pieces = [
        loss(ModelOutput(logits[one]), {"targets": tokens[one], "mask": mask[one]})
        for one in (slice(0, 1), slice(1, 3), slice(3, 4))
    ]

    weight = sum(float(one.weight) for one in pieces)
    assert weight == float(whole.weight)
    total = sum(one.total * one.weight for one in pieces)
    torch.testing.assert_close(total / weight, whole.total)


def test_language_modelling_gradient_is_the_numerical_one() -> None:
    """Autograd's gradient agrees with finite differences."""
    logits, tokens = texts(5, 2, 4, 5)

    assert torch.autograd.gradcheck(
        lambda x: LanguageModelingLoss(pad_token_id=0)(ModelOutput(x), {"targets": tokens}).total, logits
    )


@pytest.mark.parametrize(
    "logits, batch, message",
    [
        ((2, 3), {"targets": torch.zeros(2, 3)}, r"outputs have shape \[2, 3\] and targets \[2, 3\]"),
        ((2, 3, 5), {"targets": torch.zeros(2, 4)}, r"needs \[batch, time, vocabulary\] and \[batch, time\]"),
        (
            (2, 3, 5),
            {"targets": torch.zeros(2, 3, dtype=torch.int64), "mask": torch.ones(2)},
            r"the mask has shape \[2\], targets \[2, 3\]",
        ),
        ((2, 3, 5), {"targets": torch.zeros(2, 3)}, r"targets are torch.float32; it needs tokens, which are integers"),
        ((2, 3, 5), {"targets": torch.full((2, 3), 9)}, "label 9 is out of range for 5 classes, 0 to 4"),
        ((2, 3, 5), {"inputs": torch.zeros(2, 3)}, "the batch has no 'targets'; it has inputs"),
    ],
)
def test_language_modelling_names_what_does_not_fit(
    logits: tuple[int, ...], batch: dict[str, Tensor], message: str
) -> None:
    """Shapes and tokens that do not fit are refused with their values."""
    with pytest.raises(ValueError, match=message):
        LanguageModelingLoss()(ModelOutput(torch.randn(logits)), batch)
