"""Resuming: a run that was stopped anywhere ends with the same bits as a run that was never stopped."""

from __future__ import annotations

import contextlib
import copy
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dovetail.checkpoint.format import read_checkpoint
from dovetail.config.diagnostics import ConfigError
from dovetail.config.schema import RunConfig
from dovetail.data import Splits
from dovetail.main import resume, run
from dovetail.record.experiments import ExperimentDB
from dovetail.record.resumable import ResumeError
from dovetail.train.checkpoints.state import _load
from small_runs import CountedBatches, SmallBatches, StopAt, blobs, only_run, small

#: Figures that come from the clock.
CLOCK = ("samples_per_second", "time")


class Noise:
    """A transform that draws from the global generators, as third-party ones do."""

    def __call__(self, sample: Any) -> Any:
        """Add noise to the inputs."""
        inputs, target = sample
        return inputs + 0.1 * torch.randn(inputs.shape), target


class Dropping(nn.Module):
    """A model with every kind of state: dropout, batch statistics, a buffer, tied weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.norm, self.last = nn.Linear(4, 16), nn.BatchNorm1d(16), nn.Linear(16, 3)
        self.drop = nn.Dropout(0.3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        if self.training:
            self.calls += 1
        return self.last(self.drop(torch.relu(self.norm(self.first(inputs)))))


class StopAfter:
    """Interrupts the run after an update, or in the validation or epoch end after it, as a signal would."""

    def __init__(self, step: int | None, where: str = "update") -> None:
        self.step, self.where = step, where

    def dovetail_batch_end(self, run: Any, step: int) -> None:
        """Interrupt after an update."""
        if step == self.step and self.where == "update":
            run.request_stop("got SIGTERM", by="SIGTERM", status="interrupted")

    def dovetail_validation_end(self, run: Any) -> None:
        """Interrupt at the end of a validation."""
        if run.state.step == self.step and self.where == "validation":
            run.request_stop("got SIGTERM", by="SIGTERM", status="interrupted")

    def dovetail_epoch_end(self, run: Any) -> None:
        """Interrupt at the end of an epoch."""
        if run.state.step == self.step and self.where == "epoch":
            run.request_stop("got SIGTERM", by="SIGTERM", status="interrupted")


def config_of(output: Path, drawn: Mapping[str, Any]) -> RunConfig:
    """Return a run with everything that has state."""
    callbacks: dict[str, Any] = {
        "metric_logger": {"type": "metric_logger", "log_file": "logged.jsonl"},
        "timing": {"type": "timing"},
    }
    if drawn["patience"]:
        callbacks["patience"] = {"type": "early_stopping", "patience": drawn["patience"], "min_delta": 0.2}
    sections: dict[str, Any] = {
        "model": Dropping(),
        "transforms": {"noise": Noise()},
        "training": {
            "max_epochs": 3,
            "accumulate": drawn["accumulate"],
            "validate_every": drawn["validate_every"],
            "precision": drawn["precision"],
            "ema_decay": drawn["ema_decay"],
            "train_metrics": drawn["train_metrics"],
            **drawn.get("training", {}),
        },
        "optimizer": drawn["optimizer"],
        "loader": {"batch_size": 16, "num_workers": drawn["num_workers"]},
        "logging": {"every": drawn["log_every"]},
        "checkpoint": {"every": drawn["save_every"], "keep_last": 50, "background": drawn["background"]},
        "callbacks": callbacks,
        "trackers": {"lines": {"type": "jsonl"}, "database": {"type": "sqlite"}},
    }
    if drawn["scheduler"]:
        sections["scheduler"] = drawn["scheduler"]
    return small(output, **sections)


@st.composite
def drawn_settings(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the settings of a run."""
    steps = st.builds(lambda steps: {"steps": steps}, st.integers(2, 9))
    epochs = st.builds(lambda epochs: {"epochs": epochs}, st.integers(1, 2))
    plain = {"type": "adamw", "lr": 1e-2}
    schedulers = [{}, {"type": "warmup_cosine", "warmup": 0.2}, {"type": "one_cycle", "max_lr": 0.02}]
    plateau = {"type": "plateau", "patience": 1}
    validate_every = draw(st.just({"epochs": 1}) | steps | epochs)
    return {
        "num_workers": 0,
        "accumulate": draw(st.sampled_from([1, 2, 3])),
        "validate_every": validate_every,
        "save_every": draw(steps | epochs),
        "background": draw(st.booleans()),
        "log_every": draw(st.integers(1, 6)),
        "patience": draw(st.sampled_from([0, 0, 2])),
        "precision": draw(st.sampled_from(["fp32", "bf16", "fp16"])),
        "ema_decay": draw(st.sampled_from([None, 0.9])),
        "train_metrics": draw(st.booleans()),
        "optimizer": draw(st.sampled_from([plain, {"type": "sgd", "lr": 0.05, "momentum": 0.9}])),
        "scheduler": draw(st.sampled_from([*schedulers, *([plateau] if validate_every == {"epochs": 1} else [])])),
    }


def left_behind(folder: Path) -> dict[str, Any]:
    """Return everything that a run wrote, except times."""
    record = json.loads((folder / "run.json").read_text())
    newest = max((folder / "checkpoints").glob("step-*"))
    state = read_checkpoint(newest)
    with ExperimentDB(folder.parents[1] / "experiments.db") as database:
        rows = [
            (row["name"], row["value"], row["epoch"], row["step"])
            for row in database.get_metrics(1)
            if row["name"] not in CLOCK
        ]
    return {
        "log": lines(folder / "metrics.jsonl"),
        "tracked": lines(folder / "tracked.jsonl"),
        "logged": lines(folder / "logged.jsonl"),
        "rows": rows,
        "ended": {key: record[key] for key in ("status", "reason", "epochs", "steps", "test")},
        "best": {key: value for key, value in (record["best"] or {}).items() if key != "checkpoint"},
        "step": newest.name[:13],
        "state": {key: state[key] for key in ("model", "ema", "optimizer", "scheduler", "rng") if key in state},
    }


def lines(path: Path) -> list[Any]:
    """Return the lines of a file without times; none if there is no file."""
    if not path.exists():
        return []
    return [without_clock(json.loads(line)) for line in path.read_text().splitlines()]


def without_clock(value: Any) -> Any:
    """Return nested tables without times."""
    if isinstance(value, dict):
        return {key: without_clock(inner) for key, inner in value.items() if key not in CLOCK}
    return value


def assert_same(first: Any, second: Any, path: str = "") -> None:
    """Compare nested tables with tensors, bit for bit."""
    if isinstance(first, Mapping):
        assert set(first) == set(second), path
        for key in first:
            assert_same(first[key], second[key], f"{path}.{key}")
    elif isinstance(first, torch.Tensor):
        assert first.dtype == second.dtype, path
        assert torch.equal(first, second), path
    elif hasattr(first, "tobytes"):
        assert first.tobytes() == second.tobytes(), path
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), f"{path}: {first} {second}"
        for number, pair in enumerate(zip(first, second, strict=True)):
            assert_same(*pair, f"{path}[{number}]")
    else:
        assert first == second or str(first) == str(second) == "nan", f"{path}: {first} != {second}"


def stopped_and_resumed(output: Path, drawn: Mapping[str, Any], stops: list[tuple[int, str]]) -> Path:
    """Run, stopping at each of ``stops`` and resuming, until it is done; return its folder."""
    folder = None
    for step, where in [*stops, (None, "update")]:
        config = config_of(output, drawn)
        watcher = StopAfter(step, where)
        outcome = run(config, listeners=[watcher]) if folder is None else resume(folder, config, listeners=[watcher])
        outcome.check()
        folder = only_run(output)
    return folder


@contextlib.contextmanager
def fast_folder() -> Iterator[Path]:
    """Yield a folder in memory if possible, since hundreds of checkpoints are flushed to it."""
    memory = Path("/dev/shm")  # noqa: S108 (a folder in it, with a name that nobody can guess)
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


PLAIN: Mapping[str, Any] = {
    "num_workers": 0,
    "accumulate": 1,
    "validate_every": {"epochs": 1},
    "save_every": {"steps": 4},
    "background": False,
    "log_every": 3,
    "patience": 0,
    "precision": "fp32",
    "ema_decay": None,
    "train_metrics": False,
    "optimizer": {"type": "adamw", "lr": 1e-2},
    "scheduler": {"type": "warmup_cosine"},
}

# --- the same bits ----------------------------------------------------------------------------------------------------

_STOPS = st.tuples(st.integers(1, 22), st.sampled_from(["update", "validation", "epoch"]))


@pytest.mark.slow
@settings(max_examples=15)
@given(drawn=drawn_settings(), stops=st.lists(_STOPS, min_size=1, max_size=3))
def test_a_run_stopped_anywhere_ends_with_the_same_bits(drawn, stops):
    """Weights, optimizer, generators, log, trackers and test are equal, whatever the settings."""
    with fast_folder() as folder:
        run(config_of(folder / "straight", drawn)).check()
        broken = stopped_and_resumed(folder / "broken", drawn, sorted(stops))

        assert_same(left_behind(only_run(folder / "straight")), left_behind(broken))


def test_a_resumed_schedule_causes_no_warning(tmp_path):
    """Torch must know that there were updates before a scheduler steps at the end of an epoch."""
    drawn = {**PLAIN, "scheduler": {"type": "exponential"}}
    run(config_of(tmp_path / "straight", drawn)).check()
    expected = left_behind(only_run(tmp_path / "straight"))
    broken = stopped_and_resumed(tmp_path / "broken", drawn, [(expected["ended"]["steps"] // 3, "update")])

    assert_same(expected, left_behind(broken))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_resumes_to_the_same_bits(tmp_path, workers):
    """Even if it changes on resume: the position counts consumed batches, not fetched ones."""
    run(config_of(tmp_path / "straight", PLAIN)).check()
    config = config_of(tmp_path / "broken", {**PLAIN, "num_workers": workers})
    run(config, listeners=[StopAfter(9)]).check()
    folder = only_run(tmp_path / "broken")
    resume(folder, config_of(tmp_path / "broken", {**PLAIN, "num_workers": 2 - workers})).check()

    assert_same(left_behind(only_run(tmp_path / "straight")), left_behind(folder))


def test_a_run_resumes_in_its_phase(tmp_path):
    """Each phase has its own optimizer and length."""

    def phased(output: Path) -> RunConfig:
        phases = [
            {"optimizer": {"type": "adamw", "lr": 1e-2}, "max_steps": 5, "freeze": ["first.*"]},
            {"optimizer": {"type": "sgd", "lr": 1e-2, "momentum": 0.9}, "max_epochs": 1},
        ]
        config = {"phases": phases, "checkpoint": {"every": {"steps": 2}, "keep_last": 50}}
        return small(output, model=Dropping(), trackers={"database": {"type": "sqlite"}}, **config)

    run(phased(tmp_path / "straight")).check()
    run(phased(tmp_path / "broken"), listeners=[StopAfter(4)]).check()
    folder = only_run(tmp_path / "broken")
    for step in (7, None):
        resume(folder, phased(tmp_path / "broken"), listeners=[StopAfter(step)]).check()

    assert json.loads((folder / "run.json").read_text())["steps"] == 12
    assert_same(left_behind(only_run(tmp_path / "straight")), left_behind(folder))


def test_frozen_layers_and_modes_are_restored(tmp_path):
    """A layer that a callback froze or put into evaluation mode stays so, although no ``state_dict`` has that."""

    class Freeze:
        def dovetail_epoch_start(self, run: Any, epoch: int) -> None:
            if epoch == 2:
                run.parts.model.first.requires_grad_(requires_grad=False)
            if epoch > 1:
                run.parts.model.norm.eval()

    def frozen(output: Path) -> RunConfig:
        return small(
            output, model=Dropping(), callbacks={"freeze": Freeze()}, trackers={"database": {"type": "sqlite"}}
        )

    run(frozen(tmp_path / "straight")).check()
    run(frozen(tmp_path / "broken"), listeners=[StopAfter(9)]).check()
    folder = only_run(tmp_path / "broken")
    resume(folder, frozen(tmp_path / "broken")).check()

    assert_same(left_behind(only_run(tmp_path / "straight")), left_behind(folder))


def test_optimizer_state_keeps_its_dtype():
    """Torch would cast an optimizer's fp32 state to the bf16 of its parameters."""

    class Master(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            for group in self.param_groups:
                for parameter in group["params"]:
                    self.state[parameter].setdefault("master", parameter.detach().float() + 1e-6)

    parameters = [nn.Parameter(torch.ones(3, dtype=torch.bfloat16)) for _ in range(2)]
    first, second = (Master([{"params": [parameter], "lr": 0.1} for parameter in parameters]) for _ in range(2))
    first.step()
    _load("optimizer", second, copy.deepcopy(first.state_dict()))

    for parameter in parameters:
        assert second.state[parameter]["master"].dtype == torch.float32
        assert torch.equal(second.state[parameter]["master"], first.state[parameter]["master"])


# --- the checkpoint to resume from ------------------------------------------------------------------------------------


def interrupted(output: Path, step: int = 10, **changed: Any) -> Path:
    """Return the folder of an interrupted run."""
    run(config_of(output, {**PLAIN, **changed}), listeners=[StopAfter(step)]).check()
    return only_run(output)


def test_the_record_continues(tmp_path):
    """It keeps its start, its seconds and the origins of settings, and adds when and how the run was resumed."""
    folder = interrupted(tmp_path)
    before = json.loads((folder / "run.json").read_text())
    config = config_of(tmp_path, {**PLAIN, "log_every": 5})
    resume(folder, config, argv=["dovetail", "resume", "latest"]).check()
    after = json.loads((folder / "run.json").read_text())

    assert before["status"] == "interrupted"
    assert before["checkpoint"] == "checkpoints/step-00000010"
    assert after["status"] == "completed"
    assert after["started"] == before["started"]
    assert after["duration_s"] > before["duration_s"]
    assert after["best"]["epoch"] == 3
    (entry,) = after["resumes"]
    assert entry["epoch"] == 2
    assert entry["step"] == 10
    assert entry["command"] == ["dovetail", "resume", "latest"]
    assert entry["changed"] == {"logging.every": [3, 5]}
    times = [json.loads(line)["time"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert times == sorted(times)


def test_a_run_without_a_checkpoint_starts_again(tmp_path):
    """It was killed before the first one. Nothing is logged twice, and an alert says so."""
    run(config_of(tmp_path / "straight", PLAIN)).check()
    folder = interrupted(tmp_path / "broken", 2)
    for path in (folder / "checkpoints").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "checkpoint": None}))
    alerts = Alerts()
    resume(folder, config_of(tmp_path / "broken", PLAIN), listeners=[alerts]).check()

    assert alerts.messages == ["there is no checkpoint yet, so the run starts again"]
    assert_same(left_behind(only_run(tmp_path / "straight")), left_behind(folder))


class Alerts:
    """A listener that keeps alerts."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def dovetail_alert(self, alert: Any) -> None:
        """Keep the message."""
        self.messages.append(alert.message)


@pytest.mark.parametrize("file", ["model.safetensors", "state.safetensors", "state.json", "manifest.json"])
def test_a_damaged_newest_checkpoint_is_skipped(tmp_path, file):
    """The run resumes from the previous one with an alert that names the file, and ends with the same bits."""
    run(config_of(tmp_path / "straight", PLAIN)).check()
    folder = interrupted(tmp_path / "broken")
    damaged = folder / "checkpoints" / "step-00000010"
    content = bytearray((damaged / file).read_bytes())
    content[len(content) // 2] ^= 1
    (damaged / file).write_bytes(content)
    alerts = Alerts()
    resume(folder, config_of(tmp_path / "broken", PLAIN), listeners=[alerts]).check()

    (message,) = alerts.messages
    assert message.startswith("skipping a damaged checkpoint, the run resumes from the one before: ")
    assert str(damaged / file) in message
    assert (folder / "checkpoints" / "damaged-step-00000010").is_dir()
    assert_same(left_behind(only_run(tmp_path / "straight")), left_behind(folder))


def test_a_damaged_checkpoint_does_not_count_for_retention(tmp_path):
    """With ``keep_last = 1``, the next checkpoint is kept although the damaged one is of a later update."""
    folder = interrupted(tmp_path)
    config = evolve(config_of(tmp_path, PLAIN), checkpoint=evolve(config_of(tmp_path, PLAIN).checkpoint, keep_last=1))
    (folder / "checkpoints" / "step-00000010" / "state.json").write_bytes(b"{}")
    resume(folder, config, listeners=[StopAfter(9)]).check()

    assert (folder / "checkpoints" / "step-00000009").is_dir()


def test_without_an_intact_checkpoint_resuming_is_refused(tmp_path):
    """The error names the damage, and the folder stays unchanged."""
    folder = interrupted(tmp_path)
    for path in (folder / "checkpoints").glob("step-*"):
        (path / "state.json").write_bytes(b"{}")
    before = contents(folder)
    with pytest.raises(ResumeError, match=r"all \d of its checkpoints are damaged; .*json: this file has 2 bytes"):
        resume(folder, config_of(tmp_path, PLAIN))

    assert contents(folder) == before


def test_missing_checkpoints_are_an_error(tmp_path):
    """A run that has saved checkpoints does not start again without them."""
    folder = interrupted(tmp_path)
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(ResumeError, match=r"its checkpoints are missing: checkpoints/step-00000010 was the newest"):
        resume(folder, config_of(tmp_path, PLAIN))


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a run, except its log and its lock."""
    kept = (path for path in folder.rglob("*") if path.is_file() and path.name not in {"log.txt", ".lock"})
    return {str(path): path.read_bytes() for path in kept}


# --- settings that may change -----------------------------------------------------------------------------------------


def test_a_setting_that_may_not_change_is_refused(tmp_path):
    """The error has every such setting with both values and origins; the folder stays unchanged."""
    folder = interrupted(tmp_path)
    before = contents(folder)
    changed = {**PLAIN, "accumulate": 2, "optimizer": {"type": "adamw", "lr": 0.5}}
    with pytest.raises(ConfigError) as caught:
        resume(folder, config_of(tmp_path, changed))

    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert re.search(
        r"optimizer\.lr: cannot change on resume: was 0\.01 \(.*\) when run/\S+ started, now 0\.5", lines[0]
    )
    assert re.search(r"training\.accumulate: cannot change on resume: was 1 .*, now 2$", lines[1])
    assert contents(folder) == before


@pytest.mark.parametrize("policy", ["never", "auto", "must"])
def test_a_version_with_more_settings_resumes_a_run(tmp_path, policy):
    """A setting that is newer than the run has its default, unless it is set."""
    folder = interrupted(tmp_path)
    resolved, key = folder / "resolved.toml", "accumulate_any_loss = false\n"
    text = resolved.read_text()
    assert key in text
    resolved.write_text(text.replace(key, ""))
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "numeric_hash": "of fewer settings"}))

    config = config_of(tmp_path, PLAIN)
    other = config_of(tmp_path, {**PLAIN, "training": {"accumulate_any_loss": True}})
    with pytest.raises(ConfigError, match=r"training\.accumulate_any_loss: .*: was — .*when run/\S+ started, now true"):
        resume(folder, other)
    if policy == "never":
        outcome = resume(folder, config)
    else:
        outcome = run(evolve(config, checkpoint=evolve(config.checkpoint, resume=policy)))
    assert outcome.check().folder == folder


def test_other_data_are_refused(tmp_path):
    """The fingerprint decides, not the path."""
    folder = interrupted(tmp_path)
    other = evolve(config_of(tmp_path, PLAIN), data=small(tmp_path, data=Splits(blobs(99), blobs(30), blobs(30))).data)
    before = contents(folder)
    with pytest.raises(ResumeError, match="the data have changed since this run started"):
        resume(folder, other)

    assert contents(folder) == before


def test_a_finished_run_is_only_resumed_to_be_longer(tmp_path):
    """Resuming it returns its outcome; with more epochs it continues where it ended."""
    config = config_of(tmp_path, {**PLAIN, "scheduler": {}})
    outcome = run(config).check()
    folder = only_run(tmp_path)
    before = contents(folder)
    again = resume(folder, config)

    assert contents(folder) == before
    assert again.status == "completed"
    assert again.test_metrics["test_loss"] == outcome.test_metrics["test_loss"]
    assert again.best_epoch == 3
    assert again.folder == outcome.folder == folder

    longer = evolve(config, training=evolve(config.training, max_epochs=5))
    resume(folder, longer).check()
    straight = config_of(tmp_path / "straight", {**PLAIN, "scheduler": {}})
    run(evolve(straight, training=evolve(straight.training, max_epochs=5))).check()
    assert_same(left_behind(only_run(tmp_path / "straight")), left_behind(folder))


def test_an_early_stop_survives_a_kill(tmp_path):
    """A run killed between early stopping and its test is tested, not trained further."""
    drawn = {**PLAIN, "patience": 1}
    run(config_of(tmp_path / "straight", drawn)).check()
    folder = only_run(tmp_path / "straight")
    expected = left_behind(folder)
    events = (folder / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    assert expected["ended"]["status"] == "stopped_early"
    (folder / "metrics.jsonl").write_bytes(b"".join(events[:-1]))
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "status": "running", "test": {}}))
    resume(folder, config_of(tmp_path / "straight", drawn)).check()

    assert_same(left_behind(folder), expected)


class Breaking:
    """Fails at the start of an epoch."""

    def dovetail_epoch_start(self):
        """Fail."""
        raise RuntimeError("broken")


def test_an_extended_run_stays_extended(tmp_path):
    """Even if it failed before it saved anything: a stop requested when it was shorter does not end it."""
    config = config_of(tmp_path, {**PLAIN, "patience": 1})
    assert run(config).status == "stopped_early"
    folder = only_run(tmp_path)
    epochs = json.loads((folder / "run.json").read_text())["epochs"]
    longer = evolve(config, training=evolve(config.training, max_epochs=30))
    assert resume(folder, longer, listeners=[Breaking()]).status == "failed"

    resume(folder, longer).check()

    assert json.loads((folder / "run.json").read_text())["epochs"] > epochs


# --- the policy -------------------------------------------------------------------------------------------------------


def with_policy(output: Path, policy: str, **changed: Any) -> RunConfig:
    """Return a config with a policy for earlier runs."""
    config = config_of(output, {**PLAIN, **changed})
    return evolve(config, checkpoint=evolve(config.checkpoint, resume=policy))


def test_auto_resumes_an_unfinished_run(tmp_path):
    """It finds the unfinished run with the same numeric settings, and no finished one."""
    interrupted(tmp_path)
    run(with_policy(tmp_path, "auto", log_every=2)).check()
    assert json.loads((only_run(tmp_path) / "run.json").read_text())["status"] == "completed"
    run(with_policy(tmp_path, "auto"), listeners=[StopAfter(1)]).check()
    assert len(runs_in(tmp_path)) == 2
    run(with_policy(tmp_path, "never"), listeners=[StopAfter(1)]).check()
    assert len(runs_in(tmp_path)) == 3


def test_must_refuses_to_start_a_run(tmp_path):
    """The error names what differs in the newest run of that name."""
    with pytest.raises(ConfigError, match=r"checkpoint\.resume: there is no run with these settings in"):
        run(with_policy(tmp_path, "must"))
    folder = interrupted(tmp_path)
    with pytest.raises(ConfigError, match=rf"{folder.name}, differs in training\.accumulate: 1 .*→ 3"):
        run(with_policy(tmp_path, "must", accumulate=3))
    assert len(runs_in(tmp_path)) == 1
    run(with_policy(tmp_path, "must")).check()
    assert run(with_policy(tmp_path, "must")).status == "completed"
    assert len(runs_in(tmp_path)) == 1


def runs_in(output: Path) -> list[Path]:
    """Return the folders of all runs."""
    return [path for path in (output / "run").iterdir() if path.is_dir()]


@pytest.mark.parametrize("trainer", [SmallBatches, CountedBatches])
def test_a_trainer_with_its_own_batches_resumes_at_its_position(tmp_path, trainer):
    """Even beyond the number of the loader's batches; the weights are bit-identical."""

    def weights(output: Path) -> dict[str, torch.Tensor]:
        newest = max((only_run(output) / "checkpoints").glob("step-*"))
        return read_checkpoint(newest)["model"]

    run(small(tmp_path / "whole", trainer=trainer())).check()
    run(small(tmp_path / "broken", trainer=trainer()), listeners=[StopAt(13)]).check()
    resume(only_run(tmp_path / "broken"), small(tmp_path / "broken", trainer=trainer())).check()
    whole, broken = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


class Picky:
    """Does not accept its saved state."""

    def state_dict(self):
        """Return a state."""
        return {"format": 1}

    def load_state_dict(self, state):
        """Refuse it."""
        raise KeyError("format 2")


def test_a_part_that_refuses_its_state_is_named(tmp_path):
    """The error has the checkpoint, and the folder stays unchanged."""
    config = small(tmp_path, callbacks={"picky": Picky()})
    run(config, listeners=[StopAfter(10)])
    folder = only_run(tmp_path)
    before = contents(folder)
    message = r"step-00000010: callbacks\.picky does not accept its saved state: KeyError: 'format 2'"
    with pytest.raises(ResumeError, match=message):
        resume(folder, config)

    assert contents(folder) == before


def test_other_versions_are_an_alert(tmp_path):
    """The run resumes, and its record keeps both versions."""
    folder = interrupted(tmp_path)
    record = json.loads((folder / "run.json").read_text())
    now = record["versions"]["torch"]
    record["versions"]["torch"], record["device"] = "1.0", "cuda"
    (folder / "run.json").write_text(json.dumps(record))
    alerts = Alerts()
    resume(folder, config_of(tmp_path, PLAIN), listeners=[alerts]).check()

    (message,) = [text for text in alerts.messages if "versions differ" in text]
    assert message.endswith(f"its numbers may differ: versions.torch 1.0 → {now}, device cuda → cpu")
    (entry,) = json.loads((folder / "run.json").read_text())["resumes"]
    assert entry["changed"] == {"versions.torch": ["1.0", now], "device": ["cuda", "cpu"]}
