"""Addressed randomness: a draw depends on its address alone, not on what was drawn before it.

A generator is a stream: what a sample gets depends on the samples before it, on the batch it came in, on the
worker that drew it and on the device. An address is (seed, epoch, index, stream): the same sample in the same
epoch gets the same numbers drawn alone or in any batch, on any device, in any worker, before and after a resume.
"""

from __future__ import annotations

import hashlib
import json
import math
import operator
from collections.abc import Sequence
from typing import Final, SupportsIndex

import torch
from attrs import evolve, frozen
from torch import Tensor


def derive_seed(seed: SupportsIndex, *parts: SupportsIndex | str) -> int:
    """A seed for one use of randomness, such as the shuffle of one epoch: the same parts give the same seed.

    BLAKE2b over the parts, so that seeds of neighbouring addresses have nothing in common; pure Python.

    Args:
        seed: The run's seed, any integer.
        parts: Integers and strings that say what the seed is for. 3 and "3" are different parts.

    Returns:
        An integer in [0, 2^63), fit for `torch.Generator.manual_seed`, `numpy.random.default_rng` and
        `random.seed`.

    Raises:
        TypeError: A part is neither an integer nor a string.
    """
    return _hash("seed", seed, *parts) >> 1


def uniform(
    seed: SupportsIndex,
    epoch: SupportsIndex,
    indices: Tensor | Sequence[int],
    stream: SupportsIndex | str,
    shape: Sequence[int] = (),
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Uniform numbers in [0, 1), each a function of its address, in integer arithmetic.

    Every sample owns a SplitMix64 sequence that starts at a hash of (seed, epoch, stream, index). Position `i` of
    its row depends on `i` alone, so a longer row begins with the shorter one. The bits are the same on every
    device, in any batch, in eager and compiled code. Fit for augmentation and masks, not for cryptography.

    Args:
        seed: The run's seed, any integer.
        epoch: The epoch, any integer.
        indices: [N] indices of samples in their dataset, integers of up to 64 bits.
        stream: What the numbers are for, an integer or a name: two uses with different streams are independent.
        shape: What each sample gets; empty for one number.
        device: Where the result goes; by default where `indices` is, the CPU for a list.
        dtype: float32 (multiples of 2^-24) or float64 (multiples of 2^-53). Draw float32 also for bfloat16
            inputs: 8 bits of mantissa reach few positions, and rounding would make a 1 of the largest numbers.

    Returns:
        [N, *shape] of `dtype`.

    Raises:
        ValueError: `dtype` is neither float32 nor float64, or `indices` is not one-dimensional.
        TypeError: `indices` are not integers, or another part of the address is neither an integer nor a string.

    Source:
        Steele, Lea, Flood: Fast splittable pseudorandom number generators (OOPSLA 2014); the finaliser is Stafford's
        variant 13 of MurmurHash3's.
    """
    if dtype not in _KEPT_BITS:
        raise ValueError(f"uniform draws float32 or float64, not {dtype}; draw float32 and convert")
    kept = _KEPT_BITS[dtype]
    bits = _bits(seed, epoch, torch.as_tensor(indices, device=device), stream, math.prod(shape))
    return _shift_right(bits, 64 - kept).to(dtype).mul_(2.0**-kept).reshape(len(bits), *shape)


def _bits(
    seed: SupportsIndex, epoch: SupportsIndex, indices: Tensor, stream: SupportsIndex | str, count: int
) -> Tensor:
    """Return ``count`` int64 for each of [N] indices, each bit of them 0 or 1 alike: [N, count]."""
    if indices.ndim != 1:
        raise ValueError(f"indices must have one dimension, got shape {tuple(indices.shape)}")
    if indices.numel() and (indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool):
        raise TypeError(f"indices must be integers, got {indices.dtype}")
    key = _signed(_hash("uniform", seed, epoch, stream))
    states = _mix(indices.long() * _GAMMA + key)
    steps = torch.arange(1, count + 1, device=indices.device) * _GAMMA
    return _mix(states[:, None] + steps)


@frozen(eq=False)
class Draws:
    """The random numbers of a batch: each sample's depend on its own address alone, on any device and in any batch."""

    #: The run's seed.
    seed: int
    #: The epoch.
    epoch: int
    #: [N] int64 indices of the batch's samples in their split; where they are is where numbers are drawn.
    indices: Tensor
    #: What the numbers are for.
    stream: str = ""

    def of(self, stream: str) -> Draws:
        """Return the draws for another use of the same samples, independent of these."""
        return evolve(self, stream=f"{self.stream}/{stream}")

    def uniform(self, name: str, shape: Sequence[int] = ()) -> Tensor:
        """Return float32 numbers in [0, 1), [N, *shape]; another name gives independent ones."""
        return uniform(self.seed, self.epoch, self.indices, f"{self.stream}/{name}", shape)

    def normal(self, name: str, shape: Sequence[int] = ()) -> Tensor:
        """Return float32 numbers of the standard normal distribution, [N, *shape].

        Source:
            Box and Muller, A note on the generation of random normal deviates, Annals of Mathematical Statistics 29
            (1958), 610–611.
        """
        count, half = math.prod(shape), 1 << 31
        bits = _bits(self.seed, self.epoch, self.indices, f"{self.stream}/{name}", -(-count // 2))
        # Of 64 bits, one half makes the radius and the other the angle. 0 has no logarithm.
        radius = _shift_right(bits, 32).to(torch.float32).add_(0.5).mul_(1 / (2 * half))
        radius = radius.log_().mul_(-2).sqrt_()
        angle = bits.bitwise_and_(2 * half - 1).to(torch.float32).mul_(math.pi / half)
        both = torch.cat([torch.cos(angle).mul_(radius), torch.sin(angle).mul_(radius)], dim=1)
        return both[:, :count].reshape(len(both), *shape)


def _signed(value: int) -> int:
    """The int64 with the same 64 bits."""
    return value - (1 << 64) if value >> 63 else value


def _hash(*parts: SupportsIndex | str) -> int:
    """64 bits from an unambiguous text of the parts."""
    plain = [part if isinstance(part, str) else operator.index(part) for part in parts]
    return int.from_bytes(hashlib.blake2b(json.dumps(plain).encode(), digest_size=8).digest(), "little")


def _shift_right(bits: Tensor, count: int) -> Tensor:
    """A logical shift: int64's own copies the sign bit."""
    return (bits >> count).bitwise_and_((1 << (64 - count)) - 1)


def _mix(bits: Tensor) -> Tensor:
    """The finaliser: a bijection of 64 bits in which each input bit changes half of the output bits.

    int64 products wrap around modulo 2^64 in torch on every device, and so have the bits of the unsigned product.
    """
    # In place from the first result on: memory for each of the others would take longer than the arithmetic.
    mixed = (bits ^ _shift_right(bits, 30)).mul_(_MULTIPLIER_1)
    mixed.bitwise_xor_(_shift_right(mixed, 27)).mul_(_MULTIPLIER_2)
    return mixed.bitwise_xor_(_shift_right(mixed, 31))


_GAMMA: Final = _signed(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, odd
_MULTIPLIER_1: Final = _signed(0xBF58476D1CE4E5B9)
_MULTIPLIER_2: Final = _signed(0x94D049BB133111EB)

_KEPT_BITS: Final = {torch.float32: 24, torch.float64: 53}
