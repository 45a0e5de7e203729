"""Checkpoints that several ranks write and read together: a sharded run in one process, and what ranks agree on."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from attrs import evolve
from torch import distributed, nn
from torch.distributed.tensor import Shard, distribute_tensor

from dovetail.checkpoint.format import encode, read_checkpoint
from dovetail.checkpoint.manifest import CheckpointError, read_manifest
from dovetail.checkpoint.sharded import is_sharded
from dovetail.distributed.group import Group
from dovetail.main import run as train
from dovetail.record.run_directory import RunDirectory
from dovetail.storage.errors import StorageError
from dovetail.train.assembly import assemble
from dovetail.train.checkpoints.sharded import ShardWriter, Verifier, read_first, sharded_like
from dovetail.train.checkpoints.state import restore_state
from rank_threads import on_ranks
from small_runs import Keep, small


@pytest.fixture
def mesh():
    """Return a device mesh of one process, over which a model can be sharded."""
    distributed.init_process_group("gloo", rank=0, world_size=1, store=distributed.HashStore())
    yield distributed.init_device_mesh("cpu", (1,))
    distributed.destroy_process_group()


@pytest.fixture
def build(tmp_path, mesh):
    """Return a function that assembles a sharded run in a new folder."""

    def build(store):
        config = small(tmp_path, training={"max_epochs": 2, "ema_decay": 0.9})
        return assemble(config, torch.device("cpu"), store, group=Group(mesh=mesh))

    return build


def weights(run):
    """Return the full weights of a run's model."""
    return {name: value.full_tensor() for name, value in run.parts.model.state_dict().items()}


def test_a_sharded_run_is_saved_and_restored(tmp_path, build):
    """Weights, moving average and optimizer state are sharded again, and equal to what was saved."""
    with RunDirectory.create(tmp_path, "first") as store, RunDirectory.create(tmp_path, "second") as other:
        run = build(store)
        outcome = run.parts.trainer.fit(run)
        path = run.checkpoints.latest().path
        assert outcome.metrics["val_accuracy"] > 0.5
        assert any(path.glob("model.shards/*.safetensors"))

        found, state = read_first(run, [path])
        again = build(other)
        restore_state(again, state)

        assert found == path
        assert again.state.step == run.state.step == 14
        for part in ("optimizer", "ema"):
            saved, restored = (encode(getattr(each.parts, part).state_dict()) for each in (run, again))
            tensors = saved.sharded["state"]
            assert tensors
            assert tensors.keys() == restored.sharded["state"].keys()
            for key, tensor in tensors.items():
                assert torch.equal(tensor.full_tensor(), restored.sharded["state"][key].full_tensor()), key
        torch.testing.assert_close(weights(again), weights(run), rtol=0, atol=0)


def test_full_tensors_are_sharded_like_the_part_that_loads_them(tmp_path, build):
    """The weights of a run that was not sharded fit each part of a sharded run; other values stay as they are."""
    with RunDirectory.create(tmp_path, "first") as store:
        run = build(store)
        run.parts.trainer.fit(run)
        full = read_checkpoint(run.checkpoints.latest().path)

        model = sharded_like(run, run.parts.model, dict(full["model"]))
        optimizer = sharded_like(run, run.parts.optimizer, full["optimizer"])
        average = sharded_like(run, run.parts.ema, full["ema"])
        other = sharded_like(run, run.parts.trainer, {"weights": torch.ones(3)})

        assert all(is_sharded(value) for value in model.values())
        assert all(is_sharded(values["exp_avg"]) for values in optimizer["state"].values())
        assert not any(is_sharded(values["step"]) for values in optimizer["state"].values())
        assert all(is_sharded(value) for value in average["weights"].values())
        assert not is_sharded(other["weights"])


def test_a_run_without_shards_loads_states_unchanged(tmp_path):
    """Full tensors stay full."""
    keep = Keep()
    train(small(tmp_path, callbacks={"keep": keep})).check()
    state = {"weight": torch.ones(2)}

    assert sharded_like(keep.run, nn.Linear(2, 1), state) is state


# --- what ranks agree on ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fails", ["before", "rank 0", "rank 1"])
def test_all_ranks_fail_together(tmp_path, mesh, fails):
    """Whichever rank fails, and whenever, every rank raises an error with the cause, and none waits for ever."""
    sharded = {"state": {"w": distribute_tensor(torch.ones(2), mesh, [Shard(0)])}}

    def save(encoded, *, writer):
        if fails == "before":
            raise StorageError(tmp_path, "there is no space left on the disk")
        if fails == "rank 1":
            (tmp_path / "state.shards").touch()  # where rank 1 needs a folder
        return writer(tmp_path, {} if fails == "rank 1" else {"odd": sharded["state"]})

    def rank(group):
        writer, encoded = ShardWriter(group), encode({})
        if fails == "rank 1":
            encoded = evolve(encoded, sharded=sharded)
        return writer.save(partial(save, writer=writer), encoded)

    leader, other = on_ranks(rank)

    reason = {"before": "no space left", "rank 0": "process 0: 'odd'", "rank 1": "process 1: "}[fails]
    assert isinstance(leader, StorageError)
    assert isinstance(other, StorageError)
    assert reason in str(leader)
    assert str(leader) in str(other)


@pytest.fixture
def saved(tmp_path):
    """Return a run, and the paths of its checkpoints, the newest first."""
    keep = Keep()
    train(small(tmp_path, callbacks={"keep": keep})).check()
    return keep.run, [checkpoint.path for checkpoint in reversed(keep.run.checkpoints.list())]


def damage(path):
    """Change a byte of a file."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("number", range(3))
def test_ranks_share_the_files_to_verify(saved, number):
    """Whichever rank finds the damage, all of them know; an intact checkpoint is intact for all."""
    _, (newest, oldest) = saved
    damaged = newest / sorted(read_manifest(newest).files)[number]
    damage(damaged)

    def rank(group):
        verifier = Verifier(group)
        if not group.leads:
            return verifier.help()
        try:
            with pytest.raises(CheckpointError, match=damaged.name) as caught:
                verifier(newest)
            return caught.value.path, verifier(oldest)
        finally:
            verifier.end()

    assert on_ranks(rank) == [(damaged, {}), None]


def test_all_ranks_read_the_first_intact_checkpoint(saved, caplog):
    """Only rank 0 sees the folders; a damaged checkpoint is skipped with a warning."""
    run, (newest, oldest) = saved
    damage(newest / "state.json")

    def rank(group, candidates):
        return read_first(evolve(run, group=group), candidates if group.leads else [], lambda path: {"read": path.name})

    assert on_ranks(partial(rank, candidates=[newest, oldest])) == [(newest, {"read": newest.name})] * 2
    caplog.clear()
    leader, other = on_ranks(lambda group: read_first(evolve(run, group=group), [newest, oldest]))

    assert leader[0] == other[0] == oldest
    assert leader[1]["model"]
    torch.testing.assert_close(leader[1]["model"], other[1]["model"], rtol=0, atol=0)
    assert "skipping a damaged checkpoint" in caplog.text
    assert str(newest / "state.json") in caplog.text
    assert on_ranks(lambda group: read_first(evolve(run, group=group), [newest])) == [None, None]
