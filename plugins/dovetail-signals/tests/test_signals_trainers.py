"""The trainers: what each changes, and that it is the same in every run."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from dovetail import Config, LossResult, StandardTrainer
from dovetail.main import resume, run
from dovetail_signals.trainers.physics_informed import PhysicsInformedTrainer, ramp
from dovetail_signals.trainers.progressive import ProgressiveResizingTrainer, ResizableSignalDataset, resize
from dovetail_signals.trainers.spectrogram import MultiTFRTrainer, SpectrogramTrainer

#: Transforms that hold others, and by which options.
SEVERAL = {"kept": "representation", "several": "representations.mel.representation"}


class Constraint(nn.Module):
    """Cross-entropy, and a term of each name: how far scores are from 0, strong or weak."""

    def __init__(self):
        super().__init__()
        self.lambda_freq, self.lambda_sommerfeld, self.lambda_temporal = 1.0, 1.0, 1.0
        self.seen, self.judged = [], []

    def forward(self, outputs, batch):
        """Return the sum and its parts."""
        entropy = nn.functional.cross_entropy(outputs.logits, batch["targets"])
        term = outputs.logits.square().mean()
        factors = (self.lambda_freq, self.lambda_sommerfeld, self.lambda_temporal)
        (self.seen if self.training else self.judged).append(factors)
        total = entropy + term * (100 * factors[0] + factors[1] + 0.01 * factors[2])
        parts = {"classification": entropy, "frequency": 100 * term, "sommerfeld": term, "temporal": 0.01 * term}
        return LossResult(total, parts, len(outputs.logits))


class Watching(nn.Module):
    """Remembers what it is shown."""

    def __init__(self, channels=1):
        super().__init__()
        self.head = nn.Linear(channels, 5)
        self.seen = []

    def forward(self, inputs):
        """Return logits of the mean."""
        self.seen.append((self.training, inputs.detach().clone()))
        return self.head(inputs.flatten(2).mean(-1))


def config_of(folder, model, trainer, loss=None, *, epochs=2, transforms=None, meta=()):
    """Return a run on simulated signals."""
    table = {
        "run": {"name": "trained", "seed": 3},
        "data": {
            "type": "signals.simulated_rolling",
            "recordings": 4,
            "seconds": 0.2,
            "window": 512,
            "meta": list(meta),
            "split": {"validation": 0.25, "test": 0, "stratify": True},
        },
        "transforms": transforms or {},
        "model": model,
        "loss": loss or {"type": "cross_entropy"},
        "optimizer": {"type": "adamw"},
        "loader": {"batch_size": 16},
        "training": {"max_epochs": epochs},
        "trainer": trainer,
        "hardware": {"device": "cpu", "threads": 1},
        "report": {"enabled": False},
        "logging": {"console": False},
        "paths": {"output": str(folder)},
    }
    return Config.from_dict(table).build()


def train(*args, **options):
    """Train on simulated signals, and return the outcome."""
    return run(config_of(*args, **options)).check()


STFT = {"stft": {"type": "signals.stft", "n_fft": 64}}


def test_spectrograms_are_masked_in_training_alone(tmp_path):
    """Training sees stretches of 0, other ones each epoch and the same in every run; validation sees none."""
    first, again = Watching(), Watching()
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
    """The option turns it off."""
    model = Watching()
    train(tmp_path, model, {"type": "signals.spectrogram", "use_specaugment": False}, transforms=STFT)

    assert not any((inputs == 0).any() for _, inputs in model.seen)


def test_every_representation_has_a_weighted_loss(tmp_path):
    """The loss is the weighted mean of the representations' losses, which are logged, and a wrong name is refused."""
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
    with pytest.raises(ValueError, match="unknown representation 'cwt'; the model has stft, envelope"):
        train(tmp_path, model, MultiTFRTrainer(tfr_weights={"cwt": 1.0}), transforms=tfr)


def test_signals_grow_by_the_schedule(tmp_path):
    """Epochs see the lengths that the schedule says, validation as well, and the last one holds."""
    model = Watching()
    train(tmp_path, model, ProgressiveResizingTrainer(schedule=[(64, 1), (128, 1)], resize_method="truncate"), epochs=3)
    lengths = [inputs.shape[-1] for _, inputs in model.seen][1:]  # one batch is tried before the first epoch
    third = len(lengths) // 3

    assert lengths == [64] * third + [128] * 2 * third
    assert [ProgressiveResizingTrainer().length_in(epoch) for epoch in (1, 20, 21, 36, 46, 99)] == [
        25_600,
        25_600,
        51_200,
        76_800,
        102_400,
        102_400,
    ]
    for bad in ([], [(0, 1)], [(64, 0)]):
        with pytest.raises(ValueError, match="schedule: needs"):
            ProgressiveResizingTrainer(schedule=bad)


def test_three_ways_to_resize():
    """Interpolation keeps both ends and a straight line; truncating keeps the beginning; padding adds zeros."""
    line = torch.linspace(0, 1, 11).expand(2, 3, 11)

    torch.testing.assert_close(resize(line, 21), torch.linspace(0, 1, 21).expand(2, 3, 21))
    assert torch.equal(resize(line, 5, "truncate"), line[..., :5])
    assert torch.equal(resize(line, 13, "pad")[..., 11:], torch.zeros(2, 3, 2))
    assert resize(line, 13, "truncate").shape == resize(line, 13, "pad").shape
    assert resize(line, 11) is line
    with pytest.raises(ValueError, match="at least 1"):
        resize(line, 0)
    pairs = ResizableSignalDataset([(line[0], 1)], 5, "truncate")
    tables = ResizableSignalDataset([{"inputs": line[0], "targets": 1}], 5)
    assert len(pairs) == 1
    assert pairs[0][0].shape == tables[0]["inputs"].shape == (3, 5)
    assert pairs[0][1] == tables[0]["targets"] == 1


def test_adversarial_training_resists_the_attack(tmp_path):
    """Its two parts are logged, the changed samples being the harder ones."""
    metrics = train(
        tmp_path, {"type": "signals.cnn1d", "channels": [4, 8]}, {"type": "signals.adversarial", "epsilon": 0.05}
    ).metrics

    assert metrics["train_adversarial"] > metrics["train_clean"]
    assert metrics["train_loss"] == pytest.approx((metrics["train_clean"] + metrics["train_adversarial"]) / 2, rel=1e-4)


@pytest.mark.parametrize("schedule, half", [("linear", 0.5), ("cosine", 0.5), ("exponential", 0.0759), ("constant", 1)])
def test_schedules(schedule, half):
    """Each ends at 1, rises all the way, and is where it should be half-way."""
    values = [ramp(step / 10, schedule) for step in range(11)]

    assert values[-1] == pytest.approx(1)
    assert values == sorted(values)
    assert values[5] == pytest.approx(half, abs=1e-3)


def test_factors_follow_the_schedule(tmp_path):
    """Without balance an epoch's factors are the final ones times the schedule, and the history has them."""
    loss = Constraint()
    trainer = PhysicsInformedTrainer(lambda_freq=2.0, adaptive_lambda=False)
    train(tmp_path, {"type": "signals.cnn1d", "channels": [4]}, trainer, loss, epochs=4)

    assert [factors["freq"] for factors in trainer.history] == [0.5, 1.0, 1.5, 2.0]
    assert sorted(set(loss.seen)) == [(0.5 * n, 0.25 * n, 0.25 * n) for n in (1, 2, 3, 4)]


def test_validation_goes_by_the_final_factors(tmp_path):
    """So that losses of early and late epochs can be compared: a rising factor alone would make the first the best."""
    loss = Constraint()
    trainer = PhysicsInformedTrainer(lambda_freq=2.0)
    train(tmp_path, {"type": "signals.cnn1d", "channels": [4]}, trainer, loss, epochs=4)

    assert set(loss.judged) == {(2.0, 1.0, 1.0)}
    assert len(set(loss.seen)) == 4


def test_a_factor_that_is_not_set_is_the_losses(tmp_path):
    """What the loss leaves out with a factor of 0 stays out, unless the trainer brings it in."""
    loss = Constraint()
    loss.lambda_sommerfeld, loss.lambda_temporal = 0.0, 0.3
    trainer = PhysicsInformedTrainer(lambda_freq=2.0, adaptive_lambda=False, lambda_schedule="constant")
    train(tmp_path, {"type": "signals.cnn1d", "channels": [4]}, trainer, loss)

    assert set(loss.seen) == {(2.0, 0.0, 0.3)}


def test_a_schedule_longer_than_the_run_says_so(tmp_path):
    """Signals that never have their full length are told of once, at the beginning."""
    for name, last in (("short", 2), ("whole", 1)):
        trainer = {"type": "signals.progressive_resizing", "schedule": [[64, last], [128, 1]]}
        train(tmp_path / name, {"type": "signals.cnn1d", "channels": [4]}, trainer)
    (told,) = (tmp_path / "short").rglob("alerts.jsonl")

    assert "signals reach a length of 64 and never 128: trainer.schedule reaches it in epoch 3" in told.read_text()
    assert not list((tmp_path / "whole").rglob("alerts.jsonl"))


@pytest.mark.parametrize(
    "sections, told",
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
def test_another_sampling_rate_than_the_recordings_is_told_of(tmp_path, sections, told):
    """Frequencies would be wrong without a word; after resampling by angle the rate is another one."""
    kinds = {"angle": "signals.angular_resampling", "envelope": "signals.keep_envelope"}
    config = config_of(
        tmp_path,
        {"type": "signals.cnn1d", "channels": [4]},
        {"type": "standard"},
        {"type": "signals.frequency_consistency", "expected_freqs": {"1": [20.0]}, **sections["loss"]},
        transforms={name: {"type": kinds[name], **sections[name]} for name in kinds if name in sections},
        meta=["rpm"],
    )
    run(config).check()
    found = "".join(path.read_text() for path in tmp_path.rglob("alerts.jsonl"))

    assert (told in found) if told else (found == "")


@pytest.mark.parametrize("rate", [12000.0, 8000.0])
def test_another_sampling_rate_inside_of_a_transform_is_told_of(tmp_path, rate):
    """Of a representation that is kept, or one of several, the path leads to the option; the right rate is no news."""
    mel = {"type": "signals.log_mel", "sample_rate": rate, "n_fft": 128, "n_mels": 8}
    kept = {"type": "signals.cached", "representation": mel}
    several = {"type": "signals.multi_tfr", "representations": {"stft": {"type": "signals.stft"}, "mel": kept}}
    fusion = {"type": "signals.multi_tfr_fusion", "spectrograms": ["stft", "mel"], "channels": [4]}
    for name, transform, model, trainer in (
        ("kept", kept, {"type": "signals.spectrogram_cnn", "channels": [4]}, {"type": "standard"}),
        ("several", several, fusion, {"type": "signals.multi_tfr"}),
    ):
        run(config_of(tmp_path / name, model, trainer, epochs=1, transforms={"tfr": transform})).check()
    told = {name: "".join(path.read_text() for path in (tmp_path / name).rglob("alerts.jsonl")) for name in SEVERAL}

    for name, option in SEVERAL.items():
        expected = f"transforms.tfr.{option}.sample_rate is 8000 Hz, but the recordings have 12000 Hz"
        assert (expected in told[name]) if rate != 12000 else (told[name] == "")


@pytest.mark.parametrize("balance", ["loss_ratio", "gradient"])
def test_a_strong_term_is_turned_down_and_a_weak_one_up(balance, tmp_path):
    """The balance moves each term towards the strength of the classification, and the same run gives the same."""
    histories = []
    for _ in range(2):
        trainer = PhysicsInformedTrainer(
            lambda_freq=1.0, lambda_sommerfeld=1.0, lambda_temporal=1.0, lambda_schedule="constant", balance=balance
        )
        train(tmp_path, {"type": "signals.cnn1d", "channels": [4]}, trainer, Constraint(), epochs=3)
        histories.append(trainer.history)
    last = histories[0][-1]

    assert histories[0] == histories[1]
    assert last["freq"] < 1 < last["temporal"]
    assert all(math.isfinite(value) for value in last.values())
    other = PhysicsInformedTrainer()
    other.load_state_dict(trainer.state_dict())
    assert other.history == trainer.history


def test_a_loss_without_factors_is_told_of_once(tmp_path, caplog):
    """The warning says which loss has them."""
    train(tmp_path, {"type": "signals.cnn1d", "channels": [4]}, PhysicsInformedTrainer())
    told = [record.getMessage() for record in caplog.records if "lambda_freq" in record.getMessage()]

    assert len(told) == 1
    assert 'loss.type = "signals.physical_constraint"' in told[0]


class StopAfter:
    """Interrupts a run after an update."""

    def __init__(self, step):
        self.step = step

    def dovetail_batch_end(self, run, step):
        """Interrupt."""
        if step == self.step:
            run.request_stop("got SIGTERM", by="SIGTERM", status="interrupted")


MIXED = {
    "scale": {"type": "signals.zscore"},
    "shift": {"type": "signals.time_shift"},
    "policy": {"type": "signals.auto_augment"},
    "mix": {"type": "signals.mixup"},
}


@pytest.mark.slow
@pytest.mark.parametrize("stop", [2, 5])
@pytest.mark.parametrize(
    "case",
    [
        ({"type": "standard"}, MIXED, {"type": "signals.cnn1d", "channels": [4]}, None),
        (
            {"type": "signals.spectrogram", "time_mask_param": 8, "freq_mask_param": 8},
            STFT,
            {"type": "signals.spectrogram_cnn", "channels": [4]},
            None,
        ),
        (
            {"type": "signals.progressive_resizing", "schedule": [[64, 1], [128, 1]]},
            {},
            {"type": "signals.cnn1d", "channels": [4]},
            None,
        ),
        ({"type": "signals.physics_informed"}, {}, {"type": "signals.cnn1d", "channels": [4]}, Constraint),
        (
            {"type": "signals.physics_informed", "balance": "gradient"},
            {},
            {"type": "signals.cnn1d", "channels": [4]},
            Constraint,
        ),
    ],
    ids=["transforms", "spectrogram", "progressive", "loss_ratio", "gradient"],
)
def test_a_run_that_is_stopped_goes_on_to_the_same_bits(case, stop, tmp_path):
    """Stopped within an epoch and resumed, a run ends with the figures of one that was never stopped."""
    trainer, transforms, model, loss = case

    def config(name):
        made = None if loss is None else loss()
        return config_of(tmp_path / name, model, trainer, made, epochs=3, transforms=transforms)

    whole = run(config("whole")).check().metrics
    run(config("stopped"), listeners=[StopAfter(stop)]).check()
    (folder,) = [path for path in (tmp_path / "stopped" / "trained").iterdir() if path.is_dir()]
    resumed = resume(folder, config("stopped")).check().metrics

    assert {name: value for name, value in resumed.items() if name.startswith(("train_", "val_"))} == {
        name: value for name, value in whole.items() if name.startswith(("train_", "val_"))
    }


def test_none_of_them_overrides_fit():
    """Checkpoints, resume and budgets stay in one place."""
    for trainer in (SpectrogramTrainer, MultiTFRTrainer, ProgressiveResizingTrainer, PhysicsInformedTrainer):
        assert trainer.fit is StandardTrainer.fit
