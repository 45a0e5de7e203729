"""Tests of parameter groups: which parameters weight decay applies to."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dovetail.optimizers import factories
from dovetail.optimizers.groups import get_parameter_groups, split_parameters, trainable_groups


def model(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Return a model with a norm layer whose parameter names do not contain "norm"."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 2)).to(dtype)


def test_biases_and_norms_do_not_decay() -> None:
    """Biases match by name, norms by their layer's class, because a Sequential numbers its layers."""
    net = model()

    decay, no_decay = get_parameter_groups(net, 0.1, 0.2)

    assert [id(parameter) for parameter in decay["params"]] == [id(net[0].weight), id(net[3].weight)]
    assert (decay["lr"], decay["weight_decay"]) == (0.1, 0.2)
    assert len(no_decay["params"]) == 4
    assert (no_decay["lr"], no_decay["weight_decay"]) == (0.1, 0.0)


@given(st.lists(st.sampled_from(["bias", "norm", "BIAS", "weight", "0.", "nothing"]), max_size=3))
def test_groups_lose_no_parameter(keywords: list[str]) -> None:
    """With any keywords, every trainable parameter is in exactly one group."""
    net = model()
    net[0].bias.requires_grad_(requires_grad=False)

    groups = get_parameter_groups(net, 0.1, 0.2, keywords)

    found = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(found) == sorted(id(parameter) for parameter in net.parameters() if parameter.requires_grad)
    assert all(group["params"] for group in groups)


def test_keywords_match_in_any_case() -> None:
    """The keyword "BIAS" matches the name "bias"."""
    assert len(split_parameters(model(), ["BIAS"])[1]) == 3


def test_a_matrix_in_a_norm_named_layer_decays() -> None:
    """The layer's class exempts only vectors, so the matrix of a normalised linear layer decays."""

    class NormalisedLinear(nn.Linear):
        """A linear layer with "norm" in its class name."""

    decay, no_decay = split_parameters(nn.Sequential(NormalisedLinear(2, 2)))

    assert [parameter.ndim for parameter in decay] == [2]
    assert [parameter.ndim for parameter in no_decay] == [1]


def test_tied_parameters_are_listed_once() -> None:
    """A parameter of two layers is optimised once."""
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.weight = first.weight

    decay, no_decay = split_parameters(nn.ModuleList([first, second]))

    assert (len(decay), len(no_decay)) == (1, 2)


def test_groups_of_several_modules_take_settings_from_the_factory() -> None:
    """Only the exempt group sets weight decay, to 0."""
    net, loss = model(), nn.BCEWithLogitsLoss()

    (everything,) = trainable_groups([net, loss])
    optimizer = factories.adamw(trainable_groups([net, loss], ["bias", "norm"]))

    assert len(everything["params"]) == 6
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.0]
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 4]
