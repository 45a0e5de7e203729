"""Optimizers created by name, and the presets as their options."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import nn

from dovetail.optimizers import get_parameter_groups, presets
from dovetail.pieces import (
    OptimizerConfig,
    create_adamw_optimizer,
    create_optimizer,
    create_rmsprop_optimizer,
    create_sgd_optimizer,
)


def model(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Return a small model."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 2)).to(dtype)


def test_created_optimizers_have_the_documented_defaults() -> None:
    """The functions keep the documented values where the components have others."""
    params = list(model().parameters())

    created = [
        create_optimizer(model_params=params),
        create_adamw_optimizer(params),
        create_sgd_optimizer(params),
        create_rmsprop_optimizer(params),
    ]

    settings = [
        (type(optimizer).__name__, *(optimizer.param_groups[0][name] for name in ("lr", "weight_decay")))
        for optimizer in created
    ]
    assert settings == [("AdamW", 1e-3, 1e-4), ("AdamW", 1e-3, 1e-4), ("SGD", 1e-2, 1e-4), ("RMSprop", 1e-3, 1e-5)]
    assert (created[2].param_groups[0]["momentum"], created[2].param_groups[0]["nesterov"]) == (0.9, True)


def test_signatures_are_the_documented_ones() -> None:
    """Names, order and defaults are unchanged."""
    assert str(inspect.signature(create_optimizer, eval_str=False)).startswith(
        "(optimizer_type: 'str' = 'adamw', model_params: 'Params | None' = None, lr: 'float' = 0.001, "
        "weight_decay: 'float' = 0.0001, **kwargs: 'Any')"
    )
    assert list(inspect.signature(get_parameter_groups).parameters) == [
        "model",
        "lr",
        "weight_decay",
        "no_decay_keywords",
    ]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"optimizer_type": "adamm"}, "unknown optimizer 'adamm'; did you mean 'adam"),
        ({"optimizer_type": "lion?"}, "unknown optimizer 'lion\\?'; there are adamw, adam, sgd, rmsprop"),
        ({"optimizer_type": "AdamW"}, "unknown optimizer 'AdamW'; did you mean 'adamw'"),
        ({"momentum": 0.5}, "adamw has no option 'momentum'; it has lr, betas"),
        ({"model_params": None}, "model_params: there is nothing to optimise"),
    ],
)
def test_an_unknown_name_or_option_is_refused(arguments: dict[str, Any], message: str) -> None:
    """The message shows it, and suggests the nearest name."""
    with pytest.raises(ValueError, match=message):
        create_optimizer(**{"model_params": model().parameters(), **arguments})


def test_a_model_instead_of_parameters_is_refused() -> None:
    """Either argument may be a model, because an older documented function took one first."""
    with pytest.raises(TypeError, match=r"pass the model's parameters, model\.parameters\(\), not the model \(Seq"):
        create_optimizer("adamw", model())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="optimizer_type: expected a name such as 'adamw', got Sequential"):
        create_optimizer(model(), "adam")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["default", "fast_convergence", "strong_regularization", "sgd_baseline"])
def test_presets_create_the_optimizer_of_the_component(name: str) -> None:
    """An optimizer that is created from a preset has the defaults of the component of that name."""
    expected = getattr(presets, name)(model().parameters())

    created = create_optimizer(model_params=model().parameters(), **getattr(OptimizerConfig, name)())

    assert type(created) is type(expected)
    assert {**created.param_groups[0], "params": None} == {**expected.param_groups[0], "params": None}
