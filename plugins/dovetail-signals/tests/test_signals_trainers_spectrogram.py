"""The trainers of spectrograms."""

from __future__ import annotations

import pytest
import torch

from dovetail_signals.trainers.spectrogram import MultiTFRTrainer, SpectrogramTrainer
from signals_runs import STFT, Recorder, train


def test_spectrograms_are_masked_in_training_only(tmp_path):
    """Training batches have masks that differ between epochs and repeat between runs; validation has none."""
    first, again = Recorder(), Recorder()
    for model in (first, again):
        train(tmp_path, model, SpectrogramTrainer(time_mask_param=8, freq_mask_param=8), transforms=STFT)
    masked = [(training, (inputs == 0).any().item()) for training, inputs in first.seen]

    assert all(training == zeros for training, zeros in masked)
    assert any(training for training, _ in masked)
    assert not all(training for training, _ in masked)
    assert all(torch.equal(inputs, other) for (_, inputs), (_, other) in zip(first.seen, again.seen, strict=True))
    zeros = [inputs == 0 for training, inputs in first.seen if training]
    assert not torch.equal(zeros[0], zeros[len(zeros) // 2])


def test_without_specaugment_nothing_is_masked(tmp_path):
    """``use_specaugment = false`` turns masking off."""
    model = Recorder()
    train(tmp_path, model, {"type": "signals.spectrogram", "use_specaugment": False}, transforms=STFT)

    assert not any((inputs == 0).any() for _, inputs in model.seen)


def test_every_representation_has_a_weighted_loss(tmp_path):
    """The loss is the weighted mean of the logged losses; a weight for an unknown representation raises."""
    tfr = {
        "tfr": {
            "type": "signals.multi_tfr",
            "representations": {
                "stft": {"type": "signals.stft", "n_fft": 64},
                "envelope": {"type": "signals.envelope_spectrum", "sample_rate": 12000.0},
            },
        }
    }
    model = {"type": "signals.multi_tfr_fusion", "spectrograms": ["stft"], "spectra": ["envelope"], "channels": [4]}
    trainer = {"type": "signals.multi_tfr", "tfr_weights": {"stft": 3.0}, "time_mask_param": 4, "freq_mask_param": 4}
    metrics = train(tmp_path, model, trainer, transforms=tfr).metrics

    assert metrics["val_loss"] == pytest.approx(0.75 * metrics["val_stft"] + 0.25 * metrics["val_envelope"])
    with pytest.raises(ValueError, match="unknown representation 'cwt'; use stft, envelope"):
        train(tmp_path, model, MultiTFRTrainer(tfr_weights={"cwt": 1.0}), transforms=tfr)
