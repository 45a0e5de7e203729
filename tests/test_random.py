"""Tests of dovetail.random."""

from __future__ import annotations

import math
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dovetail.random import Draws, derive_seed, uniform

INT64 = st.integers(-(2**63), 2**63 - 1)
STREAMS = st.one_of(st.integers(), st.text(max_size=10))
MASK = 2**64 - 1


def reference(key: int, index: int, position: int) -> int:
    """Return SplitMix64 bits computed with Python's unbounded integers."""

    def mix(bits: int) -> int:
        bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 & MASK
        bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB & MASK
        return bits ^ (bits >> 31)

    gamma = 0x9E3779B97F4A7C15
    return mix(mix(index * gamma + key & MASK) + (position + 1) * gamma & MASK)


def key_of(seed: int, epoch: int, stream: int | str) -> int:
    """Return the 64-bit key of an address without its index."""
    from dovetail.random import _hash

    return _hash("uniform", seed, epoch, stream)


@given(seed=st.integers(), epoch=st.integers(), index=INT64, stream=STREAMS)
def test_bits_agree_with_unbounded_integers(seed: int, epoch: int, index: int, stream: int | str) -> None:
    """Wrapping int64 arithmetic gives the bits of SplitMix64 for every address."""
    drawn = uniform(seed, epoch, [index], stream, (3,), dtype=torch.float64)

    key = key_of(seed, epoch, stream)
    expected = [(reference(key, index, position) >> 11) * 2.0**-53 for position in range(3)]

    assert drawn.tolist() == [expected]


def test_known_values() -> None:
    """The numbers of an address are the same in all versions, because recorded runs depend on them."""
    drawn = uniform(42, 3, [0, 1, 1_000_000], "mask.time", (2,))

    assert (drawn * 2**24).long().tolist() == [
        [7245880, 6200072],
        [3609681, 9343992],
        [13742544, 11054872],
    ]
    assert derive_seed(42, "shuffle", 3) == 144630504763428508


@given(
    indices=st.lists(INT64, min_size=1, max_size=20),
    shape=st.lists(st.integers(0, 4), max_size=3),
    data=st.data(),
)
def test_a_sample_gets_the_same_numbers_alone_and_in_any_batch(
    indices: list[int], shape: list[int], data: st.DataObject
) -> None:
    """The numbers do not depend on batch size, order or the other samples."""
    position = data.draw(st.integers(0, len(indices) - 1))

    together = uniform(1, 2, indices, "x", shape)
    alone = uniform(1, 2, [indices[position]], "x", shape)

    assert together.shape == (len(indices), *shape)
    assert torch.equal(together[position], alone[0])


def test_a_longer_row_starts_with_the_shorter_one() -> None:
    """Position i of a row depends only on i."""
    assert torch.equal(uniform(1, 2, [7], "x", (100,))[:, :10], uniform(1, 2, [7], "x", (10,)))


def test_other_processes_draw_the_same_numbers() -> None:
    """Addresses do not depend on Python's randomised hash."""
    program = (
        "from dovetail.random import derive_seed, uniform;"
        "print(uniform(5, 6, [7], 'stream', (4,)).tolist(), derive_seed(1, 'a', 2))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == f"{uniform(5, 6, [7], 'stream', (4,)).tolist()} {derive_seed(1, 'a', 2)}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_are_uniform(dtype: torch.dtype) -> None:
    """Draws pass Kolmogorov–Smirnov and chi-square tests, and are never 1."""
    drawn = uniform(0, 0, range(2000), "uniformity", (100,), dtype=dtype).flatten()

    assert stats.kstest(drawn.double().numpy(), "uniform").pvalue > 1e-3
    counts = torch.histc(drawn.double(), bins=1000, min=0, max=1).numpy()
    assert stats.chisquare(counts).pvalue > 1e-3
    assert 0 <= drawn.min() < drawn.max() < 1


def test_every_bit_is_fair() -> None:
    """Each of the 24 bits of a float32 draw is set in half of the draws, within five standard deviations."""
    drawn = (uniform(0, 0, range(100_000), "bits") * 2**24).long()

    for bit in range(24):
        fraction = ((drawn >> bit) & 1).double().mean().item()
        assert abs(fraction - 0.5) < 5 * 0.5 / math.sqrt(len(drawn)), bit


ADDRESSES = {
    "seed": lambda n: torch.cat([uniform(seed, 0, [0], "s") for seed in range(n)]),
    "epoch": lambda n: torch.cat([uniform(0, epoch, [0], "s") for epoch in range(n)]),
    "index": lambda n: uniform(0, 0, range(n), "s"),
    "stream": lambda n: torch.cat([uniform(0, 0, [0], stream) for stream in range(n)]),
    "position": lambda n: uniform(0, 0, [0], "s", (n,))[0],
}


@pytest.mark.parametrize("part", ADDRESSES)
def test_neighbouring_addresses_are_independent(part: str) -> None:
    """Consecutive values of any part of an address give uniform numbers, and uniform pairs."""
    drawn = ADDRESSES[part](4000).double().numpy()

    assert stats.kstest(drawn, "uniform").pvalue > 1e-3
    pairs = (drawn[:-1] * 8).astype(int) * 8 + (drawn[1:] * 8).astype(int)
    assert stats.chisquare([(pairs == cell).sum() for cell in range(64)]).pvalue > 1e-3


OTHER_ADDRESSES = {
    "seed": lambda indices: uniform(1, 0, indices, "s"),
    "epoch": lambda indices: uniform(0, 1, indices, "s"),
    "index": lambda indices: uniform(0, 0, [index + 1 for index in indices], "s"),
    "stream": lambda indices: uniform(0, 0, indices, "t"),
    "number of the stream": lambda indices: uniform(0, 0, indices, 0),
    "position": lambda indices: uniform(0, 0, indices, "s", (2,))[:, 1],
}


@pytest.mark.parametrize("part", OTHER_ADDRESSES)
def test_draws_of_two_addresses_are_independent(part: str) -> None:
    """Draws of 100,000 pairs of addresses that differ in one part are uniform pairs without correlation."""
    indices = range(100_000)
    first = uniform(0, 0, indices, "s").double().numpy()
    second = OTHER_ADDRESSES[part](indices).double().numpy()

    cells = (first * 32).astype(int) * 32 + (second * 32).astype(int)
    assert stats.chisquare(np.bincount(cells, minlength=1024)).pvalue > 1e-3
    assert stats.spearmanr(first, second).pvalue > 1e-3
    # Nor are single bits correlated: each of the 24 agrees in half of the draws, within five standard deviations.
    same = ~((first * 2**24).astype(np.int64) ^ (second * 2**24).astype(np.int64))
    fractions = [((same >> bit) & 1).mean() for bit in range(24)]
    assert max(abs(fraction - 0.5) for fraction in fractions) < 5 * 0.5 / math.sqrt(len(first))


def test_parts_of_an_address_are_not_mixed_up() -> None:
    """Swapped parts, and a name that looks like a number, give other numbers."""
    draws = [
        uniform(1, 2, [3], "4"),
        uniform(2, 1, [3], "4"),
        uniform(1, 3, [2], "4"),
        uniform(1, 2, [3], 4),
    ]

    assert len({draw.item() for draw in draws}) == len(draws)


def test_an_index_never_collides_within_a_stream() -> None:
    """The first hash is a bijection of the index."""
    drawn = uniform(0, 0, range(100_000), "s", dtype=torch.float64)

    assert len(drawn.unique()) == 100_000


def test_global_generators_do_not_advance() -> None:
    """Drawing does not use torch's global generator."""
    before = torch.get_rng_state()

    uniform(0, 0, [1, 2], "s", (3,))

    assert torch.equal(torch.get_rng_state(), before)


def test_an_empty_batch_is_an_empty_tensor() -> None:
    """Without indices, the result has no rows."""
    assert uniform(0, 0, [], "s", (2, 3)).shape == (0, 2, 3)


def test_a_sample_may_have_no_numbers() -> None:
    """The result keeps a shape with a zero."""
    assert uniform(0, 0, [1, 2], "s", (2, 0)).shape == (2, 2, 0)


def test_invalid_arguments_are_errors() -> None:
    """16-bit dtypes, float indices, two-dimensional indices and a float epoch are errors."""
    with pytest.raises(ValueError, match="draw float32 and convert"):
        uniform(0, 0, [1], "s", dtype=torch.bfloat16)
    with pytest.raises(TypeError, match=r"must be integers, got torch\.float32"):
        uniform(0, 0, torch.tensor([1.0]), "s")
    with pytest.raises(ValueError, match=r"one dimension, got shape \(1, 1\)"):
        uniform(0, 0, torch.tensor([[1]]), "s")
    with pytest.raises(TypeError):
        uniform(0, 1.5, [1], "s")


@given(seed=st.integers(), parts=st.lists(STREAMS, max_size=4))
def test_derived_seeds_fit_every_generator(seed: int, parts: list[int | str]) -> None:
    """A derived seed is a non-negative int64 and always the same."""
    derived = derive_seed(seed, *parts)

    assert 0 <= derived < 2**63
    assert derived == derive_seed(seed, *parts)
    torch.Generator().manual_seed(derived)


def test_derived_seeds_distinguish_their_parts() -> None:
    """Joined, swapped and converted parts give other seeds."""
    seeds = [
        derive_seed(1, "ab"),
        derive_seed(1, "a", "b"),
        derive_seed(1, "b", "a"),
        derive_seed(1, 2),
        derive_seed(12),
        derive_seed(1, "2"),
    ]

    assert len(set(seeds)) == len(seeds)


@pytest.mark.slow
def test_compiled_code_draws_the_same_numbers() -> None:
    """torch.compile preserves the wrap-around of int64."""
    from dovetail.random import _mix

    indices = torch.arange(-1000, 1000) * 9_000_000_000_000_000

    assert torch.equal(torch.compile(_mix, fullgraph=True)(indices), _mix(indices))
    assert torch.equal(torch.compile(uniform)(3, 4, indices, "s", (5,)), uniform(3, 4, indices, "s", (5,)))


@pytest.mark.slow
def test_drawing_is_fast() -> None:
    """Drawing two numbers for 256 samples takes less than a millisecond."""
    indices = torch.arange(256)
    times = []
    for _ in range(200):
        start = time.perf_counter()
        uniform(0, 0, indices, "s", (2,))
        times.append(time.perf_counter() - start)

    assert min(times) < 1e-3


def test_normal_draws_are_normal():
    """Mean 0, variance 1, kurtosis 3, and neighbours do not correlate, also for an odd count."""
    drawn = Draws(1, 1, torch.arange(4000), "x").normal("n", (51,)).double()

    assert abs(drawn.mean()) < 0.01
    assert abs(drawn.var() - 1) < 0.02
    assert abs((drawn**4).mean() - 3) < 0.1
    assert abs((drawn[:, 1:] * drawn[:, :-1]).mean()) < 0.01
    assert abs((drawn[:, 0] * drawn[:, 26]).mean()) < 0.06
    assert abs(((drawn[:, 0] ** 2 - 1) * (drawn[:, 26] ** 2 - 1)).mean()) < 0.12
    assert stats.kstest(drawn.flatten(), "norm").statistic < 0.004
    assert torch.isfinite(drawn).all()


def test_draws_of_different_streams_are_independent():
    """Each stream, and each part of one, has its own numbers."""
    draws = Draws(1, 1, torch.arange(5), "x")

    assert not torch.equal(draws.of("a").uniform("u"), draws.of("b").uniform("u"))
    assert not torch.equal(draws.uniform("u"), draws.uniform("v"))
    assert torch.equal(draws.uniform("u"), Draws(1, 1, torch.arange(5), "x").uniform("u"))
