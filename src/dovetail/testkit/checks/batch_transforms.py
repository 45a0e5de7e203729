"""Transforms of whole batches: every sample stays, and its random numbers are its own."""

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

#: Shapes of one sample's input: a signal, one with channels, a spectrogram; long enough for short windows.
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
        raise NotApplicable("it takes none of the kit's batches: see transform.takes_batches")
    return st.builds(_batch, st.sampled_from(shapes), st.integers(0, 1000))


def _problem(transform: Any, shape: tuple[int, ...]) -> str | None:
    try:
        transform.transform_batch(_batch(shape, 0), _draws(0, list(range(_SAMPLES))))
    except Exception as error:  # noqa: BLE001 (whatever it raises means that this shape does not fit)
        return f"{type(error).__name__}: {error}"
    return None


def _indices(batch: Batch) -> list[int]:
    return [17 * row + 3 for row in range(batch_size(batch))]


@check("transform", needs="batched")
def takes_batches(subject: Subject) -> None:
    """It takes a batch of signals or spectrograms, or what the author draws."""
    if subject.batches is not None:
        return
    transform: Any = subject.build()
    problems = {str(shape): _problem(transform, shape) for shape in SHAPES}
    said = "\n".join(f"  {shape}: {problem}" for shape, problem in problems.items())
    expect(
        None in problems.values(),
        f"it takes none of the kit's batches:\n{said}\nGive conformance() batches=, a strategy of batches that fit.",
    )


@check("transform", needs="batched")
def batch_is_kept(subject: Subject) -> None:
    """Every sample arrives, inputs are finite, what else is known stays, and the batch that went in is not changed."""
    transform: Any = subject.build()

    def keeps(batch: Batch, seed: int) -> None:
        before = copied(batch)
        found = transform.transform_batch(batch, _draws(seed, _indices(batch)))
        expect(same(before, batch), "the transform changed its batch in place, and so perhaps the dataset: clone first")
        expect(set(batch) <= set(found), f"a batch with {sorted(batch)} became one with {sorted(found)}")
        expect(batch_size(found) == batch_size(batch), f"{batch_size(batch)} samples became {batch_size(found)}")
        inputs = found["inputs"]
        for one in inputs.values() if isinstance(inputs, dict) else (inputs,):
            expect(len(one) == batch_size(batch), f"{batch_size(batch)} samples have {len(one)} inputs")
            expect(bool(torch.isfinite(one).all()), "its inputs are not finite")

    for_all(keeps, batch=_fitting(subject), seed=st.integers(0, 1000), share=0.2)


@check("transform", needs="batched")
def address_decides(subject: Subject) -> None:
    """The same batch with the same draws gives the same result, and the global generators are left alone."""
    transform: Any = subject.build()

    def repeats_itself(batch: Batch, seed: int) -> None:
        state = torch.get_rng_state()
        first = copied(transform.transform_batch(batch, _draws(seed, _indices(batch))))
        transform.transform_batch(batch, _draws(seed + 1, _indices(batch)))
        expect(
            same(first, transform.transform_batch(batch, _draws(seed, _indices(batch)))),
            "with the same draws the same batch came out different, so a resumed run would see other data: "
            "use draws instead of a generator, and remember nothing",
        )
        expect(torch.equal(state, torch.get_rng_state()), "it draws from torch's global generator")

    for_all(repeats_itself, batch=_fitting(subject), seed=st.integers(0, 1000), share=0.2)


@check("transform", needs="batched", unless="mixes_samples")
def sample_is_its_own(subject: Subject) -> None:
    """A sample comes out alone as it does in a batch, to rounding."""
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
                "a sample comes out of a batch other than alone: it depends on its neighbours "
                "(if that is meant, claim 'mixes_samples')",
            )

    for_all(is_its_own, batch=_fitting(subject), seed=st.integers(0, 1000), row=st.integers(0, 4), share=0.2)


@check("transform", needs="deterministic")
def whatever_is_drawn(subject: Subject) -> None:
    """Whatever the draws, the same batch gives the same result (claimed: 'deterministic')."""
    if "batched" not in subject.traits:
        raise NotApplicable("it takes samples: see transform.needs_no_randomness")
    transform: Any = subject.build()

    def draws_nothing(batch: Batch, seed: int) -> None:
        first = transform.transform_batch(batch, _draws(seed, _indices(batch)))
        expect(
            same(first, transform.transform_batch(batch, _draws(seed + 1, _indices(batch)))),
            "the result depends on what is drawn, though the trait 'deterministic' claims otherwise",
        )

    for_all(draws_nothing, batch=_fitting(subject), seed=st.integers(0, 1000), share=0.1)
