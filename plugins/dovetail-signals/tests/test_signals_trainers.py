"""All trainers: resuming, and the seams they override."""

from __future__ import annotations

import pytest
from torch import nn

from dovetail import LossResult, StandardTrainer
from dovetail.main import resume, run
from dovetail_signals.trainers.physics_informed import PhysicsInformedTrainer
from dovetail_signals.trainers.progressive import ProgressiveResizingTrainer
from dovetail_signals.trainers.spectrogram import MultiTFRTrainer, SpectrogramTrainer
from signals_runs import STFT, rolling_config


class Constraint(nn.Module):
    """Cross-entropy plus a strong, a medium and a weak term, all multiples of the mean square of the logits."""

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


class StopAfter:
    """Interrupts a run after an update."""

    def __init__(self, step):
        self.step = step

    def dovetail_batch_end(self, run, step):
        """Request the stop."""
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
def test_a_resumed_run_is_bit_identical(case, stop, tmp_path):
    """Stopped within an epoch and resumed, a run has the metrics of an uninterrupted one."""
    trainer, transforms, model, loss = case

    def config(name):
        made = None if loss is None else loss()
        return rolling_config(tmp_path / name, model, trainer, made, epochs=3, transforms=transforms)

    whole = run(config("whole")).check().metrics
    run(config("stopped"), listeners=[StopAfter(stop)]).check()
    (folder,) = [path for path in (tmp_path / "stopped" / "trained").iterdir() if path.is_dir()]
    resumed = resume(folder, config("stopped")).check().metrics

    assert {name: value for name, value in resumed.items() if name.startswith(("train_", "val_"))} == {
        name: value for name, value in whole.items() if name.startswith(("train_", "val_"))
    }


def test_no_trainer_overrides_fit():
    """Checkpoints, resume and budgets stay in the standard trainer."""
    for trainer in (SpectrogramTrainer, MultiTFRTrainer, ProgressiveResizingTrainer, PhysicsInformedTrainer):
        assert trainer.fit is StandardTrainer.fit
