"""The gradients of one update: measured, clipped, and left out where they are no numbers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from dovetail.train.gradients import Gradients

OPTIMIZERS = {
    "fused": lambda parameters: torch.optim.AdamW(parameters, lr=0.1, fused=True),
    "plain": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
}


def backward(model: nn.Module, gradients: Gradients, inputs: torch.Tensor) -> None:
    """Compute the gradients of the outputs' sum."""
    gradients.clear()
    model(inputs).sum().backward()


@pytest.mark.parametrize("native", ["0", "1"])
def test_an_observer_sees_the_gradients_before_they_are_clipped(monkeypatch, native):
    """It gets norms and parameters in one order, and what it gets is also what clips; a layer not used is left out."""
    monkeypatch.setenv("DOVETAIL_NATIVE", native)
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    unused = nn.Parameter(torch.ones(2))
    gradients, seen = Gradients(torch.optim.SGD([unused, *model.parameters()], lr=0.1), max_norm=0.5), []
    gradients.observe(lambda found, parameters: seen.append((found, parameters)))
    backward(model, gradients, torch.full((4, 3), 5.0))
    before = [one.grad.clone() for one in model.parameters()]
    gradients.clip()
    ((found, parameters),) = seen

    assert [id(one) for one in parameters] == [id(one) for one in model.parameters()]
    torch.testing.assert_close(found.norms, torch.stack([grad.norm().double() for grad in before]))
    assert torch.equal(gradients.norm, found.total)
    for one, grad in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(one.grad, grad * 0.5 / float(found.total))


def test_observing_alone_leaves_the_gradients_as_they_are():
    """Without a limit nothing is clipped, and an observer that asks twice is told once."""
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
def test_an_update_that_is_no_number_is_left_out(name, max_norm):
    """Weights and the optimizer's state are those of the run in which it did not happen, bit for bit."""
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
