"""Losses that a loop of one's own calls: with logits and labels, by name, registered while the program runs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from dovetail.kernel.component import PluginError
from dovetail.losses.classification import ClassificationLoss
from dovetail.losses.cross_entropy import cross_entropy
from dovetail.losses.distillation import DistillationLoss
from dovetail.losses.focal import FocalLoss
from dovetail.losses.label_smoothing import LabelSmoothingCrossEntropy
from dovetail.losses.language_modeling import LanguageModelingLoss
from dovetail.losses.peft import PEFTAwareLoss
from dovetail.losses.quantization_safe import QuantizationSafeLoss
from dovetail.losses.strategy import AnyLoss, StrategyInRun
from dovetail.losses.supcon import SupConLoss
from dovetail.losses.vision import VisionLoss
from dovetail.main import run
from dovetail.models.output import ModelOutput
from dovetail.pieces.criterion import create_criterion
from dovetail.pieces.loss_registry import LossStrategyRegistry, get_loss_strategy
from dovetail.testkit import conformance
from small_runs import small

CLASSES = 4


def scores(*shape, seed=0):
    """Return fp64 scores that need a gradient."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def labels(*shape, seed=0):
    """Return class labels."""
    return torch.randint(0, CLASSES, shape, generator=torch.Generator().manual_seed(seed))


# --- language modelling ---------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 100), time=st.integers(2, 6), pad=st.sampled_from([None, 0]))
def test_language_modelling_leaves_padding_out(seed, time, pad):
    """Called with labels = the inputs, it is torch's cross-entropy of the tokens that follow and are no padding."""
    logits, tokens = scores(3, time, CLASSES, seed=seed), labels(3, time, seed=seed)
    mask = torch.arange(time) < torch.tensor([time, 2, 2])[:, None]
    counted = tokens.where(mask, -100) if pad is None else tokens.where(mask & (tokens != pad), -100)
    expected = F.cross_entropy(logits[:, :-1].flatten(0, 1), counted[:, 1:].flatten(), reduction="sum")

    said = {"attention_mask": mask} | ({} if pad is None else {"pad_token_id": pad})
    found = LanguageModelingLoss().compute_loss(logits, tokens, said)

    torch.testing.assert_close(found, expected / (counted[:, 1:] != -100).sum().clamp(min=1))


# --- classification -------------------------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 100),
    weights=st.sampled_from([None, [1.0, 2.0, 0.5, 3.0]]),
    smoothing=st.sampled_from([0.0, 0.1]),
    by_call=st.booleans(),
)
def test_classification_is_torchs_cross_entropy(seed, weights, smoothing, by_call):
    """With class weights of its own, or of the call, and with smoothing; ignored labels do not count."""
    logits, targets = scores(5, CLASSES, seed=seed), labels(5, seed=seed)
    targets[0] = -100
    tensor = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    loss = ClassificationLoss(class_weights=None if by_call else weights, label_smoothing=smoothing)

    found = loss.compute_loss(logits, targets, {"class_weights": tensor} if by_call else None)

    torch.testing.assert_close(
        found, F.cross_entropy(logits, targets, tensor, label_smoothing=smoothing), check_dtype=False
    )


def test_classification_weighs_what_counts():
    """The weight is the class weight of the labels that count, and a batch in which none does weighs nothing."""
    loss = ClassificationLoss(class_weights=[1.0, 2.0, 4.0, 8.0])
    logits, targets = scores(3, CLASSES), torch.tensor([1, -100, 3])

    counted = loss(ModelOutput(logits), {"targets": targets})
    hidden = loss(ModelOutput(logits), {"targets": targets, "mask": torch.tensor([True, True, False])})
    nothing = loss(ModelOutput(logits), {"targets": targets, "mask": torch.zeros(3, dtype=torch.bool)})
    (gradient,) = torch.autograd.grad(nothing.total, logits)

    assert (float(counted.weight), float(hidden.weight), float(nothing.weight)) == (10.0, 2.0, 0.0)
    assert float(nothing.total.detach()) == 0
    assert not gradient.any()


def test_balanced_weights_come_from_the_run():
    """The word "balanced" is read as everywhere else."""
    found = ClassificationLoss(class_weights="balanced", class_counts=[10, 30])

    assert found.class_weights.tolist() == pytest.approx([2.0, 2 / 3])


# --- vision ---------------------------------------------------------------------------------------------------------


def test_segmentation_is_cross_entropy_of_pixels():
    """One label per pixel, some of which do not count."""
    logits, targets = scores(2, CLASSES, 3, 5), labels(2, 3, 5)
    targets[0, 0] = -100
    loss = VisionLoss("segmentation")

    result = loss(ModelOutput(logits), {"targets": targets})

    torch.testing.assert_close(result.total, F.cross_entropy(logits, targets))
    assert float(result.weight) == 25
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64)
    torch.testing.assert_close(
        loss.compute_loss(logits, targets, {"class_weights": weights}), F.cross_entropy(logits, targets, weights)
    )


def detected(seed=0, batch=2, boxes=6):
    """Return outputs and labels of a detector with three classes: some boxes hold nothing, one does not count."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, boxes, 4 + 3, generator=generator, dtype=torch.float64).requires_grad_()
    classes = torch.randint(-1, 3, (batch, boxes, 1), generator=generator).double()
    classes[0, 0] = -100
    places = torch.rand(batch, boxes, 4, generator=generator, dtype=torch.float64)
    return logits, torch.cat([places, classes], -1)


def focal(score, wanted):
    """Return Lin et al.'s loss of one yes-or-no score, from the paper's formula."""
    p = torch.sigmoid(score)
    p_t, alpha = (p, 0.25) if wanted else (1 - p, 0.75)
    return -alpha * (1 - p_t) ** 2 * torch.log(p_t)


@given(seed=st.integers(0, 50), box_weight=st.sampled_from([0.0, 1.0, 2.5]))
def test_detection_is_its_formula(seed, box_weight):
    """Focal loss of every box that counts, smooth L1 of those that hold something, a mean over the former."""
    logits, targets = detected(seed)
    by_class, by_box, count = torch.tensor(0.0).double(), torch.tensor(0.0).double(), 0
    for row in range(2):
        for box in range(6):
            number = int(targets[row, box, 4])
            if number == -100:
                continue
            count += 1
            by_class += sum(focal(logits[row, box, 4 + one], number == one) for one in range(3))
            if number >= 0:
                gap = (logits[row, box, :4] - targets[row, box, :4]).abs()
                by_box += torch.where(gap < 1, 0.5 * gap**2, gap - 0.5).sum()

    result = VisionLoss("detection", box_weight=box_weight)(ModelOutput(logits), {"targets": targets})

    torch.testing.assert_close(result.total, (by_class + box_weight * by_box) / count)
    torch.testing.assert_close(result.parts, {"class": by_class / count, "box": by_box / count})
    assert float(result.weight) == count


@pytest.mark.parametrize("number", [3.0, -2.0])
def test_a_box_of_a_class_without_a_score_is_named(number):
    """It is no empty box; one that does not count may say anything."""
    logits, targets = detected()
    targets[0, 0, 4] = number
    wrong = rf"DetectionLoss: label {number:.0f} is out of range for 3 classes, 0 to 2"
    with pytest.raises(ValueError, match=wrong):
        VisionLoss("detection").compute_loss(logits, targets)
    counts = torch.ones(targets.shape[:2], dtype=torch.bool)
    counts[0, 0] = False
    VisionLoss("detection").compute_loss(logits, targets, {"attention_mask": counts})


def test_detections_add_up_and_have_the_numerical_gradient():
    """Images apart give what they give together, and autograd agrees with finite differences."""
    logits, targets = detected()
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[1, 2:] = False
    loss = VisionLoss("detection")

    whole = loss(ModelOutput(logits), {"targets": targets, "mask": mask})
    apart = [
        loss(ModelOutput(logits[one : one + 1]), {"targets": targets[one : one + 1], "mask": mask[one : one + 1]})
        for one in range(2)
    ]

    torch.testing.assert_close(whole.total * whole.weight, sum(one.total * one.weight for one in apart))
    assert float(whole.weight) == 5 + 2
    assert torch.autograd.gradcheck(lambda x: loss.compute_loss(x, targets), logits)


def segmentations(seed, samples):
    """Return outputs and labels of a segmentation, as the conformance kit takes them."""
    mask = torch.rand(samples, 3, 2, generator=torch.Generator().manual_seed(seed)) < 0.8
    batch = {"targets": labels(samples, 3, 2, seed=seed), "mask": mask}
    return scores(samples, CLASSES, 3, 2, seed=seed).detach().float(), batch


def detections(seed, samples):
    """Return outputs and labels of a detector, as the conformance kit takes them."""
    logits, targets = detected(seed, samples)
    return logits.detach().float(), {"targets": targets.float()}


drawn = {"seed": st.integers(0, 1000), "samples": st.integers(1, 4)}


@conformance("vision", kind="loss", example={"task": "segmentation"}, batches=st.builds(segmentations, **drawn))
def test_segmentation_conforms(check):
    """The kit's checks hold on images, too."""
    check()


@conformance("vision", kind="loss", example={"task": "detection"}, batches=st.builds(detections, **drawn))
def test_detection_conforms(check):
    """The kit's checks hold on boxes, too."""
    check()


# --- around another loss --------------------------------------------------------------------------------------------


@given(scale=st.sampled_from([0.5, 1.0, 3.0]), tokens=st.booleans())
def test_adapters_get_the_scaled_gradient_and_the_base_none(scale, tokens):
    """A frozen base stays without a gradient; the adapter's is the plain loss's, times the scale."""
    torch.manual_seed(0)
    base, adapter = torch.nn.Linear(3, CLASSES).requires_grad_(False), torch.nn.Linear(3, CLASSES)
    inputs = torch.randn(2, 5, 3) if tokens else torch.randn(2, 3)
    targets = labels(2, 5) if tokens else labels(2)
    loss = PEFTAwareLoss(adapter_scale=scale)
    loss.check_model(torch.nn.ModuleList([base, adapter]))

    loss.compute_loss(base(inputs) + adapter(inputs), targets).backward()
    found = adapter.weight.grad.clone()
    adapter.zero_grad()
    plain = LanguageModelingLoss() if tokens else ClassificationLoss()
    plain.compute_loss(base(inputs) + adapter(inputs), targets).backward()

    torch.testing.assert_close(found, scale * adapter.weight.grad)
    assert base.weight.grad is None


def test_it_is_said_when_nothing_or_everything_trains():
    """Either is most likely an oversight; with base_model_frozen = false everything may train."""
    model = torch.nn.Linear(2, 2)

    with pytest.raises(ValueError, match="everything trains, although base_model_frozen says that the base does not"):
        PEFTAwareLoss().check_model(model)
    PEFTAwareLoss(base_model_frozen=False).check_model(model)
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing trains: every parameter of the model is frozen"):
        PEFTAwareLoss(base_model_frozen=False).check_model(model)


class Alerts:
    """A callback that keeps alerts."""

    def __init__(self):
        self.seen = []

    def dovetail_alert(self, alert):
        """Keep it."""
        self.seen.append((alert.type, alert.message))


def test_a_run_alerts_when_everything_trains(tmp_path):
    """A run whose base was not frozen trains, and says so at its beginning."""
    alerts = Alerts()

    outcome = run(small(tmp_path, loss={"type": "peft_aware"}), listeners=[alerts]).check()

    assert outcome.status == "completed"
    assert [kind for kind, _ in alerts.seen] == ["peft"]
    assert "everything trains" in alerts.seen[0][1]


@given(
    bits=st.sampled_from([8, 4]),
    symmetric=st.booleans(),
    scaled=st.sampled_from([1.0, 5.0, 1024.0]),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
)
def test_the_gradient_of_a_unit_is_clipped_to_the_quantisers_range(bits, symmetric, scaled, dtype):
    """However the loss is scaled before its gradient is computed, one sample's is at most 1, and q + 1 over q below."""
    computed = torch.float64 if dtype is torch.float64 else torch.float32
    weights = torch.tensor([1.0, 50.0, 0.1, 8.0], dtype=computed)
    targets = torch.tensor([0, 1, 2, 3])
    logits = scores(4, CLASSES, seed=3).detach().to(dtype).requires_grad_()
    loss = QuantizationSafeLoss(bits, symmetric, loss=torch.nn.CrossEntropyLoss(weights))

    result = loss(ModelOutput(logits), {"targets": targets})
    (result.total * scaled).backward()

    reference = logits.detach().to(computed).requires_grad_()
    plain = F.cross_entropy(reference, targets, weights)
    plain.backward()
    steps = 2 ** (bits - 1) - 1
    lowest = -1.0 if symmetric else -(steps + 1) / steps
    unit = scaled / float(weights.sum())
    expected = (reference.grad * scaled).clamp(lowest * unit, unit)
    torch.testing.assert_close(result.total, plain)  # dtypes too
    torch.testing.assert_close(logits.grad, expected.to(dtype))
    assert bool((reference.grad * scaled != expected).any()), "nothing was there to clip"


def test_a_quantisation_safe_loss_is_a_plain_one_where_there_is_no_gradient():
    """In evaluation there is nothing to clip."""
    logits, targets = scores(3, CLASSES), labels(3)

    with torch.no_grad():
        found = QuantizationSafeLoss().compute_loss(logits, targets)

    torch.testing.assert_close(found, F.cross_entropy(logits, targets))
    assert not found.requires_grad


@pytest.mark.parametrize("around", [PEFTAwareLoss, QuantizationSafeLoss])
def test_what_a_call_says_reaches_the_loss_inside(around):
    """Class weights and padding of a call are those of the other loss."""
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64)
    logits, targets = scores(5, CLASSES), labels(5)
    texts, tokens = scores(2, 4, CLASSES), labels(2, 4)

    torch.testing.assert_close(
        around().compute_loss(logits, targets, {"class_weights": weights}), F.cross_entropy(logits, targets, weights)
    )
    torch.testing.assert_close(
        around().compute_loss(texts, tokens, {"pad_token_id": 0}),
        LanguageModelingLoss(pad_token_id=0).compute_loss(texts, tokens),
    )


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss, logits, targets, message",
    [
        (ClassificationLoss(), (3, 4, 5), torch.zeros(3).long(), r"of shape \[3, 4, 5\]; it needs scores \[batch, cl"),
        (ClassificationLoss(), (3, 4), torch.zeros(3), "labels are torch.float32; it needs one class label each"),
        (ClassificationLoss(), (3, 4), torch.zeros(3, 4).long(), r"labels must have shape \[3\], not \[3, 4\]"),
        (ClassificationLoss(class_weights=[1.0]), (3, 4), torch.zeros(3).long(), "has 1 numbers for 4 classes"),
        (VisionLoss(), (3, 4), torch.zeros(4).long(), r"labels must have shape \[3\], not \[4\]"),
        (VisionLoss("segmentation"), (3, 4), torch.zeros(3).long(), r"scores \[batch, classes, height, width\]"),
        (VisionLoss("segmentation"), (2, 4, 3, 3), torch.zeros(2, 3).long(), r"must have shape \[2, 3, 3\]"),
        (VisionLoss("detection"), (2, 4, 4), torch.zeros(2, 4, 5), r"needs \[batch, boxes, 4 \+ classes\]"),
        (VisionLoss("detection"), (2, 4, 7), torch.zeros(2, 4), r"labels must have shape \[2, 4, 5\], not \[2, 4\]"),
        (VisionLoss("detection"), (2, 4, 7), torch.zeros(2, 4, 5).long(), "labels torch.int64"),
        (PEFTAwareLoss(), (3, 4), torch.zeros(2).long(), r"labels must have shape \[3\]"),
        (QuantizationSafeLoss(), (3, 4, 5), torch.zeros(3).long(), r"needs \[batch, time, vocabulary\]"),
        (LanguageModelingLoss(), (3, 4, 5), torch.zeros(3, 4), "it needs tokens, which are integers"),
        (AnyLoss(FocalLoss()), (3, 4), torch.zeros(2).long(), r"labels must have shape \[3\], not \[2\]"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(loss, logits, targets, message):
    """Alone and before computing, with both shapes in the message."""
    with pytest.raises(ValueError, match=message):
        loss.validate_inputs(torch.zeros(logits), targets)
    with pytest.raises(ValueError, match=message):
        loss.compute_loss(torch.zeros(logits), targets)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "build",
    [
        lambda: get_loss_strategy("cross_entropy"),
        lambda: get_loss_strategy("focal"),
        lambda: get_loss_strategy("label_smoothing"),
        DistillationLoss,
        lambda: VisionLoss("detection"),
    ],
)
def test_a_loss_is_computed_in_single_precision(build, dtype):
    """From outputs in half precision too, also on the CPU, where autocast leaves a softmax in it."""
    loss, logits, near = build(), scores(64, 10).mul(3).to(dtype), scores(64, 10, seed=1).to(dtype)
    batch, found = {"targets": labels(64)}, []
    if isinstance(loss, VisionLoss):
        logits, batch = logits.reshape(4, 16, 10), {"targets": detected(batch=4, boxes=16)[1]}
    for said in (logits, logits.float()):
        with torch.autocast("cpu", dtype, enabled=said is logits):
            found.append(loss(ModelOutput(said, extras={"teacher_logits": near.to(said.dtype)}), batch))

    assert found[0].total == found[1].total
    assert found[0].total.dtype is torch.float32
    assert found[0].parts == found[1].parts


@pytest.mark.parametrize("loss", [ClassificationLoss(), LanguageModelingLoss(), AnyLoss(FocalLoss()), VisionLoss()])
@pytest.mark.parametrize("labels", [[0, 1], None])
def test_labels_that_are_no_tensor_are_refused(loss, labels):
    """With a ValueError, as for shapes."""
    with pytest.raises(ValueError, match=f"labels must be a tensor, not {type(labels).__name__}"):
        loss.validate_inputs(torch.zeros(2, 3), labels)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: ClassificationLoss(label_smoothing=2.0), "label_smoothing: must be between 0 and 1, got 2"),
        (lambda: VisionLoss("tracking"), "task: 'tracking' is not one of classification, detection, segmentation"),
        (lambda: VisionLoss("detection", class_weights=[1.0]), "class_weights: detection takes none"),
        (lambda: VisionLoss("detection", box_weight=-1.0), "box_weight: must be at least 0, got -1"),
        (lambda: PEFTAwareLoss(adapter_scale=0.0), "adapter_scale: must be above 0, got 0"),
        (lambda: QuantizationSafeLoss(16), "bits: must be 8 or 4, got 16"),
        (lambda: create_criterion("focl"), "name: unknown loss 'focl'; did you mean 'focal'?"),
        (lambda: create_criterion("?"), "unknown loss '?'; there are ce, label_smoothing, focal, supcon"),
        (lambda: create_criterion("focal", beta=1), "focal has no option 'beta'; it has alpha, gamma"),
        (
            lambda: VisionLoss("detection").compute_loss(*detected(), {"class_weights": torch.ones(3)}),
            "DetectionLoss takes no class_weights",
        ),
        (
            lambda: LanguageModelingLoss().compute_loss(
                torch.zeros(1, 2, 3), torch.zeros(1, 2).long(), {"class_weights": torch.ones(3)}
            ),
            "LanguageModelingLoss takes no class_weights",
        ),
    ],
)
def test_bad_options_are_named(build, message):
    """What cannot be built or given is refused by its name."""
    import re

    with pytest.raises(ValueError, match=re.escape(message)):
        build()


# --- by name --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, options, expected",
    [
        ("ce", {}, cross_entropy()),
        ("ce", {"weight": [1.0, 2.0, 3.0, 4.0]}, torch.nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 3.0, 4.0]))),
        ("label_smoothing", {}, LabelSmoothingCrossEntropy(0.1)),
        ("focal", {"alpha": 0.25}, FocalLoss(0.25, 2.0)),
        ("supcon", {}, SupConLoss(0.1)),
    ],
)
def test_criteria_by_name_have_the_documented_defaults(name, options, expected):
    """Each takes logits and labels, as torch's do."""
    logits, targets = scores(6, CLASSES).float(), labels(6)

    torch.testing.assert_close(create_criterion(name, **options)(logits, targets), expected(logits, targets))


def test_installed_losses_are_strategies():
    """Native ones are what they are; plain ones, torch's too, are wrapped."""
    logits, targets = scores(3, CLASSES), labels(3)

    assert isinstance(get_loss_strategy("language_modeling"), LanguageModelingLoss)
    assert isinstance(get_loss_strategy("classification"), ClassificationLoss)
    torch.testing.assert_close(get_loss_strategy("focal").compute_loss(logits, targets), FocalLoss()(logits, targets))
    torch.testing.assert_close(
        get_loss_strategy("mse").compute_loss(logits, logits.detach() + 2), torch.tensor(4.0).double()
    )


class WeightedLoss:
    """A strategy as a user writes it."""

    def __init__(self, weights):
        self.weights = weights

    def compute_loss(self, logits, labels, inputs=None):
        """Return weighted cross-entropy."""
        if inputs and inputs.get("attention_mask") is not None:
            labels = labels.where(inputs["attention_mask"], -100)
        return F.cross_entropy(logits, labels, self.weights)

    def validate_inputs(self, logits, labels):
        """Refuse anything but one label per sample."""
        if labels.ndim != 1:
            raise ValueError("one label per sample")


def test_an_object_registered_at_run_time_is_found_by_name():
    """It comes before an installed loss of that name, in this registry only."""
    registry, custom = LossStrategyRegistry(), WeightedLoss(torch.ones(CLASSES))
    registry.register("weighted-ce", custom)
    registry.register("focal", custom)

    assert registry.get("weighted-ce") is custom
    assert registry.get("focal") is custom
    assert isinstance(registry.get("classification"), ClassificationLoss)
    assert isinstance(LossStrategyRegistry().get("focal"), AnyLoss)


def test_an_object_registered_at_run_time_trains_a_run(tmp_path):
    """As a loss of a run it gives the figures of the part that computes the same."""
    registry = LossStrategyRegistry()
    registry.register("custom", WeightedLoss(torch.ones(3)))

    ours = run(small(tmp_path / "ours", loss=registry.as_loss("custom"))).check()
    plain = run(small(tmp_path / "plain", loss={"type": "classification"})).check()

    assert ours.metrics["val_loss"] == pytest.approx(plain.metrics["val_loss"], rel=1e-4)
    assert isinstance(registry.as_loss("classification"), ClassificationLoss)


def test_a_strategy_in_a_run_sees_the_mask_and_validates():
    """The batch's mask is its attention mask; what it refuses is refused."""
    loss = StrategyInRun(WeightedLoss(None))
    logits, targets = scores(3, CLASSES), labels(3)
    mask = torch.tensor([True, False, True])

    result = loss(ModelOutput(logits), {"targets": targets, "mask": mask})

    torch.testing.assert_close(result.total, F.cross_entropy(logits[mask], targets[mask]))
    with pytest.raises(ValueError, match="one label per sample"):
        loss(ModelOutput(logits), {"targets": targets[:, None]})


def test_what_cannot_be_registered_or_found_is_said():
    """A class, an object without the methods, a name twice, a name that nothing has."""
    registry = LossStrategyRegistry()
    registry.register("one", WeightedLoss(None))

    with pytest.raises(TypeError, match="not the class WeightedLoss"):
        registry.register("two", WeightedLoss)
    with pytest.raises(TypeError, match="'two': register an object with compute_loss and validate_inputs, not Linear"):
        registry.register("two", torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="'one' is registered already"):
        registry.register("one", WeightedLoss(None))
    with pytest.raises(PluginError, match="did you mean 'classification'"):
        registry.get("clasification")
