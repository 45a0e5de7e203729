"""The weighted sum of a data loss and a physics loss."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dovetail.data import Splits
from dovetail.data.samples import TensorSamples
from dovetail.losses.physics_informed import PhysicsInformedLoss
from dovetail.losses.result import LossResult
from dovetail.main import run
from dovetail.models import ModelOutput
from small_runs import small


@given(data=st.sampled_from([0.0, 1.0, 2.5]), physics=st.sampled_from([0.0, 0.1, 3.0]), classes=st.booleans())
def test_it_is_the_weighted_sum(data, physics, classes):
    """The data loss is cross-entropy or squared error; the physics loss is the mean square residual."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 3, generator=generator)
    targets = torch.tensor([0, 2, 1, 1]) if classes else torch.randn(4, 3, generator=generator)
    residual = torch.randn(4, 7, generator=generator)
    first = F.cross_entropy(logits, targets) if classes else F.mse_loss(logits, targets)

    result = PhysicsInformedLoss(data, physics)(
        ModelOutput(logits, extras={"physics_residual": residual}), {"targets": targets}
    )

    torch.testing.assert_close(result.total, data * first + physics * residual.square().mean())
    torch.testing.assert_close(result.parts, {"data": first, "physics": residual.square().mean()})
    assert float(result.weight) == (4 if classes else 12)


class Positive(nn.Module):
    """A physics loss with a trainable parameter, which penalises negative outputs."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, outputs, batch):
        """Return the scaled mean square of negative outputs."""
        return LossResult(self.scale * F.relu(-outputs.logits).square().mean(), {}, float(len(outputs.logits)))


def test_both_losses_are_configurable():
    """Both may be plain or native losses; their parameters are parameters of the loss."""
    loss = PhysicsInformedLoss(data=nn.L1Loss(), physics=Positive())
    logits, targets = torch.tensor([[-1.0], [3.0]]), torch.zeros(2, 1)

    result = loss(ModelOutput(logits), {"targets": targets})

    assert result.total.item() == pytest.approx(2.0 + 0.1 * 2.0 * 0.5)
    assert [name for name, _ in loss.named_parameters()] == ["physics.scale"]


@pytest.mark.parametrize("masked", [True, False])
def test_a_batch_without_labels_that_count_gives_zero(masked):
    """Weight and total are 0."""
    logits = torch.randn(2 if masked else 0, 3, requires_grad=True)
    batch = {"targets": torch.zeros(len(logits), dtype=torch.int64), "mask": torch.zeros(len(logits), dtype=torch.bool)}
    if not masked:
        del batch["mask"]
    outputs = ModelOutput(logits, extras={"physics_residual": torch.ones(len(logits))})

    result = PhysicsInformedLoss()(outputs, batch)
    result.total.backward()

    assert result.total.item() == float(result.weight) == 0
    assert bool(logits.grad.isfinite().all())


def test_bad_models_and_options_are_named():
    """A model without a residual, a negative factor, and an object that is not a loss raise."""
    with pytest.raises(ValueError, match="the model returned no 'physics_residual'; return a mapping"):
        PhysicsInformedLoss()(ModelOutput(torch.zeros(2, 3)), {"targets": torch.zeros(2).long()})
    with pytest.raises(ValueError, match="physics_weight: must be at least 0, got -1"):
        PhysicsInformedLoss(1.0, -1.0)
    with pytest.raises(TypeError, match="is not callable, so it cannot be a loss"):
        PhysicsInformedLoss(physics="x")


class Decay(nn.Module):
    """A network u(t) that also returns the residual of u' = -u."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))

    def forward(self, inputs):
        """Return u and u' + u. Autograd computes the derivative, also in evaluation."""
        with torch.enable_grad():
            time = inputs.detach().requires_grad_()
            value = self.net(time)
            (slope,) = torch.autograd.grad(value.sum(), time, create_graph=True)
        return {"logits": value, "physics_residual": slope + value}


@pytest.mark.slow
def test_physics_extrapolates_beyond_the_data(tmp_path):
    """Trained on values at t < 0.5, a network that must obey the equation predicts u(2), one without it does not."""
    time = torch.rand(256, 1, generator=torch.Generator().manual_seed(1)) * 2
    known = time < 0.5

    class Known(nn.Module):
        """Squared error of the known values."""

        def forward(self, outputs, batch):
            """Return the mean over all samples."""
            gap = (outputs.logits - batch["targets"]).where(batch["inputs"] < 0.5, 0.0)
            return LossResult(gap.square().mean(), {}, float(len(gap)))

    samples = TensorSamples(time, torch.exp(-time).where(known, 0.0), None, "decay")
    error = {}
    for name, weight in (("physics", 1.0), ("data alone", 0.0)):
        torch.manual_seed(0)
        model = Decay()
        config = small(
            tmp_path / name,
            data=Splits(samples, samples, None),
            model=model,
            loss=PhysicsInformedLoss(1.0, weight, data=Known()),
            optimizer={"type": "adam", "lr": 5e-3},
            training={"max_epochs": 150},
            loader={"batch_size": 64},
            metrics={"accuracy": {"type": "mae"}},
        )
        run(config).check()
        error[name] = abs(model(torch.tensor([[2.0]]))["logits"].item() - math.exp(-2))

    assert error["physics"] < 0.02
    assert error["data alone"] > 3 * error["physics"]
