"""Addressed random numbers: a draw depends only on its address, not on earlier draws.

The numbers from a generator depend on everything drawn before: earlier samples, the batch, the worker and the device.
The numbers of an address (seed, epoch, index, stream) do not: a sample gets the same numbers in an epoch alone or in
any batch, on any device, in any worker, before and after a resume.
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
    """Return a seed for one use of random numbers, such as the shuffle of one epoch.

    The same arguments always give the same seed. It is a BLAKE2b hash, so seeds of neighbouring addresses are
    independent; pure Python.

    Args:
        seed: The run's seed, any integer.
        parts: Integers and strings that identify the use. 3 and "3" are different parts.

    Returns:
        An integer in [0, 2^63), valid for `torch.Generator.manual_seed`, `numpy.random.default_rng` and
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
    """Return uniform numbers in [0, 1) that depend only on their address.

    Every sample has a SplitMix64 sequence that starts at a hash of (seed, epoch, stream, index). Position `i` of
    its row depends only on `i`, so a longer row starts with the shorter one. Integer arithmetic makes the bits the
    same on every device, in any batch, in eager and compiled code. For augmentation and masks, not for cryptography.

    Args:
        seed: The run's seed, any integer.
        epoch: The epoch, any integer.
        indices: [N] indices of samples in their dataset, integers of up to 64 bits.
        stream: The use of the numbers, an integer or a name; different streams are independent.
        shape: The shape per sample; empty for one number.
        device: The device of the result; by default that of `indices`, the CPU for a list.
        dtype: float32 (multiples of 2^-24) or float64 (multiples of 2^-53). For bfloat16 inputs, draw
            float32 too: 8 bits of mantissa give few distinct positions, and the largest numbers would round to 1.

    Returns:
        [N, *shape] of `dtype`.

    Raises:
        ValueError: `dtype` is neither float32 nor float64, or `indices` is not one-dimensional.
        TypeError: `indices` are not integers, or another part of the address is neither an integer nor a string.

    Source:
        Steele, Lea, Flood: Fast splittable pseudorandom number generators (OOPSLA 2014), with variant 13 of Stafford's
        finalisers for MurmurHash3.
    """
    if dtype not in _KEPT_BITS:
        raise ValueError(f"uniform draws float32 or float64, not {dtype}; draw float32 and convert")
    kept = _KEPT_BITS[dtype]
    bits = _bits(seed, epoch, torch.as_tensor(indices, device=device), stream, math.prod(shape))
    return _shift_right(bits, 64 - kept).to(dtype).mul_(2.0**-kept).reshape(len(bits), *shape)


def _bits(
    seed: SupportsIndex, epoch: SupportsIndex, indices: Tensor, stream: SupportsIndex | str, count: int
) -> Tensor:
    """Return [N, count] int64 of uniform bits for [N] indices."""
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
    """The random numbers of a batch. Those of a sample depend only on its address, not on device or batch."""

    #: The run's seed.
    seed: int
    #: The epoch.
    epoch: int
    #: [N] int64 indices of the batch's samples in their split; numbers are drawn on their device.
    indices: Tensor
    #: The use of the numbers.
    stream: str = ""

    def of(self, stream: str) -> Draws:
        """Return independent draws for another use of the same samples."""
        return evolve(self, stream=f"{self.stream}/{stream}")

    def uniform(self, name: str, shape: Sequence[int] = ()) -> Tensor:
        """Return uniform float32 numbers in [0, 1), [N, *shape]; different names are independent."""
        return uniform(self.seed, self.epoch, self.indices, f"{self.stream}/{name}", shape)

    def normal(self, name: str, shape: Sequence[int] = ()) -> Tensor:
        """Return standard normal float32 numbers, [N, *shape]; different names are independent.

        Source:
            Box and Muller, A note on the generation of random normal deviates, Annals of Mathematical Statistics 29
            (1958), 610–611.
        """
        count, half = math.prod(shape), 1 << 31
        bits = _bits(self.seed, self.epoch, self.indices, f"{self.stream}/{name}", -(-count // 2))
        # The upper 32 bits give the radius and the lower 32 the angle. Adding 0.5 avoids the logarithm of 0.
        radius = _shift_right(bits, 32).to(torch.float32).add_(0.5).mul_(1 / (2 * half))
        radius = radius.log_().mul_(-2).sqrt_()
        angle = bits.bitwise_and_(2 * half - 1).to(torch.float32).mul_(math.pi / half)
        both = torch.cat([torch.cos(angle).mul_(radius), torch.sin(angle).mul_(radius)], dim=1)
        return both[:, :count].reshape(len(both), *shape)


def _signed(value: int) -> int:
    """Return the int64 with the same 64 bits."""
    return value - (1 << 64) if value >> 63 else value


def _hash(*parts: SupportsIndex | str) -> int:
    """Return a 64-bit hash of the parts in an unambiguous encoding."""
    plain = [part if isinstance(part, str) else operator.index(part) for part in parts]
    return int.from_bytes(hashlib.blake2b(json.dumps(plain).encode(), digest_size=8).digest(), "little")


def _shift_right(bits: Tensor, count: int) -> Tensor:
    """Shift logically; the shift of int64 copies the sign bit."""
    return (bits >> count).bitwise_and_((1 << (64 - count)) - 1)


def _mix(bits: Tensor) -> Tensor:
    """Apply the finaliser, a bijection of 64 bits: each input bit changes half of the output bits on average.

    In torch, int64 products wrap around modulo 2^64 on every device, so they have the bits of the unsigned product.
    """
    # Later operations work in place: allocating each result would take longer than the arithmetic.
    mixed = (bits ^ _shift_right(bits, 30)).mul_(_MULTIPLIER_1)
    mixed.bitwise_xor_(_shift_right(mixed, 27)).mul_(_MULTIPLIER_2)
    return mixed.bitwise_xor_(_shift_right(mixed, 31))


_GAMMA: Final = _signed(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, odd
_MULTIPLIER_1: Final = _signed(0xBF58476D1CE4E5B9)
_MULTIPLIER_2: Final = _signed(0x94D049BB133111EB)

_KEPT_BITS: Final = {torch.float32: 24, torch.float64: 53}
