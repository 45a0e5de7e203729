"""The gradient monitor in your own loop and in a run, with the native op and without."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dovetail.data import Splits
from dovetail.main import resume, run
from dovetail.monitor.gradients import GradientMonitor
from dovetail.monitor.health import check_gradient_health
from dovetail.ops import HISTOGRAM_EDGES, _loader
from dovetail.train.trainer import StandardTrainer
from small_runs import blobs, only_run, small


@pytest.fixture(params=["reference", "native"])
def native(request, monkeypatch):
    """Run with the reference implementation, as with DOVETAIL_NATIVE=0, and with the native op."""
    if request.param == "reference":
        monkeypatch.setattr(_loader, "_live", lambda _: False)


def model_with(*gradients: list[float]) -> nn.Module:
    """Return a model whose parameters ``p0``, ``p1`` … have these gradients."""
    model = nn.Module()
    for place, values in enumerate(gradients):
        parameter = nn.Parameter(torch.zeros(len(values)))
        parameter.grad = torch.tensor(values)
        setattr(model, f"p{place}", parameter)
    return model


def test_invalid_checks_are_refused():
    """A model without gradients, and thresholds that cross; the message says what to do."""
    with pytest.raises(ValueError, match=r"after loss\.backward\(\)"):
        check_gradient_health(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="threshold_min must be below threshold_max, got 2 and 1"):
        check_gradient_health(model_with([1.0]), threshold_max=1, threshold_min=2)
    with pytest.raises(ValueError, match="norm_threshold_warning <= norm_threshold_critical, got"):
        GradientMonitor(norm_threshold_warning=20.0)
    with pytest.raises(ValueError, match="check_interval must be at least 1, got 0"):
        GradientMonitor(check_interval=0)


@pytest.mark.usefixtures("native")
def test_statistics_cover_every_check():
    """A NaN does not affect the mean of a layer."""
    monitor = GradientMonitor(history=3)
    for scale in (1.0, 2.0, math.nan, 3.0):
        monitor.check_step(model_with([3.0 * scale, 4.0 * scale], [0.0, 1.0]))
    statistics = monitor.get_statistics()

    assert statistics["check_count"] == 4
    assert statistics["max_norm_history"] == pytest.approx([10.0, math.nan, 15.0], nan_ok=True)
    assert statistics["mean_norm_history"] == pytest.approx([5.5, math.nan, 8.0], nan_ok=True)
    assert statistics["layers"]["p0"] == pytest.approx({"mean": 10.0, "max": 15.0, "last": 15.0, "zeros": 0.0})
    assert statistics["layers"]["p1"] == pytest.approx({"mean": 1.0, "max": 1.0, "last": 1.0, "zeros": 0.5})
    bins = np.searchsorted(HISTOGRAM_EDGES, [5.0, 10.0, math.nan, 15.0, 1.0, 1.0, 1.0, 1.0], side="right")
    assert statistics["histogram"] == np.bincount(bins, minlength=len(HISTOGRAM_EDGES) + 1).tolist()
    assert "histogram" not in GradientMonitor(log_distribution=False).get_statistics()


def test_problems_are_logged_every_interval(caplog):
    """With an interval of two, the second and the fourth of four checks log a warning."""
    monitor = GradientMonitor(check_interval=2)
    for _ in range(4):
        monitor.check_step(model_with([100.0]))

    assert [record.getMessage() for record in caplog.records] == [
        f"check {number}: the gradient of p0 explodes: its norm is 100, above 10" for number in (2, 4)
    ]


class Exact:
    """A callback that collects every parameter's norm before clipping, computed in double precision."""

    def __init__(self) -> None:
        self.norms: list[list[float]] = []

    def dovetail_run_start(self, run: Any) -> None:
        """Listen as the monitor does, but look at the gradients themselves."""
        self.run = run
        run.gradients.observe(
            lambda found, parameters: self.norms.append(
                [float(parameter.grad.double().norm()) for parameter in parameters]
            )
        )


def logged(tmp_path: Any, event: str) -> list[dict[str, Any]]:
    """Return the lines of one event."""
    lines = (only_run(tmp_path) / "metrics.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["event"] == event]


@pytest.mark.usefixtures("native")
def test_a_run_logs_metrics_of_every_update(tmp_path):
    """Every ``log_interval`` updates and at the end of epochs, of exactly the updates since the last event."""
    exact = Exact()
    monitor = {"type": "gradient_monitor", "check_interval": 2, "log_interval": 5, "log_layers": True}
    outcome = run(small(tmp_path, callbacks={"gradients": monitor, "exact": exact}, report={"enabled": True}))
    events = logged(tmp_path, "monitor")
    norms = np.array(exact.norms)

    assert outcome.status == "completed"
    assert [event["step"] for event in events] == [5, 7, 10, 14]
    for event, (first, last) in zip(events, [(0, 5), (5, 7), (7, 10), (10, 14)], strict=True):
        part, metrics = norms[first:last], event["metrics"]
        assert metrics["grad_norm_max"] == pytest.approx(part.max(), rel=1e-5)
        assert metrics["grad_norm_min"] == pytest.approx(part.min(), rel=1e-5)
        assert metrics["grad_norm_mean"] == pytest.approx(part.mean(), rel=1e-5)
        assert metrics["grad_norm_total"] == pytest.approx(np.linalg.norm(part, axis=1).max(), rel=1e-5)
        assert metrics["grad_norm.head.bias"] == pytest.approx(part[:, 3].max(), rel=1e-5)
        assert 0 <= metrics["grad_zeros"] < 1
        assert metrics["grad_nan_updates"] == 0


@pytest.mark.parametrize("policy", ["fail", "alert"])
def test_exploding_gradients_alert_or_end_the_run(tmp_path, policy):
    """The alert names the update and the parameter; ``on_critical`` decides whether the run continues."""
    train = blobs(100)
    train.inputs.mul_(1000)
    monitor = {"type": "gradient_monitor", "check_interval": 3, "on_critical": policy}
    outcome = run(small(tmp_path, data=Splits(train, blobs(30, seed=1)), callbacks={"gradients": monitor}))
    alerts = [json.loads(line) for line in (only_run(tmp_path) / "alerts.jsonl").read_text().splitlines()]

    explosions = [alert for alert in alerts if alert["type"] == "gradient_norm"]

    assert [(alert["severity"], alert["step"]) for alert in explosions] == [("critical", 3)]
    assert explosions[0]["message"].startswith("update 1: the gradient of head.weight explodes: its norm is ")
    if policy == "fail":
        assert outcome.status == "failed"
        assert explosions[0]["message"] in outcome.reason
        assert "a lower optimizer.lr" in outcome.reason
    else:
        assert outcome.status == "completed"


def test_monitoring_changes_nothing_up_to_rounding(tmp_path):
    """The weights with and without the monitor are those of the same clipping."""
    weights = []
    for callbacks in ({"gradients": {"type": "gradient_monitor"}}, {}):
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        torch.manual_seed(1)
        for parameter in model.parameters():
            nn.init.normal_(parameter)
        run(small(tmp_path / str(len(callbacks)), model=model, callbacks=callbacks, training={"max_grad_norm": 0.1}))
        weights.append(model.state_dict())

    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-6)


def test_a_restored_monitor_has_the_same_statistics():
    """After saving and loading in the middle."""
    scales = [1.0, 2.0, math.nan, 0.5, 4.0]
    whole, first, second = GradientMonitor(), GradientMonitor(), GradientMonitor()
    for place, scale in enumerate(scales):
        model = model_with([3.0 * scale, 4.0 * scale], [0.0, 1.0])
        whole.check_step(model)
        if place == 3:
            second.load_state_dict(first.state_dict())
        (first if place < 3 else second).check_step(model)

    np.testing.assert_equal(second.get_statistics(), whole.get_statistics())


@pytest.mark.parametrize("step", [4, 5, 9])
def test_a_resumed_run_logs_the_same(tmp_path, step):
    """Stopped anywhere, also with unread statistics, it has the same events and alerts."""

    def config(name: str) -> Any:
        monitor = {"type": "gradient_monitor", "check_interval": 3, "log_interval": 4, "norm_threshold_warning": 0.1}
        callbacks = {"gradients": {**monitor, "cooldown": 6}, "alerts": {"type": "alerts"}}
        training = {"max_epochs": 2}
        return small(tmp_path / name, callbacks=callbacks, training=training, model=nn.Linear(4, 3))

    class Stop:
        def __init__(self, at: int) -> None:
            self.at = at

        def dovetail_batch_end(self, run: Any, step: int) -> None:
            """Interrupt as a signal would."""
            if step == self.at:
                run.request_stop("stop", by="test", status="interrupted")

    seen = []
    for name, stop_at in (("whole", -1), ("stopped", step)):
        torch.manual_seed(0)
        outcome = run(config(name), listeners=[Stop(stop_at)])
        if name == "stopped":
            assert outcome.status == "interrupted"
            resume(only_run(tmp_path / name), config(name)).check()
        folder = only_run(tmp_path / name)
        alerts = map(json.loads, (folder / "alerts.jsonl").read_text().splitlines())
        events = [(event["step"], event["metrics"]) for event in logged(tmp_path / name, "monitor")]
        seen.append((events, [(alert["message"], alert["step"], alert["details"]) for alert in alerts]))

    assert seen[0] == seen[1]
    assert len(seen[0][0]) == 5
    assert len(seen[0][1]) >= 2


def test_a_parameter_without_a_gradient_is_not_counted(tmp_path):
    """A layer that is used now and then has its own statistics; those of others are complete."""

    class Sometimes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.always, self.other, self.calls = nn.Linear(4, 3), nn.Linear(4, 3), 0

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            """Use the other layer at every second call in training."""
            self.calls += self.training
            outputs = self.always(inputs)
            return outputs + self.other(inputs) if self.training and self.calls % 2 == 0 else outputs

    monitor = GradientMonitor()
    outcome = run(small(tmp_path, model=Sometimes(), callbacks={"gradients": monitor}, training={"max_epochs": 1}))
    statistics = monitor.get_statistics()

    assert outcome.status == "completed"
    assert statistics["check_count"] == 7
    assert set(statistics["layers"]) == {"always.weight", "always.bias", "other.weight", "other.bias"}


def test_every_phase_is_monitored(tmp_path):
    """Updates of a second optimizer are measured too; frozen parameters have no gradient."""
    monitor = GradientMonitor()
    phases = [{"max_epochs": 1, "freeze": ["hidden.*"]}, {"max_epochs": 1, "optimizer": {"type": "sgd", "lr": 0.1}}]
    outcome = run(small(tmp_path, callbacks={"gradients": monitor}, phases=phases))
    statistics = monitor.get_statistics()

    assert outcome.status == "completed"
    assert statistics["check_count"] == 14
    assert set(statistics["layers"]) == {"hidden.0.weight", "hidden.0.bias", "head.weight", "head.bias"}


def test_lbfgs_is_monitored_at_the_start_of_each_update(tmp_path):
    """After Adam, there is one measurement per update, at the weights it starts from."""

    class Norms:
        def __init__(self):
            self.seen = []

        def dovetail_batch_start(self, run):
            model, loader = run.parts.model, run.parts.loaders.train
            (batch,) = list(loader.batches(run.state.epoch))
            loss = run.criterion(run.forward(batch), batch).total
            found = torch.autograd.grad(loss, list(model.parameters()))
            self.seen.append(float(torch.linalg.vector_norm(torch.cat([gradient.flatten() for gradient in found]))))

    norms, monitor = Norms(), GradientMonitor(on_critical="alert")
    phases = [{"max_epochs": 2}, {"max_epochs": 3, "optimizer": {"type": "lbfgs", "max_iter": 4}}]
    run(
        small(
            tmp_path,
            callbacks={"norms": {"type": norms}, "gradients": monitor},
            phases=phases,
            training={"max_epochs": 5, "max_grad_norm": None},
            loader={"batch_size": 100, "shuffle": False},
        )
    ).check()

    assert monitor.get_statistics()["check_count"] == 5
    assert monitor.get_statistics()["total_norm_history"] == pytest.approx(norms.seen, rel=1e-4)


def test_a_trainer_without_gradients_is_reported(tmp_path, caplog):
    """A trainer that steps its optimizer itself is reported in the log, once."""

    class Alone(StandardTrainer):
        def update(self, run, closure):
            loss = closure()
            run.parts.optimizer.step()
            return loss

    run(small(tmp_path, callbacks={"gradients": {"type": "gradient_monitor"}}, trainer={"type": Alone()}))

    assert len([record for record in caplog.records if "no gradients were measured" in record.message]) == 1
