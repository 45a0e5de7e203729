"""Calling an optimizer's step: what listeners see, skipped updates, and closures."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from dovetail.optimizers.stepping import Stepper, needs_closure_reevaluation
from dovetail.train.gradients import Gradients


def backward(model: nn.Module, gradients: Gradients, inputs: torch.Tensor) -> None:
    """Compute the gradients of the outputs' sum."""
    gradients.clear()
    model(inputs).sum().backward()


def test_a_step_that_somebody_listens_to_is_torchs_own():
    """Hooks of an optimizer, hooks of all of them, profilers and replaced steps see every update."""
    model, seen = nn.Linear(3, 2), []
    optimizer = torch.optim.AdamW(model.parameters())
    gradients = Gradients(optimizer)
    backward(model, gradients, torch.ones(1, 3))

    gradients.apply()
    assert seen == []
    handle = optimizer.register_step_post_hook(lambda *_: seen.append("own"))
    gradients.apply()
    handle.remove()
    everybody = register_optimizer_step_pre_hook(lambda *_: seen.append("all"))
    gradients.apply()
    everybody.remove()
    with torch.profiler.profile() as profile:
        gradients.apply()
    real = optimizer.step
    optimizer.step = lambda: seen.append("replaced") or real()
    gradients.apply()

    assert seen == ["own", "all", "replaced"]
    assert any(item.key == "Optimizer.step#AdamW.step" for item in profile.key_averages())
    assert optimizer.state[model.weight]["step"] == 5


class Needs(torch.optim.Optimizer):
    """An optimizer whose step requires a closure."""

    def step(self, closure):
        """Evaluate the loss."""
        return closure()


def test_only_a_required_closure_is_evaluated_again():
    """L-BFGS and optimizers like it; an optional closure, and a step that a scheduler wraps, need none."""
    weights = [torch.nn.Parameter(torch.zeros(1))]
    sgd = torch.optim.SGD(weights, lr=0.1)
    torch.optim.lr_scheduler.ConstantLR(sgd)

    assert needs_closure_reevaluation(torch.optim.LBFGS(weights))
    assert needs_closure_reevaluation(Needs(weights, {}))
    assert not needs_closure_reevaluation(sgd)


@pytest.mark.parametrize("norm,moves", [(1.0, True), (float("nan"), False), (float("inf"), False), (None, True)])
@pytest.mark.parametrize("tensor", [False, True])
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Rprop])
def test_updates_with_a_non_finite_norm_are_skipped(norm, moves, tensor, kind):
    """For a number and for a tensor on the device, with a fused step and without."""
    weight = torch.nn.Parameter(torch.ones(3))
    options = {"fused": True} if kind is torch.optim.SGD else {}
    stepper = Stepper(kind([weight], lr=0.1, **options), None, skip_nonfinite=True)
    weight.grad = torch.ones(3)

    stepper.step(torch.tensor(norm) if tensor and norm is not None else norm)

    assert torch.equal(weight, torch.ones(3)) is not moves
