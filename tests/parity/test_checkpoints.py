"""The documents' checkpoint manager against ours: tests/parity/checkpoints.toml, and the behaviour they describe."""

from __future__ import annotations

import importlib
import inspect
import math
from operator import attrgetter
from pathlib import Path
from typing import Any

import attrs
import pytest
import tomli
import torch

from dovetail import CheckpointManager
from dovetail.checkpoint.manifest import CheckpointError
from dovetail.config.schema import RunConfig

TABLE: dict[str, Any] = tomli.loads((Path(__file__).parent / "checkpoints.toml").read_text())


def named(table):
    """Parametrise over the entries of a table."""
    return pytest.mark.parametrize("entry", TABLE[table], ids=[f"{one['id']}-{one['name']}" for one in TABLE[table]])


@named("python")
def test_a_documented_name_takes_what_is_documented(entry):
    """Parameters in their order, with their defaults; records with their fields."""
    module, _, path = entry["ours"].partition(":")
    found = attrgetter(path)(importlib.import_module(module))
    if "fields" in entry:
        assert [one.name for one in attrs.fields(found)][: len(entry["fields"])] == entry["fields"]
        return
    parameters = inspect.signature(found).parameters
    taken = [one for one in parameters if one != "self"]

    assert taken[: len(entry["takes"])] == entry["takes"]
    for name, default in entry.get("defaults", {}).items():
        assert parameters[name].default == (None if default == "@none" else default)


@named("setting")
def test_a_documented_setting_is_ours(entry):
    """It is in a section of the run file, with the documented default."""
    section, _, name = entry["ours"].partition(".")
    built = inspect.get_annotations(RunConfig, eval_str=True)[section]()

    assert hasattr(built, name)
    assert getattr(built, name) == entry.get("value", getattr(built, name))


def parts():
    """Return a model, its optimizer and a scheduler, after one step."""
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.AdamW(model.parameters())
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    scheduler.step()
    return model, optimizer, scheduler


def test_the_documents_example(tmp_path):
    """Saving, the best, the history, loading back into new parts."""
    saved_parts = parts()
    with CheckpointManager(checkpoint_dir=str(tmp_path / "c"), keep_best_k=1, keep_last_n=1) as manager:
        saved = [
            manager.save_checkpoint(
                epoch, {"val_loss": loss, "val_accuracy": 0.8}, *saved_parts, metadata={"notes": "x"}
            )
            for epoch, loss in ((1, 0.62), (2, 0.42), (3, 0.51), (4, 0.50))
        ]
        best = manager.get_best_checkpoint()
        history = manager.get_checkpoint_history()
        fresh = parts()
        loaded = manager.load_checkpoint(best, *fresh)

    assert best == saved[1].path
    assert [one.is_best for one in saved] == [True, True, False, False]
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


def test_the_interval_of_saving(tmp_path):
    """Nothing is saved in between."""
    model, optimizer, _ = parts()
    manager = CheckpointManager(tmp_path, save_interval_epochs=3)

    saved = [manager.save_checkpoint(epoch, {}, model, optimizer) for epoch in range(1, 8)]

    assert [one.epoch for one in saved if one] == [3, 6]
    assert manager.get_best_checkpoint() is None
    with pytest.raises(CheckpointError, match="there is no state of a scheduler"):
        manager.load_checkpoint(saved[2].path, model, scheduler=object())


def test_a_monitor_that_is_not_measured_is_told_of_once(tmp_path, caplog):
    """Without it there is no best checkpoint, and the nearest metric is named."""
    model, optimizer, _ = parts()
    manager = CheckpointManager(tmp_path, monitor="val_acuracy", mode="max")
    for epoch in (1, 2):
        manager.save_checkpoint(epoch, {"val_accuracy": 0.5}, model, optimizer)

    (told,) = caplog.messages
    assert told == (
        "the metrics have no 'val_acuracy', by which the best checkpoint is known; did you mean 'val_accuracy'?"
    )


def test_a_backup_in_another_folder(tmp_path):
    """Whole by the time the manager is closed."""
    model, optimizer, _ = parts()
    backup = {"drive_backup": True, "drive_backup_path": tmp_path / "drive"}
    with CheckpointManager(tmp_path / "c", **backup) as manager:
        manager.save_checkpoint(1, {"val_loss": 1.0}, model, optimizer)
    copy = tmp_path / "drive" / "c" / "step-00000001"

    assert manager.load_checkpoint(copy, model, optimizer).epoch == 1


@pytest.mark.parametrize(
    "epoch, metrics, message",
    [
        (-1, {}, "epoch must be a whole number from 0 on, got -1"),
        (1.5, {}, "epoch must be a whole number from 0 on, got 1.5"),
        (1, {"val_loss": 0.5, "note": "good"}, "metrics: 'note' is no number but 'good'"),
        (1, {"each": torch.ones(2)}, "metrics: 'each' is no number"),
    ],
)
def test_what_cannot_be_saved_is_named(tmp_path, epoch, metrics, message):
    """An epoch that is none, a metric that is no number; nothing is saved."""
    model, optimizer, _ = parts()
    manager = CheckpointManager(tmp_path)

    with pytest.raises(ValueError, match=message):
        manager.save_checkpoint(epoch, metrics, model, optimizer)

    assert manager.get_latest_checkpoint() is None


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_model_that_is_no_number_is_not_saved(tmp_path, value):
    """The weight is named, and the checkpoint before stays the newest."""
    model, optimizer, _ = parts()
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
def test_options_that_cannot_be(tmp_path, options, message):
    """Refused in one line."""
    with pytest.raises(ValueError, match=message):
        CheckpointManager(tmp_path, **options)
