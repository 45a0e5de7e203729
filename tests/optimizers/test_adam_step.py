"""Tests of AdamStep: the same weights and state as torch's own step, bit for bit."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import Adam, AdamW, Optimizer

from dovetail.optimizers.adam_step import AdamStep

SHAPES = [(), (1,), (3, 2), (17,), (2, 3, 4)]


def pair(kind: type[Adam], shapes: list[tuple[int, ...]], dtype: torch.dtype, **options: Any) -> list[Adam]:
    """Return two equal optimizers, each with two groups of equal parameters."""
    torch.manual_seed(0)
    values = [torch.randn(shape).to(dtype) for shape in shapes]
    optimizers = []
    for _ in range(2):
        parameters = [nn.Parameter(value.clone()) for value in values]
        groups = [{"params": parameters[:2]}, {"params": parameters[2:], "lr": 0.3, "betas": (0.5, 0.9)}]
        optimizers.append(kind(groups, lr=0.1, **options))
    return optimizers


def parameters_of(optimizer: Optimizer) -> list[torch.Tensor]:
    """Return the parameters of all groups."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def set_gradients(optimizers: list[Adam], present: list[bool]) -> None:
    """Set the same random gradients in each optimizer; None for a parameter whose entry of ``present`` is false."""
    for twins in zip(*map(parameters_of, optimizers), strict=True):
        grad = torch.randn(twins[0].shape).to(twins[0].dtype)
        has_grad = present.pop(0)
        for parameter in twins:
            parameter.grad = grad.clone() if has_grad else None


def assert_same_bits(ours: Optimizer, theirs: Optimizer) -> None:
    """Assert that weights and state are equal."""
    for found, expected in zip(parameters_of(ours), parameters_of(theirs), strict=True):
        assert torch.equal(found, expected)
    found, expected = ours.state_dict(), theirs.state_dict()
    assert found["param_groups"] == expected["param_groups"]
    assert {index: list(state) for index, state in found["state"].items()} == {
        index: list(state) for index, state in expected["state"].items()
    }
    for index, state in expected["state"].items():
        for name, value in state.items():
            assert torch.equal(found["state"][index][name], value), name


def load_saved_state(optimizer: Optimizer, _: torch.Tensor) -> None:
    """Save and load the state."""
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


def forget(optimizer: Optimizer, parameter: torch.Tensor) -> None:
    """Drop the state of a parameter, as code that grows a layer does."""
    optimizer.state.pop(parameter, None)


def copy_state(optimizer: Optimizer, parameter: torch.Tensor) -> None:
    """Replace the state of a parameter by a copy."""
    if parameter in optimizer.state:
        optimizer.state[parameter] = copy.deepcopy(optimizer.state[parameter])


def replace_tensors(optimizer: Optimizer, parameter: torch.Tensor) -> None:
    """Replace the tensors in a parameter's state, as code that moves it to another device does."""
    if parameter in optimizer.state:
        state = optimizer.state[parameter]
        for name, value in state.items():
            state[name] = value * 2


CHANGES = [lambda _, __: None, load_saved_state, forget, copy_state, replace_tensors]


@given(
    data=st.data(),
    kind=st.sampled_from([Adam, AdamW]),
    shapes=st.lists(st.sampled_from(SHAPES), min_size=3, max_size=5),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    options=st.fixed_dictionaries(
        {"fused": st.sampled_from([True, False, None]), "weight_decay": st.sampled_from([0.0, 0.1])}
    ),
)
def test_steps_match_torch_bit_for_bit(data, kind, shapes, dtype, options):
    """Even if gradients are missing, the learning rate changes, and user code replaces state between steps."""
    ours, theirs = pair(kind, shapes, dtype, **options)
    step = AdamStep.of(ours)
    assert step is not None
    for _ in range(6):
        set_gradients([ours, theirs], data.draw(st.lists(st.booleans(), min_size=len(shapes), max_size=len(shapes))))
        theirs.step()
        if not step():
            ours.step()
        change, index = data.draw(st.sampled_from(CHANGES)), data.draw(st.integers(0, len(shapes) - 1))
        for optimizer in (ours, theirs):
            optimizer.param_groups[0]["lr"] *= 0.7
            change(optimizer, parameters_of(optimizer)[index])
    assert_same_bits(ours, theirs)


@pytest.mark.parametrize("fused", [True, False])
def test_parameters_of_several_chunks_are_updated_once(fused):
    """Parameters may be smaller and larger than a chunk."""
    shapes = [(100_000,), (50_000,), (200_000,), (10,), (3, 40_000), (70,)]
    ours, theirs = pair(AdamW, shapes, torch.float32, fused=fused)
    step = AdamStep.of(ours)
    for _ in range(3):
        set_gradients([ours, theirs], [True] * len(shapes))
        theirs.step()
        if not step():
            ours.step()
    assert_same_bits(ours, theirs)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"amsgrad": True},
        {"maximize": True},
        {"foreach": True},
        {"lr": torch.tensor(0.1)},
        {"betas": (torch.tensor(0.9), torch.tensor(0.99)), "foreach": False},
    ],
)
def test_rare_options_are_left_to_torch(options):
    """AdamStep then changes nothing; the first step, which creates the state, is always torch's."""
    optimizer = AdamW([nn.Parameter(torch.ones(3))], **options)
    step = AdamStep.of(optimizer)
    set_gradients([optimizer], [True])
    assert not step()
    optimizer.step()
    before = copy.deepcopy((parameters_of(optimizer), optimizer.state_dict()))
    assert step() == (not options)
    same = torch.equal(before[0][0], parameters_of(optimizer)[0])
    assert same == bool(options)
    assert (before[1]["state"][0]["step"] == optimizer.state_dict()["state"][0]["step"]) == bool(options)


def test_an_optimizer_with_an_added_group_is_left_to_torch():
    """AdamStep would miss the new parameters."""
    optimizer = AdamW([nn.Parameter(torch.ones(3))])
    step = AdamStep.of(optimizer)
    set_gradients([optimizer], [True])
    optimizer.step()
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})
    assert not step()


def test_an_optimizer_with_a_replaced_parameter_is_left_to_torch():
    """AdamStep would update the old parameter."""
    optimizer = AdamW([nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))])
    step = AdamStep.of(optimizer)
    set_gradients([optimizer], [True, True])
    optimizer.step()
    assert step()
    optimizer.param_groups[0]["params"][1] = nn.Parameter(torch.ones(4))
    assert not step()


class Subclass(AdamW):
    """A subclass, which may override ``step``."""


@pytest.mark.parametrize(
    "optimizer",
    [
        Subclass([nn.Parameter(torch.ones(3))]),
        torch.optim.SGD([nn.Parameter(torch.ones(3))]),
        AdamW([nn.Parameter(torch.ones(3, dtype=torch.complex64))]),
        AdamW([nn.Parameter(torch.ones(3, dtype=torch.bfloat16))]),
        AdamW([nn.Parameter(torch.ones(3, device="meta"))]),
    ],
)
def test_other_optimizers_and_tensors_are_left_to_torch(optimizer):
    """Only plain Adam and AdamW, with single or double precision on the CPU, have an AdamStep."""
    assert AdamStep.of(optimizer) is None
