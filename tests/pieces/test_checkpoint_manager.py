"""The checkpoint manager of a loop of your own."""

from __future__ import annotations

import math

import pytest
import torch

from dovetail.checkpoint.manifest import CheckpointError
from dovetail.pieces import CheckpointManager


def trained_parts():
    """Return a model, its optimizer and a scheduler after one step."""
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.AdamW(model.parameters())
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    scheduler.step()
    return model, optimizer, scheduler


def test_documented_example(tmp_path):
    """The documents' example works: save, find the best, list the history, load into new parts."""
    saved_parts = trained_parts()
    with CheckpointManager(checkpoint_dir=str(tmp_path / "c"), keep_best_k=1, keep_last_n=1) as manager:
        saved = [
            manager.save_checkpoint(
                epoch, {"val_loss": loss, "val_accuracy": 0.8}, *saved_parts, metadata={"notes": "x"}
            )
            for epoch, loss in ((1, 0.62), (2, 0.42), (3, 0.51), (4, 0.50))
        ]
        best = manager.get_best_checkpoint()
        history = manager.get_checkpoint_history()
        fresh = trained_parts()
        loaded = manager.load_checkpoint(best, *fresh)

    assert best == saved[1].path
    assert [checkpoint.is_best for checkpoint in saved] == [True, True, False, False]
    assert history[["epoch", "val_loss", "is_best", "kept"]].to_numpy().tolist() == [
        [1, 0.62, False, False],
        [2, 0.42, True, True],
        [3, 0.51, False, False],
        [4, 0.50, False, True],
    ]
    assert (loaded.epoch, loaded.metrics["val_accuracy"], loaded.metadata) == (2, 0.8, {"notes": "x"})
    assert [loaded.is_best, manager.load_checkpoint(saved[3].path, *fresh).is_best] == [True, False]
    assert loaded.optimizer_state_size_mb > 0
    assert torch.equal(fresh[0].weight, saved_parts[0].weight)
    assert torch.equal(fresh[1].state_dict()["state"][0]["exp_avg"], saved_parts[1].state_dict()["state"][0]["exp_avg"])
    assert fresh[2].state_dict() == saved_parts[2].state_dict()
    assert manager.get_latest_checkpoint() == saved[3].path


def test_save_interval(tmp_path):
    """The manager saves every ``save_interval_epochs`` epochs, and nothing in between."""
    model, optimizer, _ = trained_parts()
    manager = CheckpointManager(tmp_path, save_interval_epochs=3)

    saved = [manager.save_checkpoint(epoch, {}, model, optimizer) for epoch in range(1, 8)]

    assert [checkpoint.epoch for checkpoint in saved if checkpoint] == [3, 6]
    assert manager.get_best_checkpoint() is None
    with pytest.raises(CheckpointError, match="this checkpoint has no state of a scheduler; it has model, optimizer"):
        manager.load_checkpoint(saved[2].path, model, scheduler=object())


def test_unknown_monitor_is_reported_once(tmp_path, caplog):
    """If the metrics lack the monitor, one message says so and suggests the nearest metric."""
    model, optimizer, _ = trained_parts()
    manager = CheckpointManager(tmp_path, monitor="val_acuracy", mode="max")
    for epoch in (1, 2):
        manager.save_checkpoint(epoch, {"val_accuracy": 0.5}, model, optimizer)

    (message,) = caplog.messages
    assert message == (
        "monitor: there is no metric 'val_acuracy', so this checkpoint cannot become the best; "
        "did you mean 'val_accuracy'?"
    )


def test_backup_in_another_folder(tmp_path):
    """The backup is complete when the manager is closed."""
    model, optimizer, _ = trained_parts()
    backup = {"drive_backup": True, "drive_backup_path": tmp_path / "drive"}
    with CheckpointManager(tmp_path / "c", **backup) as manager:
        manager.save_checkpoint(1, {"val_loss": 1.0}, model, optimizer)
    copy = tmp_path / "drive" / "c" / "step-00000001"

    assert manager.load_checkpoint(copy, model, optimizer).epoch == 1


@pytest.mark.parametrize(
    "epoch, metrics, message",
    [
        (-1, {}, "epoch must be an integer of at least 0, got -1"),
        (1.5, {}, "epoch must be an integer of at least 0, got 1.5"),
        (1, {"val_loss": 0.5, "note": "good"}, "metrics: 'note' must be a number, got 'good'"),
        (1, {"each": torch.ones(2)}, "metrics: 'each' must be a number"),
    ],
)
def test_invalid_epoch_or_metric_is_rejected(tmp_path, epoch, metrics, message):
    """An invalid epoch or metric raises an error that names it, and nothing is saved."""
    model, optimizer, _ = trained_parts()
    manager = CheckpointManager(tmp_path)

    with pytest.raises(ValueError, match=message):
        manager.save_checkpoint(epoch, metrics, model, optimizer)

    assert manager.get_latest_checkpoint() is None


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_non_finite_model_is_not_saved(tmp_path, value):
    """A NaN or infinite weight raises an error that names it, and the previous checkpoint stays the newest."""
    model, optimizer, _ = trained_parts()
    manager = CheckpointManager(tmp_path)
    saved = manager.save_checkpoint(1, {"val_loss": 1.0}, model, optimizer)
    with torch.no_grad():
        model.weight[0, 1] = value

    with pytest.raises(ValueError, match="epoch 2: weight became NaN or infinite, so this model is not saved"):
        manager.save_checkpoint(2, {"val_loss": 0.5}, model, optimizer)

    assert manager.get_latest_checkpoint() == manager.get_best_checkpoint() == saved.path


@pytest.mark.parametrize(
    "options, message",
    [
        ({"save_interval_epochs": 0}, "save_interval_epochs must be at least 1, got 0"),
        ({"drive_backup": True}, "drive_backup needs drive_backup_path"),
        ({"keep_last_n": 0}, "keep_last_n must be at least 1, got 0"),
        ({"keep_best_k": -1}, "keep_best_k must be at least 0, got -1"),
    ],
)
def test_invalid_options_are_rejected(tmp_path, options, message):
    """An invalid option raises a ValueError that names it and its value."""
    with pytest.raises(ValueError, match=message):
        CheckpointManager(tmp_path, **options)
