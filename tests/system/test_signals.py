"""dovetail-signals as a whole: its run files in examples/, its wheel, and training in several processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from dovetail.checkpoint.format import read_checkpoint
from dovetail.cli import main
from places import DATA, EXAMPLES, ROOT

pytestmark = pytest.mark.slow

SIGNALS = EXAMPLES / "signals"
#: The ``data.path`` of each run file that needs data.
PATHS = {
    "cwru.toml": DATA / "cwru_bearing",
    "cwru_hard.toml": DATA / "cwru_bearing",
    "cwru_physics.toml": DATA / "cwru_bearing",
    "two_machines.toml": DATA,
    "two_machines_hz.toml": DATA,
    "two_machines_hz_physics.toml": DATA,
    "two_machines_physics.toml": DATA,
    "spoken_digits.toml": DATA / "fsdd" / "fsdd.npz",
    "spoken_digits_speaker.toml": DATA / "fsdd" / "fsdd.npz",
}
PINN = ["burgers", "burgers_precise", "heat", "kdv", "schrodinger"]


def test_every_example_is_tested():
    """The tests below name every run file in examples/signals and examples/pinn."""
    assert {path.name for path in SIGNALS.glob("*.toml")} == {"bearing.toml", *PATHS}
    assert {path.stem for path in (EXAMPLES / "pinn").glob("*.toml")} == set(PINN)


@pytest.mark.parametrize("name", ["bearing.toml", *PATHS])
def test_an_example_of_signals_runs(name, tmp_path, monkeypatch, capsys):
    """With the profile ci_fast it trains, validates, tests, and writes its report."""
    path = PATHS.get(name)
    if path is not None and not path.exists():
        pytest.skip("needs the data under DOVETAIL_DATA")
    monkeypatch.chdir(tmp_path)
    overrides = [f"data.path={path}"] if path else []
    if name.startswith("two_machines"):
        overrides.append(f"data.metadata={SIGNALS / 'two_machines.csv'}")
    assert main(["run", str(SIGNALS / name), "--profile", "ci_fast", "--json", *overrides]) == 0
    record = json.loads(capsys.readouterr().out)

    assert record["status"] == "completed"
    assert 0 <= record["test"]["test_accuracy"] <= 1
    assert Path(record["report"]).is_file()


@pytest.mark.parametrize("name", PINN)
def test_an_example_of_pinns_runs(name, tmp_path, monkeypatch, capsys):
    """With the profile ci_fast it completes both phases, and draws pictures if it has a solution."""
    monkeypatch.chdir(tmp_path)
    path = EXAMPLES / "pinn" / f"{name}.toml"

    assert main(["run", str(path), "--profile", "ci_fast", "--json", "hardware.threads=1"]) == 0
    outcome = json.loads(capsys.readouterr().out)
    (folder,) = (path for path in tmp_path.glob("runs/*/*") if path.is_dir())
    record = json.loads((folder / "run.json").read_text())
    assert outcome["status"] == "completed"
    assert record["steps"] == 12
    assert (folder / "pictures").is_dir() == ("test_relative_l2" in record["test"])


def test_the_ablation_runs_every_arm(tmp_path):
    """With the profile ci_fast and one seed, every arm trains and has an accuracy."""
    data = PATHS["cwru_physics.toml"]
    if not data.exists():
        pytest.skip("needs the data under DOVETAIL_DATA")
    options = ["--seeds", "1", "--profile", "ci_fast", "--json", "found.json", f"data.path={data}"]
    done = subprocess.run(
        [sys.executable, str(SIGNALS / "ablation.py"), *options],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )

    assert done.returncode == 0, done.stderr
    assert list(json.loads((tmp_path / "found.json").read_text())) == ["plain", "physics", "scrambled", "random"]
    assert len(list((tmp_path / "runs" / "cwru-physics").iterdir())) == 4


def test_the_wheel_trains_in_an_environment_of_its_own(tmp_path):
    """Built and installed beside Dovetail without the sources, the plugin is found, and its examples run and draw."""
    home = tmp_path / "env"
    venv.create(home, with_pip=False, symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(home)}))
    wheels = tmp_path / "wheels"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(wheels)]
    source = tmp_path / "source"
    subprocess.run(["cp", "-r", str(ROOT / "plugins" / "dovetail-signals"), str(source)], check=True)
    subprocess.run([*build, str(source)], check=True, env=env, capture_output=True)
    (wheel,) = wheels.glob("dovetail_signals-*.whl")
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*install, str(wheel)], check=True, env=env, capture_output=True)
    # Dovetail and its dependencies come from this environment; the plugin does not, as its own folder comes first.
    dovetail = Path(sys.modules["dovetail"].__file__).parents[1]
    (site / "here.pth").write_text(f"{dovetail}\nimport site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    python = [str(home / "bin" / "python")]
    where = subprocess.run(
        [*python, "-c", "import dovetail_signals; print(dovetail_signals.__file__)"],
        check=True,
        env=env,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )

    assert str(site) in where.stdout
    for example, pictures in (
        (SIGNALS / "bearing.toml", {"envelope.svg"}),
        (EXAMPLES / "pinn" / "heat.toml", {"pde-1-solution.svg", "pde-2-error.svg"}),
    ):
        done = subprocess.run(
            [*python, "-m", "dovetail", "run", str(example), "--profile", "ci_fast", "--json"],
            check=False,
            env=env,
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        record = json.loads(done.stdout)
        assert record["status"] == "completed"
        assert {path.name for path in (tmp_path / record["report"]).parent.joinpath("pictures").iterdir()} == pictures


# --- several processes ----------------------------------------------------------------------------------------------

RUN = """
[run]
name = "physics"
seed = 3
[data]
type = "signals.simulated_rolling"
recordings = 4
seconds = 0.2
window = 512
meta = ["rpm"]
split = { validation = 0.25, test = 0, stratify = true }
[model]
type = "signals.cnn1d"
channels = [4]
[loss]
type = "signals.physical_constraint"
expected_freqs = { "1" = [20.0], "2" = [40.0] }
sample_rate = 12000
lambda_freq = 1.0
lambda_sommerfeld = 0.0
lambda_temporal = 0.0
[optimizer]
type = "adamw"
[trainer]
type = "signals.physics_informed"
lambda_schedule = "constant"
[loader]
batch_size = 8
[training]
max_epochs = 4
[checkpoint]
every = { steps = 1 }
[hardware]
device = "cpu"
threads = 1
[report]
enabled = false
"""
PLUGIN = """
from dovetail import Component, hookimpl

@hookimpl
def dovetail_callbacks():
    yield Component("fragile", "fragile.callback:Fragile")
"""
#: Kills its process once, in the middle of an epoch.
CALLBACK = """
import os, pathlib, signal

class Fragile:
    def __init__(self, mark: str, step: int) -> None:
        self.mark, self.step = pathlib.Path(mark), step

    def dovetail_batch_start(self, run, step):
        if step == self.step and not run.group.leads and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
"""


def install(folder):
    """Write the plugin as if its distribution were installed in a folder."""
    info, package = folder / "fragile-1.0.dist-info", folder / "fragile"
    info.mkdir(parents=True)
    package.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fragile\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[dovetail]\nfragile = fragile.plugin\n")
    for name, text in {"__init__": "", "plugin": PLUGIN, "callback": CALLBACK}.items():
        (package / f"{name}.py").write_text(text)


def train(folder, name, *overrides, processes=2):
    """Train and return the last checkpoint."""
    path = os.pathsep.join([str(folder / "site"), *sys.path])
    command = ["run", "physics.toml", f"--nproc={processes}", f"run.name={name}", *overrides]
    done = subprocess.run(
        [sys.executable, "-m", "dovetail", *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert ("restarting" in done.stderr) == ("--max-restarts" in overrides)
    (run,) = (folder / "runs" / name).iterdir()
    return max((run / "checkpoints").iterdir(), key=lambda path: path.name)


def test_a_restart_within_an_epoch_does_not_change_the_factors(tmp_path):
    """Killed and restarted, two processes get the factors and weights of an uninterrupted run; one process agrees."""
    (tmp_path / "physics.toml").write_text(RUN)
    install(tmp_path / "site")
    fragile = ["callbacks.fragile.type=fragile", f"callbacks.fragile.mark={tmp_path / 'mark'}"]
    whole = train(tmp_path, "whole")
    steps = read_checkpoint(whole)["training"]["state"]["step"]
    middle = steps // 4 + steps // 8 + 1
    restarted = train(tmp_path, "restarted", *fragile, f"callbacks.fragile.step={middle}", "--max-restarts", "1")
    single = train(tmp_path, "single", "loader.batch_size=16", processes=1)

    expected, found = read_checkpoint(whole), read_checkpoint(restarted)
    factors = [epoch["freq"] for epoch in expected["trainer"][0]["history"]]
    assert len(set(factors)) == 4
    assert expected["trainer"][0]["history"] == found["trainer"][0]["history"]
    assert all(bool((value == found["model"][name]).all()) for name, value in expected["model"].items())
    in_one = [epoch["freq"] for epoch in read_checkpoint(single)["trainer"][0]["history"]]
    assert factors == pytest.approx(in_one, rel=1e-3)  # batch norms see half of each batch
