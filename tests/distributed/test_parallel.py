"""Several processes train as a single one does."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

from dovetail.checkpoint.format import read_checkpoint
from dovetail.distributed.group import Group
from dovetail.kernel.build import BuildError
from dovetail.record.run_directory import RunDirectory
from dovetail.train.assembly import assemble
from process_runs import (
    dovetail,
    last_weights,
    newest_checkpoint,
)
from small_runs import small


@pytest.mark.slow
@pytest.mark.parametrize(
    "size,settings",
    [(15, []), (10, ["training.accumulate=3", "training.max_grad_norm=0.5"])],
    ids=["", "accumulated"],
)
def test_two_do_what_one_does(tmp_path, run_file, size, settings):
    """The same figures and the same weights as one process with batches of twice the size, but for rounding."""
    settings = [*settings, "loader.eval_batch_size=16", "--json"]

    item = dovetail(tmp_path, "run", str(run_file), f"loader.batch_size={2 * size}", *settings)
    two = dovetail(tmp_path, "run", str(run_file), f"loader.batch_size={size}", *settings, "--nproc", "2")
    alone, together = json.loads(item.stdout), json.loads(two.stdout)

    assert together["status"] == "completed"
    assert together["steps"] == alone["steps"]
    assert together["test"]["test_confusion_matrix"] == alone["test"]["test_confusion_matrix"]
    assert together["test"]["test_loss"] == pytest.approx(alone["test"]["test_loss"], rel=1e-4)
    assert np.sum(together["test"]["test_confusion_matrix"]) == together["data"]["sizes"]["test"]
    weights, others = (last_weights(tmp_path / run["folder"]) for run in (alone, together))
    assert weights.keys() == others.keys()
    for name, value in weights.items():
        torch.testing.assert_close(others[name], value, rtol=1e-3, atol=1e-4)


def test_a_metric_that_cannot_be_added_up_is_refused(tmp_path):
    """Its place is named, and what it lacks."""

    class Loudest:
        def __init__(self) -> None:
            self.found = 0.0

        def update(self, outputs, batch) -> None:
            self.found = max(self.found, float(outputs.logits.max()))

        def compute(self) -> dict[str, float]:
            return {"loudest": self.found}

        def reset(self) -> None:
            self.found = 0.0

    config = small(tmp_path, metrics={"mine": Loudest()})

    with RunDirectory(tmp_path) as store, pytest.raises(BuildError, match=r"lacks state_dict\(\), .*merge") as refused:
        assemble(config, torch.device("cpu"), store, group=Group(0, 2))
    assert refused.value.path == "metrics.mine"


@pytest.mark.slow
@pytest.mark.parametrize(
    "policy,strategy", [("roll_back", "ddp"), ("roll_back", "fsdp"), ("skip", "fsdp"), ("stop", "ddp")]
)
def test_all_do_the_same_about_a_nan(tmp_path, run_file, policy, strategy):
    """The loss of one of them is infinite, and its gradients are: they go back, leave it out, or end, all together."""
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(100, 4)).astype(np.float32)
    targets = inputs[:, 0].copy()
    targets[10] = 3e38
    np.savez(tmp_path / "spoiled.npz", inputs=inputs, targets=targets)
    data = '{type="npz",path="spoiled.npz",inputs="inputs",targets="targets",task="regression",split={train=1.0}}'

    done = dovetail(
        tmp_path,
        *["run", str(run_file), f"data={data}", f"training.nan_policy={policy}", "training.max_epochs=3", "--json"],
        *["loader.batch_size=5", "checkpoint.every={steps=1}", "checkpoint.monitor=train_loss"],
        *['loss={type="mse"}', "metrics.accuracy=@unset", "metrics.confusion=@unset"],
        *["--nproc", "2", f"hardware.strategy={strategy}"],
        check=policy != "stop",
    )

    (folder,) = (tmp_path / "runs" / "small").iterdir()
    record = json.loads((folder / "run.json").read_text())
    fault = r"the loss or its gradient became NaN or infinite by update \d+ .*training samples ([\d, ]+)"
    if policy == "stop":
        assert done.returncode == 1
        assert "10" in re.search(fault, record["reason"])[1].split(", ")
        return
    assert record["status"] == "completed"
    assert record["steps"] == 30
    alerts = [json.loads(line) for line in (folder / "alerts.jsonl").read_text().splitlines()]
    assert [item["type"] for item in alerts] == [{"roll_back": "rolled_back", "skip": "nan_skipped"}[policy]] * 3
    assert all("10" in re.search(fault, item["message"])[1].split(", ") for item in alerts)
    assert all(bool(item.isfinite().all()) for item in last_weights(folder).values())
    state = read_checkpoint(newest_checkpoint(folder))["training"]["state"]
    assert state["roll_backs"] == (3 if policy == "roll_back" else 0)
