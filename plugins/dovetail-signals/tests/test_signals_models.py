"""All networks: sizes stated in papers, errors, and learning in a run."""

from __future__ import annotations

import pytest
import torch

from dovetail import Config
from dovetail.main import run
from dovetail_signals.models.cnn1d import CNN1D
from dovetail_signals.models.cnn_lstm import CNNLSTM
from dovetail_signals.models.patch_transformer import PatchTransformer
from dovetail_signals.models.resnet1d import ResNet1D
from dovetail_signals.models.spectrogram_cnn import MultiTFRFusion, SpectrogramCNN
from dovetail_signals.models.wdcnn import WDCNN

SIGNAL_MODELS = [CNN1D, WDCNN, ResNet1D, CNNLSTM, PatchTransformer]


def test_wdcnn_has_the_papers_layers():
    """For 2048 samples: 16 filters of 64, then 32, 64, 64, 64 of 3, and 100 hidden units on 64 × 4."""
    model = WDCNN((1, 2048), num_classes=10)
    shapes = [tuple(layer.weight.shape) for layer in model.modules() if isinstance(layer, torch.nn.Conv1d)]

    assert shapes == [(16, 1, 64), (32, 16, 3), (64, 32, 3), (64, 64, 3), (64, 64, 3)]
    assert model.hidden[0].weight.shape == (100, 64 * 4)
    assert model.head.weight.shape == (10, 100)


@pytest.mark.parametrize("model", SIGNAL_MODELS)
def test_signals_of_any_length_and_channels(model):
    """Each model takes several channels, predicts classes or values, and raises for other inputs."""
    built = model((3, 600), num_classes=7)
    numbers = model((3, 600), num_outputs=2)

    assert built(torch.randn(5, 3, 600)).shape == (5, 7)
    assert numbers(torch.randn(5, 3, 600)).shape == (5, 2)
    for inputs in (torch.randn(5, 2, 600), torch.randn(5, 600), torch.zeros(5, 3, 600, dtype=torch.int64)):
        with pytest.raises(ValueError, match=r"needs floating-point inputs of shape \[batch, 3, time\]"):
            built(inputs)
    with pytest.raises(ValueError, match=r"input_shape: must be \[channels, time\]"):
        model((600,), num_classes=7)
    with pytest.raises(ValueError, match="num_classes"):
        model((3, 600))
    if model in {WDCNN, PatchTransformer}:
        with pytest.raises(ValueError, match="was built for"):
            built(torch.randn(5, 3, 700))
    else:
        assert built(torch.randn(5, 3, 777)).shape == (5, 7)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: PatchTransformer((1, 32), num_classes=2), "longer than the signals"),
        (lambda: PatchTransformer((1, 64), num_classes=2, width=10, heads=3), "must divide"),
        (lambda: ResNet1D((1, 64), num_classes=2, kernel_size=4), "must be odd"),
        (lambda: CNN1D((1, 64), num_classes=2, channels=()), "channels must be at least 1"),
        (lambda: SpectrogramCNN((1, 64), num_classes=2), r"must be \[channels, frequencies, times\]"),
        (lambda: MultiTFRFusion(num_classes=2), "at least one representation"),
        (
            lambda: MultiTFRFusion(spectra=["a"], num_classes=2, tfr_weights={"b": 1.0}),
            "unknown representation 'b'; use a",
        ),
        (lambda: MultiTFRFusion(spectra=["a"], num_classes=2, tfr_weights={"a": 0.0}), "not all 0"),
    ],
)
def test_invalid_options_raise(make, message):
    """The error names the option."""
    with pytest.raises(ValueError, match=message):
        make()


def test_fusion_is_the_weighted_mean():
    """Fused logits are the weighted mean, a weight of 0 drops a representation, and other representations raise."""
    torch.manual_seed(0)
    model = MultiTFRFusion(
        spectrograms=["a"], spectra=["b"], num_classes=3, channels=(4,), tfr_weights={"a": 3.0}
    ).eval()
    inputs = {"a": torch.randn(2, 1, 8, 9), "b": torch.randn(2, 1, 8)}
    found = model(**inputs)

    torch.testing.assert_close(found["logits"], 0.75 * found["logits_a"] + 0.25 * found["logits_b"])
    torch.testing.assert_close(model(b=inputs["b"], a=inputs["a"])["logits"], found["logits"])
    with pytest.raises(ValueError, match="needs the representations a, b, got a"):
        model(a=inputs["a"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "model, transforms",
    [
        ({"type": "signals.cnn1d"}, {}),
        ({"type": "signals.wdcnn"}, {}),
        ({"type": "signals.resnet1d", "channels": [16, 32]}, {}),
        ({"type": "signals.cnn_lstm"}, {}),
        (
            {"type": "signals.patch_transformer", "patch_size": 32},
            {"e": {"type": "signals.envelope_spectrum", "sample_rate": 2048.0}},
        ),
        ({"type": "signals.spectrogram_cnn"}, {"stft": {"type": "signals.stft", "n_fft": 256}}),
        (
            {"type": "signals.multi_tfr_fusion", "spectrograms": ["stft"], "spectra": ["envelope"]},
            {
                "tfr": {
                    "type": "signals.multi_tfr",
                    "representations": {
                        "stft": {"type": "signals.stft", "n_fft": 256},
                        "envelope": {"type": "signals.envelope_spectrum", "sample_rate": 2048.0},
                    },
                }
            },
        ),
    ],
    ids=lambda value: value.get("type", "") if isinstance(value, dict) else "",
)
def test_each_learns_in_a_run(model, transforms, tmp_path):
    """On healthy and misaligned journal bearings, each is right on most recordings of the validation split."""
    table = {
        "run": {"name": "learns", "seed": 1},
        "data": {
            "type": "signals.simulated_journal",
            "faults": ["healthy", "misalignment"],
            "recordings": 20,
            "seconds": 1.0,
            "snr_db": [10.0, 20.0],
            "window": 512,
            "split": {"validation": 0.25, "test": 0, "stratify": True},
        },
        "transforms": transforms,
        "model": model,
        "loss": {"type": "cross_entropy"},
        "optimizer": {"type": "adamw", "lr": 3e-3},
        "loader": {"batch_size": 16},
        "metrics": {"accuracy": {"type": "accuracy"}},
        "training": {"max_epochs": 12},
        "hardware": {"device": "cpu", "threads": 1},
        "report": {"enabled": False},
        "logging": {"console": False},
        "paths": {"output": str(tmp_path)},
    }
    assert run(Config.from_dict(table).build()).metrics["val_accuracy"] > 0.8
