"""The run that its parts see: frozen except for its state, its current phase, and requests to stop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from attrs import evolve
from attrs.exceptions import FrozenInstanceError
from torch import nn

from dovetail.distributed.group import Group
from dovetail.main import run
from rank_threads import on_ranks
from small_runs import Keep, built, events, small


def test_a_part_stops_a_run_after_the_current_update(tmp_path):
    """The rest of the epoch is skipped; the run is validated, saved and tested. The first request holds."""

    class Enough:
        def dovetail_batch_end(self, run: Any, step: int) -> None:
            if step == 3:
                run.request_stop("three are enough", by=self)
                run.request_stop("too late to matter", by="nobody")

    outcome = run(small(tmp_path, callbacks={"enough": Enough()}))

    assert (outcome.status, outcome.reason) == ("stopped_early", "three are enough")
    assert outcome.stopped_by == "callbacks.enough"
    assert [line["step"] for line in events(tmp_path)] == [3, 3, 3]
    assert "test_loss" in outcome.test_metrics


def test_only_the_state_of_a_run_changes(tmp_path):
    """Its values cannot be replaced; a copy with another value shares state, alerts and figures."""
    run = built(tmp_path)
    view = evolve(run, forward=None)
    view.state.step = 5
    view.alert("odd", "something is odd")

    with pytest.raises(FrozenInstanceError):
        run.forward = None
    with pytest.raises(FrozenInstanceError):
        run.parts.model = None
    assert run.forward is not None
    assert run.state.step == 5
    assert view.alerts is run.alerts
    assert view.metrics_log is run.metrics_log
    assert (run.store.path / "alerts.jsonl").read_text().count("something is odd") == 1


def test_optimizer_and_schedule_are_those_of_the_current_phase(tmp_path):
    """Setting ``state.phase`` is enough to change them."""
    phases = [
        {"optimizer": {"type": "sgd", "lr": 0.1}, "max_epochs": 1},
        {"optimizer": {"type": "adamw", "lr": 0.2}, "scheduler": {"type": "cosine"}, "max_epochs": 1},
    ]
    run = built(tmp_path, phases=phases)
    first, second = run.phases

    assert (run.phase, run.parts.optimizer, run.gradients) == (first, first.optimizer, first.gradients)
    assert run.schedule is run.parts.scheduler is None
    run.state.phase = 1
    assert (run.phase, run.parts.optimizer, run.gradients) == (second, second.optimizer, second.gradients)
    assert run.parts.scheduler is second.scheduler is not None
    assert run.schedule is second.schedule


class Scaled(nn.Module):
    """A loss with a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss."""
        return nn.functional.cross_entropy(logits * self.scale, target)


def test_parts_are_named_by_config_path(tmp_path):
    """In the order of hook calls; parameters have the model's own names, and those of the loss its prefix."""
    keep, model = Keep(), nn.Linear(4, 3)
    parts = built(tmp_path, model=model, loss=Scaled(), callbacks={"keep": keep}).parts

    paths = [path for path, _ in parts.named()]
    assert paths == ["model", "loss", "optimizer", "trainer", "metrics.accuracy", "callbacks.keep"]
    assert dict(parts.named())["callbacks.keep"] is keep
    assert list(parts.parameter_names().values()) == ["weight", "bias", "loss.scale"]
    assert parts.num_trainable() == 16


# --- several ranks ----------------------------------------------------------------------------------------------------


def test_a_request_reaches_every_rank_with_the_update(tmp_path):
    """No rank stops before all agree; then the lowest rank's request holds. They add up the samples seen since."""
    runs = [built(tmp_path, Group(rank, 3)) for rank in range(3)]

    def rank(group: Group) -> tuple[Any, ...]:
        own = evolve(runs[group.rank], group=group)
        own.state.samples_seen = 10
        if group.rank:
            own.request_stop(f"rank {group.rank} has enough", by="test")
        alone = own.stop
        before = own.agree()
        own.state.samples_seen += 1 + group.rank
        return alone, before, own.stop.reason, own.agree(due=group.rank == 2, broken=True), own.state.samples_seen

    assert on_ranks(rank, 3) == [(None, (False, False), "rank 1 has enough", (True, True), 16)] * 3


def test_a_signal_to_one_rank_interrupts_it_at_once(tmp_path):
    """It knows before the others, so that it can hurry; a signal overrides an earlier request."""
    run = built(tmp_path, Group(0, 2))
    run.request_stop("no improvement", by="callbacks.patience")
    assert not run.interrupted

    run.request_stop("got SIGTERM", by="SIGTERM", status="interrupted")
    assert run.interrupted
    assert run.stop is None
    assert run.state.requested.by == "SIGTERM"
