"""The check of sampling rates."""

from __future__ import annotations

import pytest

from dovetail.main import run
from signals_runs import rolling_config

#: Transforms with others inside, and the path of the inner option.
SEVERAL = {"kept": "representation", "several": "representations.mel.representation"}


@pytest.mark.parametrize(
    "sections, expected",
    [
        ({"loss": {"sample_rate": 20480}}, "loss.sample_rate is 20480 Hz, but the recordings have 12000 Hz"),
        ({"loss": {"sample_rate": 12000}}, ""),
        (
            {"loss": {"sample_rate": 12000}, "envelope": {"sample_rate": 10000.0}},
            "transforms.envelope.sample_rate is 10000 Hz, but the recordings have 12000 Hz",
        ),
        ({"loss": {"sample_rate": 64}, "angle": {"sample_rate": 12000.0, "samples_per_turn": 64, "length": 64}}, ""),
    ],
    ids=["loss", "right", "transform", "turns"],
)
def test_a_wrong_sample_rate_raises_an_alert(tmp_path, sections, expected):
    """In a loss or a transform, but not after resampling by angle, where the rate has another unit."""
    kinds = {"angle": "signals.angular_resampling", "envelope": "signals.keep_envelope"}
    config = rolling_config(
        tmp_path,
        {"type": "signals.cnn1d", "channels": [4]},
        {"type": "standard"},
        {"type": "signals.frequency_consistency", "expected_freqs": {"1": [20.0]}, **sections["loss"]},
        transforms={name: {"type": kinds[name], **sections[name]} for name in kinds if name in sections},
        meta=["rpm"],
    )
    run(config).check()
    found = "".join(path.read_text() for path in tmp_path.rglob("alerts.jsonl"))

    assert (expected in found) if expected else (found == "")


@pytest.mark.parametrize("rate", [12000.0, 8000.0])
def test_a_wrong_sample_rate_inside_a_transform_raises_an_alert(tmp_path, rate):
    """The alert has the path of the option in a cached or combined representation; the right rate gives none."""
    mel = {"type": "signals.log_mel", "sample_rate": rate, "n_fft": 128, "n_mels": 8}
    kept = {"type": "signals.cached", "representation": mel}
    several = {"type": "signals.multi_tfr", "representations": {"stft": {"type": "signals.stft"}, "mel": kept}}
    fusion = {"type": "signals.multi_tfr_fusion", "spectrograms": ["stft", "mel"], "channels": [4]}
    for name, transform, model, trainer in (
        ("kept", kept, {"type": "signals.spectrogram_cnn", "channels": [4]}, {"type": "standard"}),
        ("several", several, fusion, {"type": "signals.multi_tfr"}),
    ):
        run(rolling_config(tmp_path / name, model, trainer, epochs=1, transforms={"tfr": transform})).check()
    alerts = {name: "".join(path.read_text() for path in (tmp_path / name).rglob("alerts.jsonl")) for name in SEVERAL}

    for name, option in SEVERAL.items():
        expected = f"transforms.tfr.{option}.sample_rate is 8000 Hz, but the recordings have 12000 Hz"
        assert (expected in alerts[name]) if rate != 12000 else (alerts[name] == "")
