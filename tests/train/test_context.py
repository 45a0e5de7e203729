"""The run that parts are given: requests to stop."""

from __future__ import annotations

from typing import Any

from dovetail.main import run
from small_runs import events, small


def test_a_part_stops_a_run_after_the_update_it_asks_in(tmp_path):
    """The rest of the epoch is not trained; what there is is validated, saved and tested."""

    class Enough:
        def dovetail_batch_end(self, run: Any, step: int) -> None:
            if step == 3:
                run.request_stop("three are enough", by=self)
                run.request_stop("too late to matter", by="nobody")

    outcome = run(small(tmp_path, callbacks={"enough": Enough()}))

    assert (outcome.status, outcome.reason) == ("stopped_early", "three are enough")
    assert outcome.stopped_by == "callbacks.enough"
    assert [one["step"] for one in events(tmp_path)] == [3, 3, 3]
    assert "test_loss" in outcome.test_metrics
