"""Optimizers: defaults, groups, presets, and that fused ones do what plain ones do."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from dovetail.optimizers import factories, presets
from dovetail.optimizers.fused import can_fuse, read_params
from dovetail.optimizers.groups import get_parameter_groups, split_parameters, trainable_groups
from dovetail.pieces.optimizers import (
    OptimizerConfig,
    create_adamw_optimizer,
    create_optimizer,
    create_rmsprop_optimizer,
    create_sgd_optimizer,
)

PRESETS = ["default", "fast_convergence", "strong_regularization", "sgd_baseline"]


def model(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Return a model whose norm does not say so in its name."""
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
    return [one.detach() for one in net.parameters()]


# --- factories --------------------------------------------------------------------------------------------------


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
    """Each factory makes torch's optimizer with the documented defaults."""
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
def test_updates_are_those_of_torchs_plain_loop(case: tuple[Callable[..., Optimizer], type, dict[str, Any]]) -> None:
    """Fused or not, the weights after a few updates are those of torch's one-tensor-at-a-time implementation."""
    factory, kind, options = case
    plain = {"weight_decay": 1e-4 if kind is SGD else 1e-5, **options}

    for found, expected in zip(train(factory, **options), train(kind, foreach=False, **plain), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("factory", ["adamw", "adam", "sgd"])
def test_a_first_update_that_is_left_out_leaves_nothing_behind(factory: str, fused: bool) -> None:
    """As half precision leaves it out; a parameter whose first gradient comes later begins then."""
    weight, late = nn.Parameter(torch.ones(50)), nn.Parameter(torch.ones(50))
    optimizer = getattr(factories, factory)([weight, late], lr=0.1, weight_decay=0.0, fused=fused)
    scaler = torch.amp.GradScaler("cpu")
    for factor in (float("inf"), 1.0):
        optimizer.zero_grad()
        scaler.scale((weight * factor).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    first = 0.1 * 1.9 if factory == "sgd" else 0.1  # Nesterov's looks ahead
    torch.testing.assert_close(weight, torch.full((50,), 1 - first))

    (weight + late).sum().backward()
    optimizer.step()
    torch.testing.assert_close(late, torch.full((50,), 1 - first))


@pytest.mark.parametrize("factory", ["adamw", "adam", "sgd"])
def test_fused_where_it_can_be(factory: str) -> None:
    """By default fused, also for one bf16 model; not where the user says no."""
    build = getattr(factories, factory)

    assert build(model().parameters()).param_groups[0]["fused"] is True
    assert build(model(torch.bfloat16).parameters()).param_groups[0]["fused"] is True
    assert not build(model().parameters(), fused=False).param_groups[0]["fused"]


def test_not_fused_across_devices_or_types() -> None:
    """Parameters on two devices, on one without fused kernels, or complex, are left to torch's plain loops."""
    here, elsewhere = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2, device="meta"))
    complex_ = nn.Parameter(torch.ones(2, dtype=torch.complex64))

    assert can_fuse([here])
    assert not can_fuse([here, elsewhere])
    assert not can_fuse([elsewhere])
    assert not can_fuse([here, complex_])
    assert not factories.adamw([here, complex_]).param_groups[0]["fused"]


@pytest.mark.parametrize(
    "params",
    [
        lambda net: net.parameters(),
        lambda net: list(net.named_parameters()),
        lambda net: [{"params": net[0].parameters()}, {"params": net[3].weight, "lr": 0.5}],
    ],
)
def test_parameters_come_in_every_form_torch_takes(params: Callable[[nn.Sequential], Any]) -> None:
    """Generators, named pairs and groups, also with generators inside, are read once and kept."""
    found = factories.adamw(params(model()))

    assert sum(len(group["params"]) for group in found.param_groups) in {3, 6}
    assert all(group["fused"] for group in found.param_groups)


@pytest.mark.parametrize("params", [[], [{"params": []}], iter(())])
def test_nothing_to_optimise_is_refused(params: Any) -> None:
    """A model without trainable parameters is told so."""
    with pytest.raises(ValueError, match="params: there is nothing to optimise"):
        read_params(params)


@pytest.mark.parametrize("options", [{"momentum": 0.0}, {"dampening": 0.5}])
def test_nesterov_needs_momentum(options: dict[str, float]) -> None:
    """The combination that torch refuses is refused with what to do."""
    with pytest.raises(ValueError, match=r"nesterov: needs momentum above 0 and no dampening.*set nesterov = false"):
        factories.sgd(model().parameters(), **options)


# --- presets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, kind, expected",
    [
        ("default", AdamW, {"lr": 1e-3, "weight_decay": 1e-4, "betas": (0.9, 0.999)}),
        ("fast_convergence", AdamW, {"lr": 3e-3, "weight_decay": 1e-4, "betas": (0.9, 0.999)}),
        ("strong_regularization", AdamW, {"lr": 1e-3, "weight_decay": 1e-3, "betas": (0.9, 0.999)}),
        ("sgd_baseline", SGD, {"lr": 1e-2, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": True}),
    ],
)
def test_presets_keep_their_values(name: str, kind: type, expected: dict[str, Any]) -> None:
    """The factory and the config of a preset say the same, and the config builds what the factory does."""
    built = getattr(presets, name)(model().parameters())
    config = getattr(OptimizerConfig, name)()
    created = create_optimizer(model_params=model().parameters(), **config)

    assert config == {"optimizer_type": kind.__name__.lower(), **expected}
    for found in (built, created):
        assert type(found) is kind
        assert {key: found.param_groups[0][key] for key in expected} == expected


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_options_too(name: str) -> None:
    """A preset's values can be changed one by one."""
    assert getattr(presets, name)(model().parameters(), lr=0.5).param_groups[0]["lr"] == 0.5


# --- groups -----------------------------------------------------------------------------------------------------


def test_biases_and_norms_do_not_decay() -> None:
    """Biases go by their name, norms by their layer's class, since in a Sequential their name is a number."""
    net = model()

    decay, no_decay = get_parameter_groups(net, 0.1, 0.2)

    assert [id(one) for one in decay["params"]] == [id(net[0].weight), id(net[3].weight)]
    assert (decay["lr"], decay["weight_decay"]) == (0.1, 0.2)
    assert len(no_decay["params"]) == 4
    assert (no_decay["lr"], no_decay["weight_decay"]) == (0.1, 0.0)


@given(st.lists(st.sampled_from(["bias", "norm", "BIAS", "weight", "0.", "nothing"]), max_size=3))
def test_groups_lose_no_parameter(words: list[str]) -> None:
    """Whatever the words, every trainable parameter is in exactly one group, in the model's order."""
    net = model()
    net[0].bias.requires_grad_(requires_grad=False)

    groups = get_parameter_groups(net, 0.1, 0.2, words)

    found = [id(one) for group in groups for one in group["params"]]
    assert sorted(found) == sorted(id(one) for one in net.parameters() if one.requires_grad)
    assert all(group["params"] for group in groups)


def test_words_match_in_any_case() -> None:
    """«BIAS» is «bias»."""
    assert len(split_parameters(model(), ["BIAS"])[1]) == 3


def test_a_matrix_in_a_norm_named_layer_decays() -> None:
    """Only vectors are exempt by their layer's class: a normalised linear layer's matrix decays."""

    class NormalisedLinear(nn.Linear):
        """A linear layer that has «norm» in its name."""

    decay, no_decay = split_parameters(nn.Sequential(NormalisedLinear(2, 2)))

    assert [one.ndim for one in decay] == [2]
    assert [one.ndim for one in no_decay] == [1]


def test_tied_parameters_are_listed_once() -> None:
    """A parameter that two layers share is optimised once."""
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.weight = first.weight

    decay, no_decay = split_parameters(nn.ModuleList([first, second]))

    assert (len(decay), len(no_decay)) == (1, 2)


def test_groups_of_several_modules_leave_settings_to_the_factory() -> None:
    """Model and loss share groups; the exempt ones keep weight_decay 0 whatever the factory's default is."""
    net, loss = model(), nn.BCEWithLogitsLoss()

    (everything,) = trainable_groups([net, loss])
    optimizer = factories.adamw(trainable_groups([net, loss], ["bias", "norm"]))

    assert len(everything["params"]) == 6
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.0]
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 4]


# --- by name ----------------------------------------------------------------------------------------------------


def test_created_optimizers_have_the_documented_defaults() -> None:
    """The functions keep the document's values, where ours differ too."""
    params = list(model().parameters())

    created = [
        create_optimizer(model_params=params),
        create_adamw_optimizer(params),
        create_sgd_optimizer(params),
        create_rmsprop_optimizer(params),
    ]

    settings = [(type(one).__name__, one.param_groups[0]["lr"], one.param_groups[0]["weight_decay"]) for one in created]
    assert settings == [("AdamW", 1e-3, 1e-4), ("AdamW", 1e-3, 1e-4), ("SGD", 1e-2, 1e-4), ("RMSprop", 1e-3, 1e-5)]
    assert (created[2].param_groups[0]["momentum"], created[2].param_groups[0]["nesterov"]) == (0.9, True)


def test_signatures_are_the_documented_ones() -> None:
    """Names, order and defaults are the document's."""
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
def test_what_cannot_be_created_is_named(arguments: dict[str, Any], message: str) -> None:
    """An unknown name or option is refused with the nearest."""
    with pytest.raises(ValueError, match=message):
        create_optimizer(**{"model_params": model().parameters(), **arguments})


def test_a_model_in_place_of_its_parameters_is_told_so() -> None:
    """As the documents' older function took one, in the first place."""
    with pytest.raises(TypeError, match=r"pass the model's parameters, model\.parameters\(\), not the model \(Seq"):
        create_optimizer("adamw", model())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected a name such as 'adamw', got Sequential; what to optimise is model_p"):
        create_optimizer(model(), "adam")  # type: ignore[arg-type]
