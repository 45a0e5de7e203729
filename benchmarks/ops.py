"""What the native ops cost, beside their floor (a copy or a read of the same bytes) and beside plain torch.

The rivals' maths are written here: torchaudio's masking (``mask_along_axis_iid`` for each mask), a form over all samples
and masks at once in the manner of NeMo's ``SpecAugmentNumba``'s plain-torch twin, ``torch.nn.utils.get_total_norm``.
Everything runs in turn, on as many threads as torch takes; medians of all rounds.

Run ``make bench-ops`` or ``python benchmarks/ops.py``.
"""
