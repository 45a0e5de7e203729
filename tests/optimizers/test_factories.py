"""Tests of the optimizer factories: their defaults, and updates equal to torch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from dovetail.optimizers import factories


def model(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Return a model with a norm layer whose parameter names do not contain "norm"."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 2)).to(dtype)


def train(build: Callable[..., Optimizer], steps: int = 5, **options: Any) -> list[torch.Tensor]:
    """Return the weights after a few updates in double precision."""
    net = model(torch.float64)
    optimizer = build(net.parameters(), **options)
    inputs = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)
    for _ in range(steps):
        optimizer.zero_grad()
        net(inputs).square().sum().backward()
        optimizer.step()
    return [parameter.detach() for parameter in net.parameters()]


@pytest.mark.parametrize(
    "factory, kind, expected",
    [
        ("adamw", AdamW, {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01, "amsgrad": False}),
        ("adam", Adam, {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "amsgrad": False}),
        ("sgd", SGD, {"lr": 1e-2, "momentum": 0.9, "dampening": 0.0, "weight_decay": 1e-4, "nesterov": True}),
        ("rmsprop", RMSprop, {"lr": 1e-3, "alpha": 0.99, "eps": 1e-8, "weight_decay": 1e-5, "momentum": 0.0}),
    ],
)
def test_defaults_are_the_documented_ones(factory: str, kind: type, expected: dict[str, Any]) -> None:
    """Each factory returns torch's optimizer with the documented defaults."""
    found = getattr(factories, factory)(model().parameters())

    assert type(found) is kind
    assert {name: found.param_groups[0][name] for name in expected} == expected


@given(
    st.sampled_from(
        [
            (factories.adamw, AdamW, {"lr": 0.05, "betas": (0.8, 0.99), "weight_decay": 0.1, "amsgrad": True}),
            (factories.adam, Adam, {"lr": 0.05, "eps": 1e-6, "weight_decay": 0.1}),
            (factories.sgd, SGD, {"lr": 0.01, "momentum": 0.5, "nesterov": True, "weight_decay": 0.1}),
            (factories.sgd, SGD, {"lr": 0.01, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0}),
            (factories.sgd, SGD, {"lr": 0.01, "momentum": 0.5, "nesterov": False, "dampening": 0.2}),
            (factories.rmsprop, RMSprop, {"lr": 0.01, "alpha": 0.9, "momentum": 0.3, "centered": True}),
        ]
    )
)
def test_updates_match_torchs_plain_loop(case: tuple[Callable[..., Optimizer], type, dict[str, Any]]) -> None:
    """Fused or not, a few updates give the weights of torch's implementation that loops over tensors."""
    factory, kind, options = case
    plain = {"weight_decay": 1e-4 if kind is SGD else 1e-5, **options}

    for found, expected in zip(train(factory, **options), train(kind, foreach=False, **plain), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("factory", ["adamw", "adam", "sgd"])
def test_optimizers_are_fused_by_default(factory: str) -> None:
    """A bf16 model too; ``fused=False`` turns it off."""
    build = getattr(factories, factory)

    assert build(model().parameters()).param_groups[0]["fused"] is True
    assert build(model(torch.bfloat16).parameters()).param_groups[0]["fused"] is True
    assert not build(model().parameters(), fused=False).param_groups[0]["fused"]


@pytest.mark.parametrize(
    "params",
    [
        lambda net: net.parameters(),
        lambda net: list(net.named_parameters()),
        lambda net: [{"params": net[0].parameters()}, {"params": net[3].weight, "lr": 0.5}],
    ],
)
def test_parameters_may_have_every_form_torch_takes(params: Callable[[nn.Sequential], Any]) -> None:
    """Generators, named pairs and groups, even with generators inside, are read once."""
    found = factories.adamw(params(model()))

    assert sum(len(group["params"]) for group in found.param_groups) in {3, 6}
    assert all(group["fused"] for group in found.param_groups)


@pytest.mark.parametrize("options", [{"momentum": 0.0}, {"dampening": 0.5}])
def test_nesterov_needs_momentum(options: dict[str, float]) -> None:
    """The message says what to set instead."""
    with pytest.raises(ValueError, match=r"nesterov: needs momentum above 0 and no dampening.*set nesterov = false"):
        factories.sgd(model().parameters(), **options)
