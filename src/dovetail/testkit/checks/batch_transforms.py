"""Transforms of whole batches: they keep every sample and draw its random numbers by address."""

from __future__ import annotations

from typing import Any, Final

import torch
from hypothesis import strategies as st

from dovetail.data.batch import Batch, batch_size, map_tensors
from dovetail.random import Draws
from dovetail.testkit.properties import for_all
from dovetail.testkit.provide import NUM_CLASSES
from dovetail.testkit.registry import NotApplicable, check, expect
from dovetail.testkit.samples import copied, same
from dovetail.testkit.subject import Subject

#: Shapes of one sample's input: signals with one and two channels, spectrograms with and without a channel.
SHAPES: Final = ((1, 4096), (2, 4096), (1, 64, 64), (64, 64))
_SAMPLES: Final = 5


def _batch(shape: tuple[int, ...], seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        inputs=torch.randn(_SAMPLES, *shape, generator=generator),
        targets=torch.randint(NUM_CLASSES, (_SAMPLES,), generator=generator),
        meta={"rpm": torch.full((_SAMPLES,), 1800.0)},
    )


def _draws(seed: int, indices: list[int]) -> Draws:
    return Draws(seed, 1, torch.tensor(indices), "kit")


def _fitting(subject: Subject) -> st.SearchStrategy[Batch]:
    if subject.batches is not None:
        return subject.batches
    transform: Any = subject.build()
    shapes = [shape for shape in SHAPES if _problem(transform, shape) is None]
    if not shapes:
        raise NotApplicable("it accepts none of the kit's batches; see transform.takes_batches")
    return st.builds(_batch, st.sampled_from(shapes), st.integers(0, 1000))


def _problem(transform: Any, shape: tuple[int, ...]) -> str | None:
    try:
        transform.transform_batch(_batch(shape, 0), _draws(0, list(range(_SAMPLES))))
    except Exception as error:  # noqa: BLE001 (any exception means that the shape does not fit)
        return f"{type(error).__name__}: {error}"
    return None


def _indices(batch: Batch) -> list[int]:
    return [17 * row + 3 for row in range(batch_size(batch))]


@check("transform", needs="batched")
def takes_batches(subject: Subject) -> None:
    """It accepts a batch of signals or spectrograms, or the author's batches."""
    if subject.batches is not None:
        return
    transform: Any = subject.build()
    problems = {str(shape): _problem(transform, shape) for shape in SHAPES}
    errors = "\n".join(f"  {shape}: {problem}" for shape, problem in problems.items())
    expect(
        None in problems.values(),
        f"it accepts none of the kit's batches:\n{errors}\nPass conformance() a strategy of batches that fit, "
        "batches=.",
    )


@check("transform", needs="batched")
def batch_is_kept(subject: Subject) -> None:
    """The result has every sample and key, its inputs are finite, and the input batch is unchanged."""
    transform: Any = subject.build()

    def keeps(batch: Batch, seed: int) -> None:
        before = copied(batch)
        result = transform.transform_batch(batch, _draws(seed, _indices(batch)))
        expect(same(before, batch), "it changed its batch in place, which may change the dataset; clone first")
        expect(set(batch) <= set(result), f"it turned a batch with {sorted(batch)} into one with {sorted(result)}")
        expect(
            batch_size(result) == batch_size(batch), f"it turned {batch_size(batch)} samples into {batch_size(result)}"
        )
        inputs = result["inputs"]
        for tensor in inputs.values() if isinstance(inputs, dict) else (inputs,):
            expect(
                len(tensor) == batch_size(batch), f"it returned {len(tensor)} inputs for {batch_size(batch)} samples"
            )
            expect(bool(torch.isfinite(tensor).all()), "it returned inputs that are not finite")

    for_all(keeps, batch=_fitting(subject), seed=st.integers(0, 1000), fraction=0.2)


@check("transform", needs="batched")
def address_decides(subject: Subject) -> None:
    """The same batch with the same draws gives the same result, and the global generators do not advance."""
    transform: Any = subject.build()

    def repeats_itself(batch: Batch, seed: int) -> None:
        state = torch.get_rng_state()
        first = copied(transform.transform_batch(batch, _draws(seed, _indices(batch))))
        transform.transform_batch(batch, _draws(seed + 1, _indices(batch)))
        expect(
            same(first, transform.transform_batch(batch, _draws(seed, _indices(batch)))),
            "the same batch with the same draws gave another result, so a resumed run would train on other data; "
            "use draws instead of a generator, and keep no state",
        )
        expect(torch.equal(state, torch.get_rng_state()), "it draws from torch's global generator; use draws instead")

    for_all(repeats_itself, batch=_fitting(subject), seed=st.integers(0, 1000), fraction=0.2)


@check("transform", needs="batched", unless="mixes_samples")
def sample_is_its_own(subject: Subject) -> None:
    """A sample gives the same result alone and in a batch, up to rounding."""
    transform: Any = subject.build()

    def is_its_own(batch: Batch, seed: int, row: int) -> None:
        indices = _indices(batch)
        row %= len(indices)
        whole = transform.transform_batch(batch, _draws(seed, indices))["inputs"]
        alone = transform.transform_batch(
            map_tensors(batch, lambda tensor: tensor[row : row + 1]), _draws(seed, indices[row : row + 1])
        )["inputs"]
        pairs = [(whole[name], alone[name]) for name in whole] if isinstance(whole, dict) else [(whole, alone)]
        for together, single in pairs:
            expect(
                torch.allclose(together[row : row + 1], single, rtol=1e-4, atol=1e-5),
                "the result for a sample depends on the other samples of its batch; if this is intended, add the trait "
                "'mixes_samples'",
            )

    for_all(is_its_own, batch=_fitting(subject), seed=st.integers(0, 1000), row=st.integers(0, 4), fraction=0.2)


@check("transform", needs="deterministic")
def whatever_is_drawn(subject: Subject) -> None:
    """The same batch gives the same result with any draws (claimed: 'deterministic')."""
    if "batched" not in subject.traits:
        raise NotApplicable("it takes samples, not batches; see transform.needs_no_randomness")
    transform: Any = subject.build()

    def draws_nothing(batch: Batch, seed: int) -> None:
        first = transform.transform_batch(batch, _draws(seed, _indices(batch)))
        expect(
            same(first, transform.transform_batch(batch, _draws(seed + 1, _indices(batch)))),
            "the result depends on the draws, but the trait 'deterministic' claims otherwise",
        )

    for_all(draws_nothing, batch=_fitting(subject), seed=st.integers(0, 1000), fraction=0.1)
