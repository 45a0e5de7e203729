"""Clipping: by the global norm, per parameter and by value, and what observers see."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dovetail.ops import _loader
from dovetail.train.clipping import Clipping
from dovetail.train.gradients import Gradients


def parameters(scale: float, *, seed: int = 0) -> list[torch.nn.Parameter]:
    """Return parameters of several shapes with gradients, and one without."""
    generator = torch.Generator().manual_seed(seed)
    made = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((3, 4), (5,), (2, 2))]
    for parameter in made[:2]:
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator)
    return made


def test_each_parameter_by_its_own_norm():
    """A gradient within the limit keeps its bits; the others are scaled to the limit."""
    made = parameters(1.0)
    made[1].grad = made[1].grad * 1e-3
    small = made[1].grad.clone()

    Clipping(made, 0.5, "parameter").clip()

    assert float(made[0].grad.norm()) == pytest.approx(0.5, rel=1e-5)
    assert torch.equal(made[1].grad, small)


def test_each_value():
    """Every element is within the limit; elements that were keep their bits."""
    made = parameters(1.0)
    before = made[0].grad.clone()

    Clipping(made, 0.25, "value").clip()

    assert torch.equal(made[0].grad, before.clamp(-0.25, 0.25))
    assert before.abs().max() > 0.25


def test_without_a_limit_gradients_are_measured_only():
    """Observers see the statistics and the parameters that have a gradient."""
    made = parameters(2.0)
    before = [parameter.grad.clone() for parameter in made[:2]]
    clipping = Clipping(made, None, "norm")
    seen = []
    clipping.observers.append(lambda norms, measured: seen.append((norms, list(measured))))

    clipping.measure()
    clipping.clip()

    assert len(seen) == 2
    assert seen[0][1][0] is made[0]
    assert len(seen[0][1]) == 2
    torch.testing.assert_close(clipping.norms.float(), torch.stack([grad.norm() for grad in before]))
    assert all(torch.equal(parameter.grad, grad) for parameter, grad in zip(made, before, strict=False))


def test_without_gradients_nothing_is_measured():
    """The norm stays unknown."""
    clipping = Clipping([torch.nn.Parameter(torch.zeros(2))], 1.0, "norm")

    clipping.clip()
    clipping.measure()

    assert clipping.norm is None
    assert clipping.norms is None
    assert clipping.present() == []


def backward(model: nn.Module, gradients: Gradients, inputs: torch.Tensor) -> None:
    """Compute the gradients of the outputs' sum."""
    gradients.clear()
    model(inputs).sum().backward()


def with_native(patch: pytest.MonkeyPatch, native: bool) -> None:
    """Disable the native ops, as DOVETAIL_NATIVE=0 does for a process."""
    if not native:
        patch.setattr(_loader, "_live", lambda _: False)


BY_TORCH = {
    "norm": torch.nn.utils.clip_grad_norm_,
    "parameter": lambda parameters, limit: [torch.nn.utils.clip_grad_norm_([each], limit) for each in parameters],
    "value": torch.nn.utils.clip_grad_value_,
}


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("clip_by", BY_TORCH)
@given(limit=st.floats(1e-3, 1e3), scale=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
def test_clipping_matches_torch(clip_by, native, limit, scale, seed):
    """By the norm of all gradients, by the norm of each, and by value; with and without the native op."""
    torch.manual_seed(seed)
    models = [nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2)) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    inputs = torch.randn(4, 3) * scale
    with pytest.MonkeyPatch.context() as patch:
        with_native(patch, native)
        gradients = Gradients(torch.optim.SGD(models[0].parameters()), max_norm=limit, clip_by=clip_by)
        backward(models[0], gradients, inputs)
        gradients.clip()
    models[1](inputs).sum().backward()
    BY_TORCH[clip_by](list(models[1].parameters()), limit)

    for ours, theirs in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
