"""Progressive resizing."""

from __future__ import annotations

import pytest
import torch

from dovetail_signals.trainers.progressive import ProgressiveResizingTrainer, ResizableSignalDataset, resize
from signals_runs import Recorder, train


def test_signals_grow_by_the_schedule(tmp_path):
    """Training and validation use the length of the epoch, the last length stays, and invalid schedules raise."""
    model = Recorder()
    train(tmp_path, model, ProgressiveResizingTrainer(schedule=[(64, 1), (128, 1)], resize_method="truncate"), epochs=3)
    lengths = [inputs.shape[-1] for _, inputs in model.seen][1:]  # the first-batch check comes before the first epoch
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
    """Interpolation keeps both ends of a line, truncation keeps the beginning, padding adds zeros."""
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


def test_a_schedule_longer_than_the_run_raises_an_alert(tmp_path):
    """Once, at the start, if signals never reach their full length."""
    for name, last in (("short", 2), ("whole", 1)):
        trainer = {"type": "signals.progressive_resizing", "schedule": [[64, last], [128, 1]]}
        train(tmp_path / name, {"type": "signals.cnn1d", "channels": [4]}, trainer)
    (alerts,) = (tmp_path / "short").rglob("alerts.jsonl")

    assert "signals reach a length of 64 and never 128: trainer.schedule reaches it in epoch 3" in alerts.read_text()
    assert not list((tmp_path / "whole").rglob("alerts.jsonl"))
