"""The masking transforms: what they mask, where, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dovetail.data.errors import DataError
from dovetail.data.loader import make_loader
from dovetail.data.masking import SpecAugment, TimeMasking
from dovetail.data.samples import TensorSamples


def runs(hidden):
    """Return the lengths of the runs of True in a list."""
    found, before = [], False
    for masked in hidden:
        if masked:
            found = [*found[:-1], found[-1] + 1] if before else [*found, 1]
        before = masked
    return found


@given(st.integers(0, 10_000), st.integers(0, 3), st.integers(0, 3), st.sampled_from([0.0, -3.5]))
def test_spec_augment_masks_whole_bands_and_spans(seed, num_time_masks, num_freq_masks, fill):
    """Masks are at most as many and as wide as set, the same in all channels; the rest is unchanged."""
    torch.manual_seed(seed)
    inputs = torch.rand(2, 12, 30) + 1
    transform = SpecAugment(
        time_mask_param=6, freq_mask_param=3, num_time_masks=num_time_masks, num_freq_masks=num_freq_masks, fill=fill
    )

    changed, target = transform((inputs, 4))

    hidden = changed == fill
    bands, stretches = hidden[0].all(1), hidden[0].all(0)
    assert target == 4
    assert torch.equal(hidden, (bands[:, None] | stretches).expand(2, 12, 30))
    assert torch.equal(changed[~hidden], inputs[~hidden])
    assert len(runs(bands.tolist())) <= num_freq_masks
    assert sum(runs(bands.tolist())) <= 3 * num_freq_masks
    assert len(runs(stretches.tolist())) <= num_time_masks
    assert sum(runs(stretches.tolist())) <= 6 * num_time_masks


def test_spec_augment_draws_every_width():
    """By default two masks of up to 40 steps and two of up to 20 bins; both extremes occur."""
    torch.manual_seed(0)
    widths = {"bins": set(), "steps": set()}
    for _ in range(2000):
        hidden = SpecAugment()(torch.ones(60, 200)) == 0
        widths["bins"].add(int(hidden.all(1).sum()))
        widths["steps"].add(int(hidden.all(0).sum()))

    assert max(widths["bins"]) == 40 == 2 * 20
    assert 70 < max(widths["steps"]) <= 80 == 2 * 40
    assert min(widths["bins"]) == min(widths["steps"]) == 0


def test_spec_augment_fills_with_the_mean():
    """Each channel gets its own mean."""
    torch.manual_seed(1)
    inputs = torch.stack([torch.rand(8, 40), torch.rand(8, 40) + 5])

    changed = SpecAugment(time_mask_param=20, freq_mask_param=0, fill="mean")(inputs)

    hidden = changed != inputs
    assert hidden.any()
    for channel in range(2):
        torch.testing.assert_close(
            changed[channel][hidden[channel]], inputs[channel].mean().expand(int(hidden[channel].sum()))
        )


def test_masks_are_addressed_by_seed_epoch_and_sample():
    """Shuffling, batch size and workers do not change a sample's masks; epoch and seed do."""
    inputs = torch.ones(12, 16, 40)
    samples = TensorSamples(inputs, torch.arange(12), tuple("abcdefghijkl"), "digest")

    def masked(seed=3, epoch=2, **options):
        loader = make_loader(
            samples, seed=seed, transforms=[SpecAugment(time_mask_param=9, freq_mask_param=5)], **options
        )
        found = torch.empty_like(inputs)
        for batch in loader.batches(epoch):
            found[batch["targets"]] = batch["inputs"]
        return found

    plain = masked(batch_size=12)

    assert len({sample.numpy().tobytes() for sample in plain}) > 6
    assert torch.equal(plain, masked(batch_size=5, shuffle=True))
    assert torch.equal(plain, masked(batch_size=1, num_workers=1))
    assert not torch.equal(plain, masked(batch_size=12, epoch=3))
    assert not torch.equal(plain, masked(batch_size=12, seed=4))


@pytest.mark.parametrize("shape", [(50,), (3, 50), (2, 3, 50), (1,), (3, 0), (0, 3)])
def test_time_masking_masks_all_channels_alike(shape):
    """Signals may have any number of dimensions; empty signals stay empty."""
    torch.manual_seed(5)
    inputs = torch.ones(shape)

    changed = TimeMasking(mask_param=20, num_masks=2)(inputs)

    assert changed.shape == inputs.shape
    if changed.numel():
        rows = changed.reshape(-1, shape[-1])
        assert torch.equal(rows, rows[:1].expand_as(rows))
        assert len(runs((rows[0] == 0).tolist())) <= 2


def test_time_masking_draws_every_length():
    """By default one mask of up to 1,000 steps."""
    torch.manual_seed(0)
    hidden = [(TimeMasking()(torch.ones(4000)) == 0).tolist() for _ in range(300)]

    assert max(len(runs(mask)) for mask in hidden) == 1
    assert 900 < max(map(sum, hidden)) <= 1000
    assert 400 < sum(map(sum, hidden)) / 300 < 600


def test_inputs_and_options_that_cannot_be_masked_are_refused():
    """Too few dimensions, integers, too many masks."""
    with pytest.raises(DataError, match=r"needs inputs of \[frequencies, times\] or .*got shape \(8,\)"):
        SpecAugment()((torch.ones(8), 0))
    with pytest.raises(DataError, match="spec_augment needs floating-point inputs, got int64"):
        SpecAugment()((torch.ones(8, 8, dtype=torch.int64), 0))
    with pytest.raises(DataError, match="time_masking needs floating-point inputs, got bool"):
        TimeMasking()((torch.ones(8, dtype=torch.bool), 0))
    with pytest.raises(DataError, match="got a single number"):
        TimeMasking()((torch.tensor(1.0), 0))
    with pytest.raises(ValueError, match="at most 64 masks per sample, got 70"):
        SpecAugment(num_time_masks=60, num_freq_masks=10)
    with pytest.raises(ValueError, match="at most 64 masks per sample, got 65"):
        TimeMasking(num_masks=65)
