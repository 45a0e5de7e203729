"""The gradients of one update: observed, and skipped if they are not finite."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from dovetail.ops import _loader
from dovetail.train.gradients import Gradients

OPTIMIZERS = {
    "fused": lambda parameters: torch.optim.AdamW(parameters, lr=0.1, fused=True),
    "plain": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
}


def backward(model: nn.Module, gradients: Gradients, inputs: torch.Tensor) -> None:
    """Compute the gradients of the outputs' sum."""
    gradients.clear()
    model(inputs).sum().backward()


def with_native(patch: pytest.MonkeyPatch, native: bool) -> None:
    """Disable the native ops, as DOVETAIL_NATIVE=0 does for a process."""
    if not native:
        patch.setattr(_loader, "_live", lambda _: False)


@pytest.mark.parametrize("native", [False, True])
def test_an_observer_gets_unclipped_gradients(monkeypatch, native):
    """Norms and parameters are in the same order, without unused layers; clipping uses the same norms."""
    with_native(monkeypatch, native)
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    unused = nn.Parameter(torch.ones(2))
    gradients, seen = Gradients(torch.optim.SGD([unused, *model.parameters()], lr=0.1), max_norm=0.5), []
    gradients.observe(lambda found, parameters: seen.append((found, parameters)))
    backward(model, gradients, torch.full((4, 3), 5.0))
    before = [parameter.grad.clone() for parameter in model.parameters()]
    gradients.clip()
    ((found, parameters),) = seen

    assert list(map(id, parameters)) == list(map(id, model.parameters()))
    torch.testing.assert_close(found.norms, torch.stack([grad.double().norm() for grad in before]))
    assert float(gradients.norm) == float(found.total)
    assert torch.equal(gradients.norms, found.norms)
    for parameter, grad in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(parameter.grad, grad * 0.5 / float(found.total))


def test_observing_does_not_change_gradients():
    """Without a limit nothing is clipped; an observer that is added twice is called once."""
    model, seen = nn.Linear(3, 2), []
    gradients = Gradients(torch.optim.SGD(model.parameters(), lr=0.1))

    def observer(found, parameters):
        seen.append(float(found.total))

    gradients.observe(observer)
    gradients.observe(observer)
    backward(model, gradients, torch.full((4, 3), 5.0))
    before = model.weight.grad.clone()
    gradients.clip()

    assert torch.equal(model.weight.grad, before)
    assert seen == [pytest.approx(math.sqrt(6 * 20**2 + 2 * 4**2))]


@pytest.mark.parametrize("max_norm", [None, 1.0])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_nonfinite_update_is_skipped(name, max_norm):
    """Weights and optimizer state are bit-identical to those of a run without it."""
    inputs = [torch.ones(2, 3), torch.tensor([[1.0, math.nan, 0.0]]), torch.full((1, 3), 2.0)]
    states = []
    for chosen in (inputs, [inputs[0], inputs[2]]):
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        optimizer = OPTIMIZERS[name](model.parameters())
        gradients = Gradients(optimizer, max_norm=max_norm, skip_nonfinite=True)
        for batch in chosen:
            backward(model, gradients, batch)
            gradients.clip()
            gradients.apply()
        assert "found_inf" not in vars(optimizer)
        states.append((model.state_dict(), optimizer.state_dict()["state"]))

    torch.testing.assert_close(*states, rtol=0, atol=0)


def test_the_momentum_of_fused_sgd_starts_at_zero():
    """For any optimizer made by torch; momentum that exists is kept."""
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9, fused=True)
    Gradients(optimizer)
    assert not optimizer.state[model.weight]["momentum_buffer"].any()

    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    Gradients(optimizer)
    assert optimizer.state[model.weight]["momentum_buffer"].all()


@pytest.mark.parametrize("first", [1.0, math.nan])
@pytest.mark.parametrize("half", [False, True])
def test_a_skipped_update_causes_no_scheduler_warning(half, first):
    """Torch warns if a scheduler steps before its optimizer, as after a skipped first update."""
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0) if half else None
    gradients = Gradients(optimizer, scaler=scaler, skip_nonfinite=True)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    gradients.backward(model(torch.full((1, 3), first)).sum())
    gradients.clip()
    gradients.apply()
    scheduler.step()

    assert scheduler.get_last_lr() == [0.5]
