"""Transforms of whole batches: where the loader applies them, and the random numbers that they are given."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dovetail import Config
from dovetail.config.diagnostics import ConfigError
from dovetail.data.loader import make_loader
from dovetail.data.transforms import Normalize, fit_transforms
from dovetail.main import run
from dovetail.random import Draws
from small_runs import small


class Signals:
    """Twenty signals of eight values."""

    targets = torch.arange(20) % 2
    deterministic = True

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int):
        if not 0 <= index < len(self):
            raise IndexError(index)
        return torch.full((8,), float(index)), int(self.targets[index])


class Noise:
    """Adds noise by address to whole batches."""

    def transform_batch(self, batch, draws):
        """Return the batch with noise."""
        return {**batch, "inputs": batch["inputs"] + draws.normal("noise", tuple(batch["inputs"].shape[1:]))}


class Fitted:
    """A transform of batches that must never be fitted to samples."""

    def fit(self, samples):
        """Fail."""
        raise AssertionError("samples were made for a transform of batches")

    def transform_batch(self, batch, draws):
        """Return the batch."""
        return batch


def drawn(**options) -> dict[int, torch.Tensor]:
    """Return each sample's noisy input by its number, in epoch 3."""
    loader = make_loader(Signals(), transforms=[Noise(), Noise()], seed=5, **options)
    return dict(enumerate(torch.cat([batch["inputs"] for batch in loader.batches(3)])))


@settings(max_examples=20)
@given(st.integers(1, 20))
def test_a_sample_gets_its_own_numbers_in_any_batch(batch_size):
    """Whatever the batch size, and wherever an epoch is taken up again, the same samples come out."""
    whole = drawn(batch_size=20)
    parts = drawn(batch_size=batch_size)
    loader = make_loader(Signals(), transforms=[Noise(), Noise()], seed=5, batch_size=batch_size)
    later = torch.cat([batch["inputs"] for batch in loader.batches(3, 1)] or [torch.empty(0, 8)])

    assert all(torch.equal(whole[number], parts[number]) for number in whole)
    assert torch.equal(later, torch.stack(list(whole.values()))[batch_size:])


def test_two_transforms_and_two_epochs_draw_different_numbers():
    """Noise of two transforms does not add up to twice the same, and an epoch is not another's."""
    once = make_loader(Signals(), transforms=[Noise()], batch_size=20)
    twice = make_loader(Signals(), transforms=[Noise(), Noise()], batch_size=20)
    clean = make_loader(Signals(), batch_size=20)
    (first,), (second,), (other,), (plain,) = (
        [batch["inputs"] for batch in found]
        for found in (once.batches(1), twice.batches(1), once.batches(2), clean.batches(1))
    )

    assert not torch.allclose(second - plain, 2 * (first - plain))
    assert not torch.equal(first, other)


@pytest.mark.slow
def test_workers_change_nothing():
    """Batches that workers read are transformed alike."""
    alone = make_loader(Signals(), transforms=[Noise()], batch_size=6, shuffle=True)
    helped = make_loader(Signals(), transforms=[Noise()], batch_size=6, shuffle=True, num_workers=2)

    for epoch in (1, 2):
        pairs = zip(alone.batches(epoch, 1), helped.batches(epoch, 1), strict=True)
        assert all(torch.equal(one["inputs"], other["inputs"]) for one, other in pairs)


def test_samples_that_are_read_again_are_as_the_epoch_has_them():
    """Also those of another dataset; without what is done to whole batches only where that is asked for."""
    loader = make_loader(Signals(), batch_size=4, seed=3, transforms=[Noise()])
    first = next(iter(loader.batches(2)))
    indices = loader.indices(2, 0)

    for again in (loader, loader.over(Signals())):
        assert torch.equal(again.reread(2, indices)["inputs"], first["inputs"])
    raw = loader.reread(2, indices, whole=False)["inputs"]
    assert not torch.equal(raw, first["inputs"])
    assert torch.equal(raw, next(iter(make_loader(Signals(), batch_size=4, seed=3).batches(2)))["inputs"])


def test_a_transform_of_samples_cannot_come_later():
    """The message names it."""
    with pytest.raises(ValueError, match="move Normalize up"):
        make_loader(Signals(), transforms=[Noise(), Normalize(mean=0.0, std=1.0)])


def test_a_transform_of_batches_is_not_fitted_to_samples():
    """Neither is anything behind it."""
    fit_transforms([Fitted()], Signals())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_are_moved_before_they_are_transformed():
    """The transform works where the model is."""
    loader = make_loader(Signals(), transforms=[Noise()], batch_size=20, device=torch.device("cuda"))

    assert next(iter(loader))["inputs"].is_cuda


def test_normal_draws_are_normal():
    """Mean 0, variance 1, kurtosis 3, no correlation between neighbours, and an odd count is no different."""
    drawn = Draws(1, 1, torch.arange(4000), "x").normal("n", (51,)).double()

    assert abs(drawn.mean()) < 0.01
    assert abs(drawn.var() - 1) < 0.02
    assert abs((drawn**4).mean() - 3) < 0.1
    assert abs((drawn[:, 1:] * drawn[:, :-1]).mean()) < 0.01
    assert abs((drawn[:, 0] * drawn[:, 26]).mean()) < 0.06
    assert abs(((drawn[:, 0] ** 2 - 1) * (drawn[:, 26] ** 2 - 1)).mean()) < 0.12
    assert stats.kstest(drawn.flatten(), "norm").statistic < 0.004
    assert torch.isfinite(drawn).all()


def test_draws_for_another_use_are_independent():
    """A stream and its parts have numbers of their own."""
    draws = Draws(1, 1, torch.arange(5), "x")

    assert not torch.equal(draws.of("a").uniform("u"), draws.of("b").uniform("u"))
    assert not torch.equal(draws.uniform("u"), draws.uniform("v"))
    assert torch.equal(draws.uniform("u"), Draws(1, 1, torch.arange(5), "x").uniform("u"))


def test_a_run_uses_them_in_training_alone(tmp_path):
    """A transform from Python, of whole batches, is applied where its splits say: validation sees clean inputs."""
    seen = []

    class Looks:
        def transform_batch(self, batch, draws):
            seen.append((draws.epoch, len(batch["inputs"])))
            return batch

    config = Config.from_dict(
        {
            "run": {"name": "small"},
            "data": {"type": "digits", "split": {"limit": 40}},
            "model": {"type": "mlp", "hidden_dims": [4]},
            "loss": {"type": "cross_entropy"},
            "optimizer": {"type": "adamw"},
            "loader": {"batch_size": 10},
            "training": {"max_epochs": 2},
            "transforms": {"looks": Looks()},
            "report": {"enabled": False},
            "logging": {"console": False},
            "paths": {"output": str(tmp_path)},
        }
    )
    assert run(config.build()).status == "completed"

    assert seen[1:] == [(1, 10)] * 4 + [(2, 10)] * 4  # the first one tells the model the shape of its input


class Picky:
    """Takes batches of one shape alone."""

    def __init__(self, size: int) -> None:
        self.size = size

    def transform_batch(self, batch, draws):
        """Refuse what is of another shape."""
        if batch["inputs"].shape[-1] != self.size:
            raise ValueError(f"needs {self.size} values")
        return batch


def test_the_transform_that_refuses_the_data_is_named(tmp_path):
    """And not the data, which are as they are."""
    with pytest.raises(ConfigError, match=r"transforms\.second: needs 5 values"):
        run(small(tmp_path, transforms={"first": Picky(4), "second": Picky(5), "third": Picky(4)}))
