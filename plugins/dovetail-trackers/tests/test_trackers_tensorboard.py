"""What TensorBoard's own reader finds in the event files."""

from __future__ import annotations

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

pytestmark = pytest.mark.slow


def read(folder):
    """Return the events in a folder, all of them."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    return events


def text(events, tag):
    """Return a text that was written."""
    (event,) = events.Tensors(f"{tag}/text_summary")
    return event.tensor_proto.string_val[0].decode()


def test_every_figure_is_there_at_its_step(train, logged, alerts):
    """Scalars are those of the run's own log, to the precision of a float32."""
    _, folder = train(board={"type": "trackers.tensorboard"})
    events = read(folder / "tensorboard")

    assert alerts.seen == []
    for name, figures in logged(folder).items():
        found = events.Scalars(name)
        assert [scalar.step for scalar in found] == [step for step, _ in figures]
        assert [scalar.value for scalar in found] == pytest.approx([value for _, value in figures], rel=1e-6)


def test_settings_end_and_results_are_there(train):
    """As text, and the settings as hyperparameters with the figures of the end."""
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


def test_it_keeps_its_own_cadence(train):
    """With a cadence in epochs there are no figures in between."""
    _, folder = train(board={"type": "trackers.tensorboard", "every": 2})
    events = read(folder / "tensorboard")

    assert {scalar.step for scalar in events.Scalars("train_loss")} == {8}


def test_a_folder_that_cannot_be_written_does_not_spoil_the_run(train, alerts, tmp_path):
    """The run completes and says once what failed."""
    (tmp_path / "file").touch()
    outcome, _ = train(board={"type": "trackers.tensorboard", "log_dir": str(tmp_path / "file" / "tb")})

    assert outcome.status == "completed"
    assert [alert.type for alert in alerts.seen] == ["tracker_failed"]
    assert "trackers.board" in alerts.seen[0].message
