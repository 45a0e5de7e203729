"""The global random generators: seeding, saving and restoring them."""

from __future__ import annotations

import contextlib
import random

import numpy as np
import pytest
import torch

from dovetail.train.hardware import torch_settings
from dovetail.train.seeds import SEED_LIMIT, preserve_rng, rng_state, set_random_seed, set_rng_state


def draw() -> tuple[float, float, float]:
    """Draw a number from each global generator."""
    return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002, S311 (those that are seeded)


@pytest.fixture(autouse=True)
def _preserved():
    """Restore the generators and torch's settings after each test."""
    with preserve_rng(), torch_settings():
        yield


@pytest.mark.parametrize("seed", ["42", 1.5, None])
def test_a_seed_is_an_integer(seed):
    """Anything else raises; NumPy's integers are integers."""
    with pytest.raises(TypeError, match="seed must be an integer, got"):
        set_random_seed(seed)
    set_random_seed(np.int64(3))


@pytest.mark.parametrize("seed", [-1, SEED_LIMIT])
def test_a_seed_has_64_bits(seed):
    """Anything else raises."""
    with pytest.raises(ValueError, match=rf"seed must be between 0 and 2\*\*64 - 1, got {seed}"):
        set_random_seed(seed)


def test_a_seed_decides_what_every_generator_draws():
    """All its bits count, except to torch on the CPU, which takes the lower 32; a small seed is NumPy's own."""
    drawn = {}
    for seed in (3, 4, 3 + (1 << 32), SEED_LIMIT - 1):
        set_random_seed(seed)
        drawn[seed] = draw()
        set_random_seed(seed)
        assert draw() == drawn[seed]

    assert [len(set(numbers)) for numbers in zip(*drawn.values(), strict=True)] == [4, 4, 3]
    assert drawn[3][1] == np.random.RandomState(3).rand()


def test_determinism_is_switched_on_and_off():
    """The last call holds."""
    for deterministic in (True, False):
        set_random_seed(0, deterministic)
        assert torch.are_deterministic_algorithms_enabled() == deterministic
        assert torch.backends.cudnn.deterministic == deterministic


def test_a_saved_state_draws_the_same_numbers_again():
    """So does the end of a context that preserves it, also after an error."""
    state = rng_state()
    expected = draw()
    set_rng_state(state)
    assert draw() == expected

    set_rng_state(state)
    with contextlib.suppress(ZeroDivisionError), preserve_rng():
        draw()
        raise ZeroDivisionError
    assert draw() == expected
