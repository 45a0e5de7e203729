"""The step of Adam and AdamW in fewer calls: the same weights and state as by torch's own, bit for bit."""

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
    """Return two optimizers alike, of two groups of parameters alike."""
    torch.manual_seed(0)
    values = [torch.randn(shape).to(dtype) for shape in shapes]
    made = []
    for _ in range(2):
        parameters = [nn.Parameter(value.clone()) for value in values]
        groups = [{"params": parameters[:2]}, {"params": parameters[2:], "lr": 0.3, "betas": (0.5, 0.9)}]
        made.append(kind(groups, lr=0.1, **options))
    return made


def parameters_of(optimizer: Optimizer) -> list[torch.Tensor]:
    """Return all parameters."""
    return [one for group in optimizer.param_groups for one in group["params"]]


def give_gradients(several: list[Adam], present: list[bool]) -> None:
    """Give the same gradients to each; none where there shall be none."""
    for those in zip(*map(parameters_of, several), strict=True):
        grad = torch.randn(those[0].shape).to(those[0].dtype)
        there = present.pop(0)
        for one in those:
            one.grad = grad.clone() if there else None


def assert_same_bits(ours: Optimizer, theirs: Optimizer) -> None:
    """Compare weights and state."""
    for one, other in zip(parameters_of(ours), parameters_of(theirs), strict=True):
        assert torch.equal(one, other)
    mine, their = ours.state_dict(), theirs.state_dict()
    assert mine["param_groups"] == their["param_groups"]
    assert {place: list(kept) for place, kept in mine["state"].items()} == {
        place: list(kept) for place, kept in their["state"].items()
    }
    for place, kept in their["state"].items():
        for name, value in kept.items():
            assert torch.equal(mine["state"][place][name], value), name


def load_saved_state(optimizer: Optimizer, _: torch.Tensor) -> None:
    """Take up what was saved."""
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


def forget(optimizer: Optimizer, parameter: torch.Tensor) -> None:
    """Drop what is remembered of a parameter, as those do who put in new neurons."""
    optimizer.state.pop(parameter, None)


def remember_anew(optimizer: Optimizer, parameter: torch.Tensor) -> None:
    """Put another memory in its place."""
    if parameter in optimizer.state:
        optimizer.state[parameter] = copy.deepcopy(optimizer.state[parameter])


def replace_tensors(optimizer: Optimizer, parameter: torch.Tensor) -> None:
    """Put others in the same memory, as those do who move a state to another device."""
    if parameter in optimizer.state:
        kept = optimizer.state[parameter]
        for name, value in kept.items():
            kept[name] = value * 2


CHANGES = [lambda _, __: None, load_saved_state, forget, remember_anew, replace_tensors]


@given(
    data=st.data(),
    kind=st.sampled_from([Adam, AdamW]),
    shapes=st.lists(st.sampled_from(SHAPES), min_size=3, max_size=5),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    options=st.fixed_dictionaries(
        {"fused": st.sampled_from([True, False, None]), "weight_decay": st.sampled_from([0.0, 0.1])}
    ),
)
def test_steps_are_torchs_bit_for_bit(data, kind, shapes, dtype, options):
    """Also where gradients are missing now and then, rates change, and somebody changes what is remembered."""
    ours, theirs = pair(kind, shapes, dtype, **options)
    step = AdamStep.of(ours)
    assert step is not None
    for _ in range(6):
        give_gradients([ours, theirs], data.draw(st.lists(st.booleans(), min_size=len(shapes), max_size=len(shapes))))
        theirs.step()
        if not step():
            ours.step()
        change, place = data.draw(st.sampled_from(CHANGES)), data.draw(st.integers(0, len(shapes) - 1))
        for optimizer in (ours, theirs):
            optimizer.param_groups[0]["lr"] *= 0.7
            change(optimizer, parameters_of(optimizer)[place])
    assert_same_bits(ours, theirs)


@pytest.mark.parametrize("fused", [True, False])
def test_large_parameters_are_worked_on_in_turn(fused):
    """However many elements there are, each is updated once."""
    shapes = [(100_000,), (50_000,), (200_000,), (10,), (3, 40_000), (70,)]
    ours, theirs = pair(AdamW, shapes, torch.float32, fused=fused)
    step = AdamStep.of(ours)
    for _ in range(3):
        give_gradients([ours, theirs], [True] * len(shapes))
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
def test_what_is_seldom_set_is_left_to_torch(options):
    """Nothing has been touched then; and the first step, which makes the state, is always torch's."""
    optimizer = AdamW([nn.Parameter(torch.ones(3))], **options)
    step = AdamStep.of(optimizer)
    give_gradients([optimizer], [True])
    assert not step()
    optimizer.step()
    before = copy.deepcopy((parameters_of(optimizer), optimizer.state_dict()))
    assert step() == (not options)
    same = torch.equal(before[0][0], parameters_of(optimizer)[0])
    assert same == bool(options)
    assert (before[1]["state"][0]["step"] == optimizer.state_dict()["state"][0]["step"]) == bool(options)


def test_parameters_that_join_later_are_updated_too():
    """An optimizer that has grown is torch's to step."""
    optimizer = AdamW([nn.Parameter(torch.ones(3))])
    step = AdamStep.of(optimizer)
    give_gradients([optimizer], [True])
    optimizer.step()
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})
    assert not step()


def test_a_parameter_in_place_of_another_is_updated():
    """Whoever swaps a layer has the optimizer step what it is now given."""
    optimizer = AdamW([nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))])
    step = AdamStep.of(optimizer)
    give_gradients([optimizer], [True, True])
    optimizer.step()
    assert step()
    optimizer.param_groups[0]["params"][1] = nn.Parameter(torch.ones(4))
    assert not step()


class Kept(AdamW):
    """An AdamW that somebody has made something of."""


@pytest.mark.parametrize(
    "optimizer",
    [
        Kept([nn.Parameter(torch.ones(3))]),
        torch.optim.SGD([nn.Parameter(torch.ones(3))]),
        AdamW([nn.Parameter(torch.ones(3, dtype=torch.complex64))]),
        AdamW([nn.Parameter(torch.ones(3, dtype=torch.bfloat16))]),
        AdamW([nn.Parameter(torch.ones(3, device="meta"))]),
    ],
)
def test_optimizers_of_another_kind_are_torchs(optimizer):
    """So are parameters that are not single or double precision on the CPU."""
    assert AdamStep.of(optimizer) is None
