"""A model shared out over processes: that it learns what one process would, and what becomes of its checkpoints."""

from __future__ import annotations

import json
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import distributed, multiprocessing, nn
from torch.distributed.fsdp import FSDPModule

from dovetail.checkpoint.format import read_checkpoint, read_model, write_checkpoint
from dovetail.checkpoint.sharded import is_sharded, local_shard, write_shards
from dovetail.checkpoint.verify import verify
from dovetail.data.sampler import AddressedSampler
from dovetail.distributed.group import Group
from dovetail.distributed.sharding import norms_over_ranks, shard, shard_like
from dovetail.kernel.build import BuildError
from dovetail.ops import grad_norms
from dovetail.optimizers import factories, presets
from dovetail.record.run_directory import RunDirectory
from dovetail.train.assembly import assemble
from dovetail.train.checkpoints.state import converted_position
from dovetail.train.gradients import Gradients
from process_runs import (
    RUN,
    dovetail,
    killed_and_uninterrupted,
    last_weights,
    newest_checkpoint,
    start_long_run,
    wait_at,
)
from small_disks import small_disk
from small_runs import small

FSDP = ("--nproc", "2", "hardware.strategy=fsdp")


@pytest.fixture
def run_file(tmp_path) -> Path:
    """A small run of digits: 899 training samples."""
    path = tmp_path / "small.toml"
    path.write_text(RUN)
    return path


@pytest.fixture
def mesh():
    """A group of one process, over which things can be shared out all the same."""
    distributed.init_process_group("gloo", rank=0, world_size=1, store=distributed.HashStore())
    yield distributed.init_device_mesh("cpu", (1,))
    distributed.destroy_process_group()


def assert_close(weights: dict[str, torch.Tensor], others: dict[str, torch.Tensor], **tolerance: float) -> None:
    """Check that two models are the same but for rounding."""
    assert weights.keys() == others.keys()
    for name, value in weights.items():
        torch.testing.assert_close(others[name], value, **tolerance)


# --- what they come to ------------------------------------------------------------------------------------------------

CNN = 'model={type="cnn",channels=[8,8]}'  # with batch norms
WATCHED = ["training.ema_decay=0.9", 'callbacks.watch={type="gradient_monitor"}']


@pytest.mark.slow
@pytest.mark.parametrize(
    "reference,own,settings",
    [
        (
            ["loader.batch_size=20"],
            [],
            ["training.accumulate=3", "training.max_grad_norm=0.5", "model.hidden_dims=[16,16]", *WATCHED],
        ),
        (
            ["loader.batch_size=10", "--nproc", "2"],
            [],
            ["training.precision=bf16", "training.max_epochs=1", "loader.eval_batch_size=1000", "data.flat=false", CNN],
        ),
        (
            ["loader.batch_size=10", "--nproc", "2"],
            ["hardware.compile=true"],
            ["training.precision=fp16", "model.hidden_dims=[16,16]", "optimizer.lr=1e-3"],
        ),
    ],
    ids=[
        "one process: accumulated, clipped, averaged, watched",
        "copies: bf16, batch norms, one batch of validation",
        "copies: fp16, against compiled shares",
    ],
)
def test_shares_do_what_others_do(tmp_path, run_file, reference, own, settings):
    """The same figures and weights as one process with batches of twice the size, or as copies, but for rounding."""
    settings = [*settings, "--json"]

    item = dovetail(tmp_path, "run", str(run_file), *reference, *settings)
    two = dovetail(tmp_path, "run", str(run_file), "loader.batch_size=10", *own, *settings, *FSDP)
    alone, together = json.loads(item.stdout), json.loads(two.stdout)

    assert together["status"] == "completed"
    assert together["steps"] == alone["steps"]
    assert np.sum(together["test"]["test_confusion_matrix"]) == together["data"]["sizes"]["test"]
    assert together["test"]["test_loss"] == pytest.approx(alone["test"]["test_loss"], rel=1e-3)
    weights, others = (last_weights(tmp_path / run["folder"]) for run in (alone, together))
    assert_close(weights, others, rtol=1e-3, atol=1e-3)
    figures = [logged(tmp_path / run["folder"], "monitor") for run in (alone, together)]
    assert len(figures[0]) == len(figures[1]) == (2 if WATCHED[0] in settings else 0)
    for before, now in zip(*figures, strict=True):
        assert now["grad_norm_total"] == pytest.approx(before["grad_norm_total"], rel=1e-3)


def overflow(rank: int, folder: str, limit: float | None) -> None:
    """Make an update in half precision with a gradient that is infinite in one process's share alone."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    model = nn.Linear(4, 2)
    shard({"model": model}, distributed.init_device_mesh("cpu", (2,)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    gradients = Gradients(optimizer, max_norm=limit, scaler=scaler)
    found = []
    for spoiled in (True, False):
        before = local_shard(model.weight).detach().clone()
        gradients.clear()
        gradients.backward(model(torch.ones(3, 4)).sum())
        if spoiled and rank == 1:
            local_shard(model.weight.grad)[0, 0] = torch.inf
        gradients.clip()
        gradients.apply()
        found.append([torch.equal(local_shard(model.weight), before), scaler.get_scale()])
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("limit", [None, 1.0], ids=["as they are", "clipped"])
def test_what_one_cannot_represent_no_process_applies(tmp_path, limit):
    """A scaled gradient that overflows in one share is left out by all, and all scale the next one by half."""
    multiprocessing.spawn(overflow, (str(tmp_path), limit), nprocs=2)

    assert [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)] == [[[True, 4.0], [False, 4.0]]] * 2


def logged(folder: Path, event: str) -> list[dict[str, float]]:
    """Return what a run has logged of an event."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line["metrics"] for line in lines if line["event"] == event]


@pytest.mark.slow
@pytest.mark.parametrize(
    "saving",
    [
        ["training.max_epochs=20", "checkpoint.every={steps=10}"],
        ["training.max_epochs=6", "checkpoint.every={steps=2}", "checkpoint.background=true"],
    ],
    ids=["between updates", "in the background"],
)
def test_they_are_started_anew_from_the_shares(tmp_path, run_file, saving):
    """A run of which one process was killed ends like the one that was never disturbed, to the last bit."""
    settings = [*FSDP, "model.dropout=0.1", *saving]
    folder, whole, _ = killed_and_uninterrupted(tmp_path, run_file, *settings)

    assert_close(last_weights(whole), last_weights(folder), rtol=0, atol=0)
    states = [read_checkpoint(newest_checkpoint(item))["optimizer"] for item in (whole, folder)]
    for item, other in zip(states[0]["state"].values(), states[1]["state"].values(), strict=True):
        assert_close(item, other, rtol=0, atol=0)


# --- another number of processes --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "before,now",
    [
        ([*FSDP, "loader.batch_size=16"], ["--nproc", "1", "loader.batch_size=32"]),
        (["loader.batch_size=32"], [*FSDP, "loader.batch_size=16"]),
        (["--nproc", "2", "loader.batch_size=16"], ["--nproc", "1", "training.accumulate=2"]),
        (["loader.batch_size=16", "training.accumulate=2"], ["--nproc", "2", "training.accumulate=1"]),
    ],
    ids=["shares to one", "one to shares", "copies to one", "one to copies"],
)
def test_it_goes_on_in_another_number(tmp_path, run_file, before, now):
    """A run stopped in the middle and gone on with in another number of processes ends as if it were one."""
    settings = [
        "training.max_epochs=12", "loader.eval_batch_size=16", "training.train_metrics=true", "optimizer.lr=1e-3",
        'scheduler={type="cosine"}', "training.ema_decay=0.9", "logging.every=7",
    ]  # fmt: skip
    item = dovetail(tmp_path, "run", str(run_file), "loader.batch_size=32", *settings, "run.name=whole", "--json")
    process = start_long_run(tmp_path, run_file, *settings, *before, *wait_at(tmp_path, 40))
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    (folder,) = (tmp_path / "runs" / "small").iterdir()
    stopped = read_checkpoint(newest_checkpoint(folder))["training"]["state"]

    number = [item for item in now if not item.startswith(("loader", "training"))]
    refused = dovetail(tmp_path, "resume", "small", *number, check=False)
    done = dovetail(tmp_path, "resume", "small", *now, "--json")

    assert refused.returncode == 2
    assert "hardware.devices: an update would be of " in refused.stderr
    assert ", but was of 32 when " in refused.stderr
    expected, record = json.loads(item.stdout), json.loads(done.stdout)
    assert 0 < stopped["step"] < expected["steps"]
    assert record["status"] == "completed"
    assert record["steps"] == expected["steps"]
    reached = read_checkpoint(newest_checkpoint(folder))["training"]["state"]
    assert reached["samples_seen"] == 12 * expected["data"]["sizes"]["train"]
    assert record["test"]["test_loss"] == pytest.approx(expected["test"]["test_loss"], rel=1e-3)
    assert_close(last_weights(tmp_path / expected["folder"]), last_weights(folder), rtol=1e-2, atol=1e-3)
    epochs = [logged(path, "epoch") for path in (tmp_path / expected["folder"], folder)]
    for other, figures in zip(*epochs, strict=True):
        for name in ("train_loss", "train_accuracy", "val_loss", "lr"):
            assert figures[name] == pytest.approx(other[name], rel=1e-2)
    alerts = (folder / "alerts.jsonl").read_text()
    assert "sums are rounded in another order" in alerts


@given(data=st.data(), length=st.integers(1, 80), size=st.integers(1, 6), drop=st.booleans())
def test_the_position_is_counted_in_samples(data, length, size, drop):
    """After any update, the batches left in another number of processes are of the samples that were left."""
    layouts = []
    for name in ("before", "now"):
        ranks = data.draw(st.sampled_from([1, 2, 4]), name)
        batch = data.draw(
            st.sampled_from([item for item in range(1, 4 * size + 1) if (4 * size) % (item * ranks) == 0])
        )
        layouts.append((ranks, batch, 4 * size // (ranks * batch)))
    shares = [
        [AddressedSampler(length, batch, True, 3, drop, rank, ranks) for rank in range(ranks)]
        for ranks, batch, _ in layouts
    ]
    before, now = ({"samples_per_batch": ranks * batch} for ranks, batch, _ in layouts)
    updates = [-(-len(some[0]) // accumulate) for some, (_, _, accumulate) in zip(shares, layouts, strict=True)]
    if updates[0] != updates[1] or shares[0][0].num_samples != shares[1][0].num_samples:
        return  # which is refused

    for done in range(updates[0] + 1):
        batch = min(done * layouts[0][2], len(shares[0][0]))
        there = converted_position(batch, before, now, len(shares[1][0]))

        assert there == min(done * layouts[1][2], len(shares[1][0]))
        left = [
            sorted(int(index) for item in some for _, indices in item.batches(1, start) for index in indices)
            for some, start in zip(shares, (batch, there), strict=True)
        ]
        assert left[0] == left[1]


# --- checkpoints ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_line_knows_shares(tmp_path, run_file):
    """Verify finds a damaged share, export writes whole tensors, and a run goes on from the checkpoint before."""
    done = dovetail(tmp_path, "run", str(run_file), *FSDP, "loader.batch_size=16", "--json")
    folder = tmp_path / json.loads(done.stdout)["folder"]
    assert not list(folder.rglob(".metadata"))

    dovetail(tmp_path, "checkpoints", "verify", "small")
    dovetail(tmp_path, "checkpoints", "export", "small", "--checkpoint", "last", "--to", "whole.safetensors")
    listed = json.loads(dovetail(tmp_path, "checkpoints", "list", "small", "--json").stdout)

    assert_close(last_weights(folder), load_file(tmp_path / "whole.safetensors"), rtol=0, atol=0)
    assert all(item["model_size_mb"] > 1210 * 4e-6 for item in listed)

    shares = sorted((newest_checkpoint(folder) / "state.shards").iterdir())
    assert len(shares) == 2
    content = bytearray(shares[0].read_bytes())  # which the second process checks
    content[-5] ^= 1
    shares[0].write_bytes(content)
    damaged = dovetail(tmp_path, "checkpoints", "verify", "small", check=False)
    more = dovetail(tmp_path, "resume", "small", "training.max_epochs=3", "--json")

    assert damaged.returncode == 1
    assert f"{shares[0].name}: this file is damaged: tensor" in damaged.stdout
    assert "skipping a damaged checkpoint" in (folder / "alerts.jsonl").read_text()
    assert json.loads(more.stdout)["status"] == "completed"


@pytest.mark.slow
@pytest.mark.parametrize("background", ["false", "true"])
def test_a_full_disk_costs_the_new_checkpoint_alone(tmp_path, run_file, background):
    """All processes end, the message says how much was needed, and the checkpoint before is whole."""
    with small_disk(tmp_path, "100k") as disk:
        settings = ["loader.batch_size=16", f"paths.models={disk}", f"checkpoint.background={background}"]
        done = dovetail(tmp_path, "run", str(run_file), *FSDP, *settings, check=False)
        (folder,) = (disk / "small").iterdir()
        there = [path.name for path in folder.iterdir() if path.is_dir()]
        verify(folder / "step-00000029")

    assert done.returncode == 1
    assert "step-00000058: cannot write this: there is no space left on the disk" in done.stderr
    assert there == ["step-00000029"]


# --- gradients, and what is refused -----------------------------------------------------------------------------------


def test_statistics_of_shares_are_those_of_the_whole(mesh):
    """In a group of one they are the same numbers, those of gradients that are no numbers and of empty ones too."""
    grads = [
        torch.randn(4, 3),
        torch.tensor([torch.nan, 1.0]),
        torch.tensor([torch.inf]),
        torch.zeros(0),
        torch.zeros(3),
    ]
    own = grad_norms(grads, 0.5)

    found = norms_over_ranks(own, 0.5)

    torch.testing.assert_close(found.values, own.values, equal_nan=True, rtol=1e-12, atol=0)
    assert torch.equal(found.counts, own.counts)


def test_a_whole_tensor_is_shared_out_like_another(mesh):
    """It gets the placement of the model for it, and keeps its values."""
    model = distributed.tensor.distribute_tensor(torch.zeros(3, 4), mesh, [distributed.tensor.Shard(1)])

    found = shard_like(torch.arange(12.0).view(3, 4), model)

    assert found.placements == model.placements
    assert torch.equal(found.full_tensor(), torch.arange(12.0).view(3, 4))


class Tied(nn.Module):
    """A model with two blocks, and weights that are one inside of a block, between blocks, and with what is outside."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)) for _ in range(4))
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)
        self.blocks[0][2].weight = self.blocks[0][0].weight
        self.blocks[2][0].weight = self.blocks[1][0].weight
        self.blocks[3][0].bias = self.last.bias
        self.last.weight = self.first.weight

    def ties(self) -> list[bool]:
        """Say which are one."""
        return [
            self.blocks[0][2].weight is self.blocks[0][0].weight,
            self.blocks[2][0].weight is self.blocks[1][0].weight,
            self.blocks[3][0].bias is self.last.bias,
            self.last.weight is self.first.weight,
        ]


def test_what_is_one_stays_one(tmp_path, mesh):
    """Tied weights are trained, kept and read as one; a block that shares some with others is gathered with them."""
    model = Tied()

    shard({"model": model}, mesh)
    write_checkpoint(tmp_path / "one", {"model": model.state_dict()}, write_shards=partial(write_shards, rank=0))
    back = read_model(tmp_path / "one")

    assert model.ties() == [True] * 4
    assert [isinstance(item, FSDPModule) for item in model.blocks] == [True, False, False, False]
    assert back["last.weight"] is back["first.weight"]
    assert_close(back, {name: item.full_tensor() for name, item in model.state_dict().items()}, rtol=0, atol=0)


def test_a_loss_and_a_model_with_one_parameter_are_refused(mesh):
    """Each would be given shares of its own, and they would drift apart."""
    model, loss = nn.Linear(4, 4), nn.Linear(4, 4)
    loss.bias = model.bias

    with pytest.raises(ValueError, match=r"the parameter loss\.bias also belongs to model"):
        shard({"model": model, "loss": loss}, mesh)


class Scaled(nn.Module):
    """A model with a parameter that has no rows."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.scale = nn.Linear(4, 3), nn.Parameter(torch.tensor(1.0))

    def forward(self, inputs):
        """Return the outputs."""
        return self.layer(inputs) * self.scale


def test_a_number_cannot_be_shared_out(tmp_path, mesh):
    """Its name is said, and what helps."""
    config = small(tmp_path, model=Scaled())

    with RunDirectory(tmp_path) as store, pytest.raises(BuildError, match=r"model\.scale .*shape \[1\]") as refused:
        assemble(config, torch.device("cpu"), store, group=Group(0, 2, mesh))
    assert refused.value.path == "hardware.strategy"


def test_an_optimizer_of_all_weights_together_is_refused(tmp_path, mesh):
    """L-BFGS would have to look at all shares at once."""
    config = small(tmp_path, optimizer={"type": "lbfgs"})

    with RunDirectory(tmp_path) as store, pytest.raises(BuildError, match="cannot use shards") as refused:
        assemble(config, torch.device("cpu"), store, group=Group(0, 2, mesh))
    assert refused.value.path == "hardware.strategy"


@pytest.mark.parametrize(
    "build", [factories.sgd, presets.sgd_baseline, factories.adam, factories.adamw, factories.rmsprop]
)
def test_an_optimizer_steps_on_shares(mesh, build):
    """Fused where torch has that for them, which it has not for SGD."""
    shares = [distributed.tensor.Shard(0)]
    weight = nn.Parameter(distributed.tensor.distribute_tensor(torch.ones(3, 2), mesh, shares))
    optimizer = build([weight])
    weight.grad = distributed.tensor.distribute_tensor(torch.ones(3, 2), mesh, shares)
    optimizer.step()

    assert is_sharded(weight)
    assert (weight.full_tensor() < 1).all()
