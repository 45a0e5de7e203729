"""The run files in examples/signals, and the package built, installed and run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from dovetail.cli import main

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples" / "signals"
DATA = Path(os.environ.get("DOVETAIL_DATA", ROOT.parent / "shared" / "data"))
#: Where each run file that needs data finds them.
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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bearing.toml", *PATHS])
def test_an_example_runs_from_end_to_end(name, tmp_path, monkeypatch, capsys):
    """In its ci_fast form each trains, validates, tests, and writes its report."""
    path = PATHS.get(name)
    if path is not None and not path.exists():
        pytest.skip("needs the data under DOVETAIL_DATA")
    monkeypatch.chdir(tmp_path)
    given = [f"data.path={path}"] if path else []
    if name.startswith("two_machines"):
        given.append(f"data.metadata={EXAMPLES / 'two_machines.csv'}")
    assert main(["run", str(EXAMPLES / name), "--profile", "ci_fast", "--json", *given]) == 0
    record = json.loads(capsys.readouterr().out)

    assert record["status"] == "completed"
    assert 0 <= record["test"]["test_accuracy"] <= 1
    assert Path(record["report"]).is_file()


@pytest.mark.slow
def test_the_ablation_runs_every_arm(tmp_path):
    """In its ci_fast form, one seed: a line for each arm, and each trains."""
    data = PATHS["cwru_physics.toml"]
    if not data.exists():
        pytest.skip("needs the data under DOVETAIL_DATA")
    options = ["--seeds", "1", "--profile", "ci_fast", "--json", "found.json", f"data.path={data}"]
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "ablation.py"), *options],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )

    assert done.returncode == 0, done.stderr
    assert list(json.loads((tmp_path / "found.json").read_text())) == ["plain", "physics", "scrambled", "random"]
    assert len(list((tmp_path / "runs" / "cwru-physics").iterdir())) == 4


@pytest.mark.slow
def test_the_wheel_trains_in_an_environment_of_its_own(tmp_path):
    """Built, installed beside Dovetail without the sources, it is found, and its examples run and draw."""
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
    # Dovetail and what it stands on come from here; the plugin does not, as its own folder comes first.
    dovetail = Path(sys.modules["dovetail"].__file__).parents[1]
    (site / "here.pth").write_text(f"{dovetail}\n{sysconfig.get_path('purelib')}\n")
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
        (EXAMPLES / "bearing.toml", {"envelope.svg"}),
        (ROOT / "examples" / "pinn" / "heat.toml", {"pde-1-solution.svg", "pde-2-error.svg"}),
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
