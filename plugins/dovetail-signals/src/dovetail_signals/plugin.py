"""The components for signals. This module must not import torch, so that listing components stays fast."""

from __future__ import annotations

from collections.abc import Iterator

from dovetail import Component, hookimpl

_DATA = ("deterministic", "classification")


@hookimpl
def dovetail_datasets() -> Iterator[Component]:
    """Register the datasets."""
    yield Component(
        "signals.recordings",
        "dovetail_signals.recordings:recordings",
        summary="Windows of recordings (.npz, .wav, .mat, .csv) in a metadata CSV; splits keep recordings whole.",
        traits=(*_DATA, "regression"),
        example={"path": "recordings", "target": "fault", "window": 64, "overlap": 0.5, "meta": ["rpm"]},
    )
    yield Component(
        "signals.clips",
        "dovetail_signals.clips:clips",
        summary="Windows of many short recordings, end to end in one .npz.",
        traits=(*_DATA, "regression"),
        example={"path": "clips.npz", "target": "label", "window": 64},
    )
    yield Component(
        "signals.simulated_rolling",
        "dovetail_signals.simulated:simulated_rolling",
        summary="Simulated vibration of a rolling-element bearing: impacts at its fault frequencies, slip, noise.",
        traits=_DATA,
        example={"recordings": 2, "seconds": 0.25, "window": 512, "meta": ["rpm", "severity"]},
    )
    yield Component(
        "signals.simulated_journal",
        "dovetail_signals.simulated:simulated_journal",
        summary="Simulated vibration of a journal bearing: unbalance, misalignment, oil whirl, looseness, rub.",
        traits=_DATA,
        example={"recordings": 2, "seconds": 1.0, "window": 512, "meta": ["sommerfeld"]},
    )


_SIGNAL = ("batched", "deterministic", "every_split")


@hookimpl
def dovetail_transforms() -> Iterator[Component]:
    """Register the representations and the augmentations."""
    yield Component(
        "signals.zscore",
        "dovetail_signals.tfr:ZScore",
        summary="Scale each signal to mean 0 and variance 1.",
        traits=_SIGNAL,
    )
    yield Component(
        "signals.stft",
        "dovetail_signals.tfr:STFT",
        summary="Spectrograms in decibels, by the short-time Fourier transform.",
        traits=_SIGNAL,
    )
    yield Component(
        "signals.spectrum",
        "dovetail_signals.tfr:Spectrum",
        summary="Power spectra in decibels, by Welch's method.",
        traits=_SIGNAL,
        example={"n_fft": 16},
    )
    yield Component(
        "signals.log_mel",
        "dovetail_signals.tfr:LogMel",
        summary="Log-mel spectrograms.",
        traits=_SIGNAL,
        example={"sample_rate": 12000.0},
    )
    yield Component(
        "signals.cwt",
        "dovetail_signals.tfr:CWT",
        summary="Scalograms in decibels, with the Morlet wavelet.",
        traits=_SIGNAL,
        example={"sample_rate": 12000.0},
    )
    yield Component(
        "signals.envelope_spectrum",
        "dovetail_signals.tfr:EnvelopeSpectrum",
        summary="Spectra of the envelope, which show bearing faults.",
        traits=_SIGNAL,
        example={"sample_rate": 12000.0, "band": [2000.0, 5000.0]},
    )
    yield Component(
        "signals.keep_envelope",
        "dovetail_signals.tfr:KeepEnvelope",
        summary="Store the envelope of signals in meta.signal, which physics losses read.",
        traits=_SIGNAL,
        example={"sample_rate": 12000.0},
    )
    yield Component(
        "signals.angular_resampling",
        "dovetail_signals.resampling:AngularResampling",
        summary="Resample signals by the shaft's angle: frequencies become orders.",
        traits=_SIGNAL,
        example={"sample_rate": 2000.0, "samples_per_turn": 16, "length": 8},
    )
    yield Component(
        "signals.spectral_kurtosis",
        "dovetail_signals.tfr:SpectralKurtosis",
        summary="Spectral kurtosis: the impulsiveness of each frequency.",
        traits=_SIGNAL,
    )
    yield Component(
        "signals.multi_tfr",
        "dovetail_signals.tfr:MultiTFR",
        summary="Several representations of the same signals.",
        traits=_SIGNAL,
        example={
            "representations": {
                "stft": {"type": "signals.stft"},
                "envelope": {"type": "signals.envelope_spectrum", "sample_rate": 12000.0},
            }
        },
    )
    yield Component(
        "signals.cached",
        "dovetail_signals.cache:Cached",
        summary="Cache a representation of each signal, in memory or on disk.",
        traits=_SIGNAL,
        example={"representation": {"type": "signals.cwt", "sample_rate": 12000.0}},
    )
    for name, target, summary, traits in (
        ("gaussian_noise", "GaussianNoise", "Add white noise.", ()),
        ("amplitude_scaling", "AmplitudeScaling", "Multiply each signal by a random factor.", ()),
        ("time_shift", "TimeShift", "Shift each signal circularly in time.", ()),
        ("time_masking", "TimeMasking", "Set random spans of each signal to 0.", ()),
        ("auto_augment", "AutoAugment", "Apply a random sub-policy to each signal.", ()),
        ("patch_augment", "PatchAugment", "Drop, shift, cut out, permute and jitter patches of signals.", ()),
        ("spec_augment", "SpecAugment", "Mask bands of frequency and spans of time in spectrograms.", ()),
        ("mixup", "Mixup", "Mix each sample and its label with another of its batch.", ("mixes_samples",)),
        ("cutmix", "CutMix", "Paste a span of another sample into each, and mix the labels.", ("mixes_samples",)),
    ):
        yield Component(
            f"signals.{name}",
            f"dovetail_signals.augment.transforms:{target}",
            summary=summary,
            traits=("batched", *traits),
        )
    yield Component(
        "signals.random_filter",
        "dovetail_signals.augment.machines:RandomFilter",
        summary="Filter each signal at random, as another machine would.",
        traits=("batched",),
    )
    yield Component(
        "signals.speed_perturbation",
        "dovetail_signals.augment.machines:SpeedPerturbation",
        summary="Play each signal at a random speed.",
        traits=("batched",),
    )


@hookimpl
def dovetail_models() -> Iterator[Component]:
    """Register the models."""
    yield Component(
        "signals.cnn1d",
        "dovetail_signals.models.cnn1d:CNN1D",
        summary="A convolutional network for signals.",
        example={"channels": [8, 16], "kernel_size": 5},
    )
    yield Component(
        "signals.wdcnn",
        "dovetail_signals.models.wdcnn:WDCNN",
        summary="WDCNN: a wide first kernel against noise, then small kernels.",
        example={"first_kernel": 8, "first_stride": 1, "hidden": 16},
    )
    yield Component(
        "signals.resnet1d",
        "dovetail_signals.models.resnet1d:ResNet1D",
        summary="A residual network for signals.",
        example={"channels": [8, 16], "blocks": 1},
    )
    yield Component(
        "signals.cnn_lstm",
        "dovetail_signals.models.cnn_lstm:CNNLSTM",
        summary="Convolutions, then a bidirectional LSTM.",
        example={"channels": [8, 16], "kernel_size": 5, "first_stride": 1, "hidden": 8},
    )
    yield Component(
        "signals.patch_transformer",
        "dovetail_signals.models.patch_transformer:PatchTransformer",
        summary="A transformer on patches of a signal.",
        example={"patch_size": 8, "width": 16, "depth": 1, "heads": 2},
    )
    yield Component(
        "signals.spectrogram_cnn",
        "dovetail_signals.models.spectrogram_cnn:SpectrogramCNN",
        summary="A convolutional network for spectrograms.",
        example={"channels": [8, 16]},
    )
    yield Component(
        "signals.multi_tfr_fusion",
        "dovetail_signals.models.spectrogram_cnn:MultiTFRFusion",
        summary="One network for each representation of a signal, and the weighted mean of their logits.",
        example={"spectrograms": ["stft"], "spectra": ["envelope"], "channels": [4, 8]},
    )


@hookimpl
def dovetail_trainers() -> Iterator[Component]:
    """Register the trainers."""
    yield Component(
        "signals.spectrogram",
        "dovetail_signals.trainers.spectrogram:SpectrogramTrainer",
        summary="Mask bands of frequency and spans of time in every training batch.",
        example={"use_specaugment": False},
    )
    yield Component(
        "signals.multi_tfr",
        "dovetail_signals.trainers.spectrogram:MultiTFRTrainer",
        summary="Train on several representations at once, with a weighted loss for each.",
        example={"use_specaugment": False},
    )
    yield Component(
        "signals.progressive_resizing",
        "dovetail_signals.trainers.progressive:ProgressiveResizingTrainer",
        summary="Train on short signals first and on longer ones later, by a schedule.",
        example={"schedule": [[2, 1]]},
    )
    yield Component(
        "signals.adversarial",
        "dovetail_signals.trainers.adversarial:AdversarialTrainer",
        summary="Train on each batch and its adversarial version, by the fast gradient sign method.",
    )
    yield Component(
        "signals.physics_informed",
        "dovetail_signals.trainers.physics_informed:PhysicsInformedTrainer",
        summary="Weight a loss's physics terms by a schedule and an adaptive balance.",
    )


_PHYSICS = ("deterministic", "differentiable", "classification", "soft_labels")
#: For the conformance kit, whose signals have 32 samples.
_FREQUENCIES = {"expected_freqs": {"1": [3.0], "2": [5.0]}, "sample_rate": 32, "tolerance": 0.2}


@hookimpl
def dovetail_losses() -> Iterator[Component]:
    """Register the losses."""
    yield Component(
        "signals.frequency_consistency",
        "dovetail_signals.losses.frequency:FrequencyConsistencyLoss",
        summary="Penalise the probability of classes whose fault frequencies the signal lacks.",
        traits=(*_PHYSICS, "additive", "signal_gradient"),
        example={**_FREQUENCIES, "unit": "orders", "sample_rate": 2000},
    )
    yield Component(
        "signals.sommerfeld_consistency",
        "dovetail_signals.losses.sommerfeld:SommerfeldConsistencyLoss",
        summary="Penalise a severity that does not match a journal bearing's operating conditions.",
        traits=(*_PHYSICS, "additive"),
    )
    yield Component(
        "signals.temporal_smoothness",
        "dovetail_signals.losses.temporal:TemporalSmoothnessLoss",
        summary="Penalise probabilities that change from one window of a recording to the next.",
        traits=_PHYSICS,
    )
    yield Component(
        "signals.physical_constraint",
        "dovetail_signals.losses.constraint:PhysicalConstraintLoss",
        summary="Cross-entropy and the three physical terms, in one fused op.",
        traits=(*_PHYSICS, "signal_gradient"),
        example=_FREQUENCIES,
    )


@hookimpl
def dovetail_callbacks() -> Iterator[Component]:
    """Register the pictures for the report."""
    yield Component(
        "signals.spectrogram_picture",
        "dovetail_signals.pictures.spectrogram:SpectrogramPicture",
        summary="Draw spectrograms as the network trains on them, with masks, in the report.",
    )
    yield Component(
        "signals.envelope_picture",
        "dovetail_signals.pictures.envelope:EnvelopePicture",
        summary="Draw each class's envelope spectrum with a bearing's fault frequencies in the report.",
    )
