"""The TensorBoard tracker, read back with TensorBoard's event reader."""

from __future__ import annotations

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

pytestmark = pytest.mark.slow


def read(folder):
    """Return all events in a folder."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    return events


def text(events, tag):
    """Return the text of a tag."""
    (event,) = events.Tensors(f"{tag}/text_summary")
    return event.tensor_proto.string_val[0].decode()


def test_every_metric_is_recorded_at_its_step(train, logged, alerts):
    """Scalars equal metrics.jsonl, to the precision of float32."""
    _, folder = train(board={"type": "trackers.tensorboard"})
    events = read(folder / "tensorboard")

    assert alerts.seen == []
    for name, logged_values in logged(folder).items():
        found = events.Scalars(name)
        assert [scalar.step for scalar in found] == [step for step, _ in logged_values]
        assert [scalar.value for scalar in found] == pytest.approx([value for _, value in logged_values], rel=1e-6)


def test_settings_outcome_and_results_are_recorded(train):
    """As text, and settings and final metrics as hyperparameters."""
    outcome, folder = train(board={"type": "trackers.tensorboard", "log_dir": "boards/tb"})
    events = read(folder / "boards" / "tb")
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    given = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams

    assert "| optimizer.lr | 0.01 |" in text(events, "settings")
    assert "| status | completed |" in text(events, "outcome")
    assert folder.as_uri() in text(events, "results")
    assert given["optimizer.lr"].number_value == 0.01
    assert given["model.hidden_dims"].string_value == "[4, 3]"
    assert events.Scalars("test_loss")[-1].value == pytest.approx(outcome.test_metrics["test_loss"])


def test_every_sets_how_often_it_logs(train):
    """With `every` in epochs there are no metrics within an epoch."""
    _, folder = train(board={"type": "trackers.tensorboard", "every": 2})
    events = read(folder / "tensorboard")

    assert {scalar.step for scalar in events.Scalars("train_loss")} == {8}


def test_a_run_completes_if_the_folder_cannot_be_written(train, alerts, tmp_path):
    """It raises one alert, with the tracker's name."""
    (tmp_path / "file").touch()
    outcome, _ = train(board={"type": "trackers.tensorboard", "log_dir": str(tmp_path / "file" / "tb")})

    assert outcome.status == "completed"
    assert [alert.type for alert in alerts.seen] == ["tracker_failed"]
    assert "trackers.board" in alerts.seen[0].message
