"""The command line: what each command prints, where, and with which exit code."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

from dovetail import __version__
from dovetail.cli import main
from dovetail.cli.app import COMMANDS, app
from dovetail.cli.doctor import sqlite
from dovetail.cli.meanings import meanings
from dovetail.cli.text import columns
from dovetail.kernel.signature import read_signature
from dovetail.spec.kinds import KINDS
from dovetail.spec.plugins import Plugins
from installed import COMMAND, PLUGIN, dovetail, install
from places import EXAMPLES
from run_folders import write_run

DIGITS = str(EXAMPLES / "digits.toml")


def every_command() -> list[tuple[str, ...]]:
    """Return the words of each of our commands and groups."""

    def walk(command: click.Command, words: tuple[str, ...]) -> list[tuple[str, ...]]:
        if not isinstance(command, click.Group):
            return [words]
        context = click.Context(command)
        inner = [(name, command.get_command(context, name)) for name in command.list_commands(context)]
        return [words, *(found for name, one in inner if one for found in walk(one, (*words, name)))]

    return walk(app, ())


# --- help, version, what was meant ----------------------------------------------------------------------------------


@pytest.mark.parametrize("words", every_command(), ids=" ".join)
def test_each_help_shows_an_example(words, capsys):
    """Every command and group says how it is used, by an example that begins as it does."""
    assert main([*words, "--help"]) == 0
    said = capsys.readouterr().out

    assert "Example" in said
    assert f"dovetail {' '.join(words)}".strip() in said.partition("Example")[2]


def test_the_lines_about_commands_are_their_own(capsys):
    """The table that --help shows agrees with what each command says of itself."""
    context = click.Context(app)
    for name, (_, line) in COMMANDS.items():
        command = app.get_command(context, name)
        assert command is not None
        assert command.get_short_help_str(200) == line


def test_the_exit_codes_are_documented(capsys):
    """The main help lists them all."""
    main(["--help"])
    said = capsys.readouterr().out

    assert all(re.search(rf"^ +{code} ", said, re.MULTILINE) for code in (0, 1, 2, 3, 130))


def test_the_version_is_printed(capsys):
    """Plainly, for scripts."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"dovetail {__version__}\n"


@pytest.mark.parametrize(
    "arguments,expected",
    [
        (["rnu"], "dovetail: unknown command 'rnu'; did you mean 'run'?"),
        (["xyz"], "dovetail: unknown command 'xyz'; there is run, resume, init"),
        (["config", "chek"], "dovetail config: unknown command 'chek'; did you mean 'check'?"),
        (["run"], "dovetail run: missing argument 'FILE'"),
        (["run", "--jsno", "x.toml"], "dovetail run: no such option"),
        (["plugins", "list", "--kind", "los"], "there is no kind 'los'; did you mean 'loss'?"),
        (["completion", "powershell"], "is not one of 'bash', 'zsh', 'fish'"),
        (["runs", "list", "-n", "0"], "dovetail runs list: "),
    ],
)
def test_wrong_usage_says_what_was_meant(arguments, expected, capsys):
    """One line about what is wrong, one about where help is, on standard error, exit code 2."""
    assert main(arguments) == 2
    said = capsys.readouterr()

    assert said.out == ""
    assert expected.lower() in said.err.lower()
    assert "--help'." in said.err
    assert len(said.err.splitlines()) == 2


@pytest.mark.parametrize("group", ["config", "runs", "plugins"])
def test_a_group_alone_shows_its_help(group, capsys):
    """As help is laid out, on standard error, with exit code 2."""
    assert main([group]) == 2
    said = capsys.readouterr()

    assert said.out == ""
    assert said.err.startswith(f"Usage: dovetail {group} [OPTIONS] COMMAND")
    assert f"\n  Examples:\n    dovetail {group} " in said.err


# --- config -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def broken(tmp_path, monkeypatch) -> Path:
    """Return a run file with three problems, in the current folder."""
    monkeypatch.chdir(tmp_path)
    text = Path(DIGITS).read_text(encoding="utf-8")
    text = text.replace("warmup = 0.1 ", "warmup = 3.0 ").replace('type = "cnn"', 'type = "cnm"')
    Path("broken.toml").write_text(text.replace("lr = 2e-3", "lrr = 2e-3"), encoding="utf-8")
    return Path("broken.toml")


@pytest.mark.parametrize("command", [["config", "check"], ["run"], ["run", "--dry-run"]])
def test_every_problem_of_a_run_file_has_its_line(broken, command, capsys):
    """All at once, each with file, line, column and path; exit code 2; no traceback."""
    assert main([*command, str(broken), "training.precision=fp8"]) == 2
    said = capsys.readouterr()

    assert said.out == ""
    assert "Traceback" not in said.err
    lines = said.err.splitlines()
    assert len(lines) == 4
    for line, expected in zip(lines, ["model.type", "optimizer.lrr", "scheduler.warmup"], strict=False):
        assert re.match(rf"broken\.toml:\d+:\d+: {re.escape(expected)}: ", line)
    assert lines[3].startswith("command line, argument 1: training.precision: ")
    assert not Path("runs").exists()


def test_problems_as_json_are_one_document(broken, capsys):
    """With --json, errors too are a document on standard output, with the places as numbers."""
    assert main(["run", str(broken), "--json"]) == 2
    document = json.loads(capsys.readouterr().out)

    assert set(document) == {"error", "problems"}
    first = document["problems"][0]
    assert (first["file"], first["path"], type(first["line"])) == ("broken.toml", "model.type", int)


@pytest.mark.parametrize("arguments", [["run", "--json"], ["nonsense", "--json"], ["runs", "show", "x", "--json"]])
def test_any_error_can_be_json(arguments, capsys, tmp_path, monkeypatch):
    """Wrong usage and missing runs, as well."""
    monkeypatch.chdir(tmp_path)

    assert main(arguments) == 2
    assert json.loads(capsys.readouterr().out)["error"]


def test_a_file_that_is_not_there_is_named(tmp_path, monkeypatch, capsys):
    """With the file that was meant, if there is one."""
    monkeypatch.chdir(tmp_path)
    Path("digits.toml").write_text("")

    assert main(["config", "show", "digit.toml"]) == 2
    assert capsys.readouterr().err == "digit.toml: no such file or directory; did you mean 'digits.toml'?\n"


def test_what_a_file_says_is_shown_as_toml(capsys):
    """The output is TOML of the same content, with overrides and without comments."""
    assert main(["config", "show", DIGITS, "run.notes=a 'b' \"c\"", "model.dropout=0.5"]) == 0
    shown = tomllib.loads(capsys.readouterr().out)
    written = tomllib.loads(Path(DIGITS).read_text(encoding="utf-8"))
    written["run"]["notes"] = "a 'b' \"c\""
    written["model"]["dropout"] = 0.5

    assert shown == written


def test_a_second_profile_is_refused(capsys):
    """Rather than the first being forgotten."""
    assert main(["config", "show", DIGITS, "--profile", "ci_fast", "-p", "production"]) == 2
    assert "a run has one profile, not both ci_fast and production" in capsys.readouterr().err


def test_origins_are_shown_line_by_line(capsys):
    """A value from the file has its place, one from the command line its argument, one from a profile its name."""
    assert main(["config", "show", DIGITS, "optimizer.lr=1e-4", "--origins", "--profile", "ci_fast"]) == 0
    lines = dict(re.split(r"  +", line, maxsplit=1) for line in capsys.readouterr().out.splitlines())

    assert re.fullmatch(r".*digits\.toml:\d+:\d+", lines['model.type = "cnn"'])
    assert lines["optimizer.lr = 0.0001"] == "command line, argument 1"
    assert lines["training.max_steps = 20"] == "profile ci_fast (dovetail)"


def test_defaults_are_shown_when_asked_for(capsys):
    """With --defaults, settings that nobody wrote are there; their origin says so."""
    assert main(["config", "show", DIGITS, "--defaults", "--json", "--origins"]) == 0
    document = json.loads(capsys.readouterr().out)

    assert document["values"]["training"]["accumulate"] == 1
    assert document["origins"]["training.accumulate"] == "default"
    assert document["origins"]["model.type"].endswith(":8")


def test_a_checked_file_lists_its_parts(capsys):
    """Each part with whose it is and what the run will provide; as JSON too."""
    assert main(["config", "check", DIGITS]) == 0
    said = capsys.readouterr().out

    assert said.startswith(f"{DIGITS}: ok\n")
    assert re.search(r"model +cnn +\(dovetail [\d.]+\) +the run provides .*num_classes", said)

    assert main(["config", "check", DIGITS, "--json"]) == 0
    parts = json.loads(capsys.readouterr().out)["parts"]
    assert {"path": "loss", "name": "cross_entropy"}.items() <= next(p for p in parts if p["path"] == "loss").items()


def test_the_schema_is_json(capsys):
    """A schema that names the installed parts."""
    assert main(["config", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)

    assert "$schema" in schema
    assert '"cross_entropy"' in json.dumps(schema)


def test_default_files_are_written_once(tmp_path, capsys):
    """They pass their own check; writing over them is refused."""
    assert main(["config", "defaults", str(tmp_path / "mine")]) == 0
    written = capsys.readouterr().out.split()

    assert main(["config", "check", written[0]]) == 0
    assert main(["config", "defaults", str(tmp_path / "mine")]) == 2


# --- init, completion, doctor -----------------------------------------------------------------------------------------


def test_init_writes_the_first_example(tmp_path, monkeypatch, capsys):
    """The file of init is the first example; an existing file is kept unless told otherwise."""
    monkeypatch.chdir(tmp_path)

    assert main(["init"]) == 0
    assert Path("digits.toml").read_text() == Path(DIGITS).read_text()
    assert "dovetail run digits.toml" in capsys.readouterr().out

    Path("digits.toml").write_text("mine")
    assert main(["init"]) == 2
    assert "already there" in capsys.readouterr().err
    assert Path("digits.toml").read_text() == "mine"
    assert main(["init", "--force"]) == 0
    assert main(["init", "no/such/folder.toml"]) == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_accepted_by_their_shells(shell, tmp_path, capsys):
    """Each is a program that its shell, where there is one, reads without complaint."""
    assert main(["completion", shell]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out)
    if shutil.which(shell):
        assert subprocess.run([shell, "-n", str(script)], check=False, capture_output=True).stderr == b""


@pytest.mark.parametrize(
    "words,expected",
    [
        (["ru"], "run runs"),
        (["run", "exa"], "examples/"),
        (["run", "examples/digits.t"], "examples/digits.toml"),
        (["run", "f.toml", "training.max_e"], "training.max_epochs="),
        (["run", "f.toml", "model.type=ml"], "model.type=mlp"),
        (["run", "f.toml", "model.type", "=", "ml"], "mlp"),
        (["run", "f.toml", "training.precision", "=", "b"], "bf16"),
        (["run", "f.toml", "checkpoint.best_only=t"], "checkpoint.best_only=true"),
        (["run", "f.toml", "scheduler.type=warmup_"], "scheduler.type=warmup_cosine scheduler.type=warmup_linear"),
        (["run", "f.toml", "callbacks.x.type=early"], "callbacks.x.type=early_stopping"),
        (["run", "f.toml", "no.such="], ""),
        (["run", "f.toml", "--profile", "ci"], "ci_fast"),
        (["run", "mine.toml", "--profile", "sl"], "slow"),
        (["plugins", "info", "foc"], "focal"),
        (["plugins", "list", "--kind", "sch"], "scheduler"),
        (["runs", "list", "--status", "comp"], "completed"),
        (["runs", "show", "lat"], "latest"),
        (["runs", "show", "2026"], "2026-11-20T15-36-00-3f9c1a"),
        (["config", "s"], "show schema"),
    ],
    ids=str,
)
def test_words_are_completed(words, expected, tmp_path, monkeypatch, capsys):
    """Commands, files, settings, values, profiles, parts and runs."""
    monkeypatch.chdir(tmp_path)
    Path("examples").mkdir()
    Path("examples/digits.toml").touch()
    Path("examples/digits.txt").touch()
    Path("mine.toml").write_text("[profile.slow]\n")
    write_run(tmp_path / "runs")
    monkeypatch.setenv("_DOVETAIL_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", " ".join(["dovetail", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))

    with pytest.raises(SystemExit):
        main([])
    found = {line.partition(",")[2] for line in capsys.readouterr().out.split()}

    assert found == set(expected.split())


@pytest.mark.slow
def test_the_doctor_looks_at_everything(tmp_path):
    """Torch, ops, plugins, SQLite and disk are among what it reports; a broken plugin is a warning."""
    install(tmp_path, "yourco", "raise RuntimeError('no licence')")
    done = dovetail("doctor", "--json", path=tmp_path)
    findings = {one["what"]: one for one in json.loads(done.stdout)}

    assert {"python", "torch", "ops, cpu", "ops, cuda", "plugin dovetail", "sqlite", "disk"} <= set(findings)
    assert findings["plugin yourco"]["verdict"] == "warning"
    assert "no licence" in findings["plugin yourco"]["message"]
    assert done.returncode == (1 if any(one["verdict"] == "failed" for one in findings.values()) else 0)


@pytest.mark.parametrize(
    "version,verdict",
    [((3, 6, 23), "ok"), ((3, 7, 0), "warning"), ((3, 40, 1), "warning"), ((3, 51, 2), "warning"), ((3, 51, 3), "ok")],
)
def test_the_doctor_knows_which_sqlite_is_dangerous(version, verdict):
    """The bug came with the write-ahead log in 3.7.0 and went in 3.51.3."""
    assert [one.verdict for one in sqlite(version)] == [verdict]


# --- plugins ----------------------------------------------------------------------------------------------------------


def test_plugins_are_listed_with_their_parts(tmp_path):
    """Third-party plugins beside our own; the part's module is not imported."""
    install(tmp_path, "yourco", losses="raise RuntimeError('imported')")
    done = dovetail("plugins", "list", path=tmp_path)

    assert done.returncode == 0
    assert re.search(r"^yourco +1\.0 +yourco +loaded$", done.stdout, re.MULTILINE)
    assert re.search(r"^  yourco\.envelope +yourco +Error of the envelope\.$", done.stdout, re.MULTILINE)


def test_a_broken_plugin_is_shown_and_spoils_nothing(tmp_path):
    """It is listed with its error; only --strict-plugins makes it fatal."""
    install(tmp_path, "yourco", "print('hello'); raise RuntimeError('no licence')")
    done = dovetail("plugins", "list", "--json", path=tmp_path)
    plugin = next(one for one in json.loads(done.stdout)["plugins"] if one["distribution"] == "yourco")

    assert (done.returncode, plugin["state"]) == (0, "broken")
    assert "no licence" in plugin["error"]

    strict = dovetail("plugins", "list", "--strict-plugins", path=tmp_path)
    assert strict.returncode == 2
    assert strict.stderr.splitlines() == [
        "dovetail: plugin 'yourco' of yourco failed to load (RuntimeError: no licence)"
    ]


@pytest.mark.parametrize("arguments", [["--no-plugins"], ["--no-plugins=yourco"], ["--no-plugins", "--json"]])
def test_plugins_can_be_left_out(tmp_path, arguments):
    """All, or by name, before anything of theirs is imported; a bare --no-plugins takes no following word."""
    install(tmp_path, "yourco", "raise RuntimeError('imported')")
    done = dovetail("plugins", "list", *arguments, path=tmp_path)

    assert done.returncode == 0
    assert "blocked" in done.stdout
    assert "imported" not in done.stdout


def test_a_bare_no_plugins_before_the_file_leaves_the_file_alone():
    """Click would take the file for the option's value."""
    assert main(["config", "show", "--no-plugins", DIGITS]) == 0


def test_a_command_of_a_plugin_is_a_command(tmp_path):
    """It is listed in the help without being imported, and it runs; ours cannot be replaced."""
    install(tmp_path, "yourco", PLUGIN.replace("yourco.cli:fleet", "yourco.cli:fleet"), cli=COMMAND)
    install(tmp_path, "zz", PLUGIN.replace('"fleet"', '"run"').replace("yourco.", "zz."), cli=COMMAND)
    shown = dovetail("--help", path=tmp_path)

    assert re.search(r"fleet +Show the state of the fleet\.", shown.stdout)
    assert dovetail("fleet", "Pequod", path=tmp_path).stdout == "Pequod is at sea\n"
    assert "FILE" in dovetail("run", "--help", path=tmp_path).stdout


@pytest.mark.parametrize(
    "cli,expected",
    [
        ("raise ImportError('no aiohttp')", "cannot be imported: ImportError: no aiohttp"),
        ("fleet = 3", "is no click command but int"),
        ("", "cannot be imported: AttributeError"),
    ],
)
def test_a_command_that_cannot_be_loaded_says_whose_it_is(tmp_path, cli, expected):
    """One line, exit code 2."""
    install(tmp_path, "yourco", cli=cli)
    done = dovetail("fleet", "x", path=tmp_path)

    assert done.returncode == 2
    assert done.stderr.startswith("dovetail: command 'fleet' of yourco (yourco.cli:fleet)")
    assert expected in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_two_plugins_with_one_command_are_both_named(tmp_path):
    """It is an error only for who calls it."""
    install(tmp_path, "yourco", cli=COMMAND)
    install(tmp_path, "zz", cli=COMMAND)
    done = dovetail("fleet", "x", path=tmp_path)

    assert done.returncode == 2
    assert "yourco 1.0 and zz 1.0" in done.stderr
    assert dovetail("--help", path=tmp_path).returncode == 0


def test_a_part_is_described(capsys):
    """Its keys with types, defaults, limits and what the run provides."""
    assert main(["plugins", "info", "focal"]) == 0
    said = capsys.readouterr().out

    assert re.search(r"gamma +number +2\.0 +at least 0; how strongly easy samples are turned down", said)
    assert re.search(r"class_counts .* provided by the run", said)
    assert "from dovetail" in said

    assert main(["plugins", "info", "dovetail:focal", "--json"]) == 0
    keys = {one["name"]: one for one in json.loads(capsys.readouterr().out)["parts"][0]["keys"]}
    assert keys["gamma"]["default"] == 2.0


def test_every_option_of_ours_is_explained():
    """In the docstring of its part, where `plugins info` and the reference find it; torch explains its own."""
    plugins = Plugins.discover(blocked=True)
    silent = [
        f"{one.kind} {one.name}: {parameter.name}"
        for kind in KINDS
        if kind not in {"command", "profile"}
        for one in plugins.components(kind)
        for parameter in read_signature(one).parameters.values()
        if parameter.settable
        and not one.component.target.startswith("torch.")
        and parameter.name not in meanings(one.component.load())
    ]

    assert silent == []


def test_meanings_are_read_from_docstrings_and_fields():
    """Over several lines, without marks; of a class also from its constructor, and from comments above fields."""

    class Pen:
        """A pen."""

        #: How wide it draws,
        #: in millimetres.
        width: float = 0.5

        def __init__(self, colour: str, length: int = 3) -> None:
            """Make it.

            Args:
                colour: any :class:`~paint.Colour`, or
                    ``"none"``.
                length (int, optional): in centimetres.

            Raises:
                ValueError: there is no such colour.
            """

    class Plain:
        def __init__(self, *, ink: str) -> None:
            """Make it.

            Args:
                ink: black: or blue.
            """

    assert meanings(Pen)["width"] == "How wide it draws, in millimetres"
    assert meanings(Plain) == {"ink": "black: or blue"}
    assert meanings(Pen.__init__) == {"colour": 'any Colour, or "none"', "length": "in centimetres"}
    assert meanings(len) == {}


@pytest.mark.parametrize("name", sorted({"step", "default", "local", "standard", "ci_fast", "digits", "dovetail"}))
def test_every_kind_of_part_can_be_described(name, capsys):
    """Also one that several kinds have, and one that takes nothing."""
    assert main(["plugins", "info", name]) == 0
    assert capsys.readouterr().out


def test_an_unknown_part_is_answered_with_the_nearest(capsys):
    """As anywhere else."""
    assert main(["plugins", "info", "focall"]) == 2
    assert capsys.readouterr().err == "dovetail: unknown part 'focall'; did you mean 'focal'?\n"


def test_a_new_plugin_is_written(tmp_path, capsys):
    """Its folder is named, with what to do next; a second one of the name is refused."""
    assert main(["plugins", "new", "yourco-losses", "--directory", str(tmp_path)]) == 0
    assert (tmp_path / "yourco-losses" / "pyproject.toml").is_file()
    assert "pip install -e '.[dev]'" in capsys.readouterr().out

    assert main(["plugins", "new", "yourco-losses", "-d", str(tmp_path)]) == 2
    assert main(["plugins", "new", "9", "-d", str(tmp_path)]) == 2


@pytest.mark.slow
def test_a_part_is_tried_by_the_kit(tmp_path):
    """A sound part passes; one that does not even import fails, with exit code 1."""
    assert dovetail("plugins", "check", "mse").returncode == 0

    install(tmp_path, "yourco", losses="raise ImportError('no fft')")
    done = dovetail("plugins", "check", "yourco", "--json", path=tmp_path)
    assert done.returncode == 1
    assert "no fft" in done.stdout


def test_without_the_kit_it_says_how_to_get_it(tmp_path):
    """One line, exit code 2, where hypothesis is not installed."""
    (tmp_path / "hypothesis.py").write_text("raise ModuleNotFoundError(name='hypothesis')\n")
    done = dovetail("plugins", "check", "mse", path=tmp_path)

    assert done.returncode == 2
    assert done.stderr == "dovetail: the conformance kit needs an extra: pip install 'dovetail[testkit]'\n"


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def output(tmp_path) -> str:
    """Return a folder with two runs."""
    write_run(tmp_path, "2026-11-20T15-36-00-3f9c1a")
    write_run(tmp_path, "2026-11-20T15-40-00-aa9c1a", status="failed", reason="no", best=None, test={}, device="cuda")
    return str(tmp_path)


def test_runs_are_listed_newest_first(output, capsys):
    """With best, test and time; filtered by name and status."""
    assert main(["runs", "list", "--output", output]) == 0
    lines = capsys.readouterr().out.splitlines()

    assert [line.split()[:3] for line in lines[1:]] == [
        ["digits", "2026-11-20T15-40-00-aa9c1a", "failed"],
        ["digits", "2026-11-20T15-36-00-3f9c1a", "completed"],
    ]
    assert "val_loss 0.0385" in lines[2]
    assert "accuracy 98.06 %" in lines[2]

    assert main(["runs", "list", "-o", output, "--status", "completed", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 1
    assert main(["runs", "list", "-o", output, "--name", "other"]) == 0
    assert "there are no such runs" in capsys.readouterr().out


def test_a_run_is_shown(output, capsys):
    """Outcome, figures, their course, folder and the command that repeats it."""
    assert main(["runs", "show", "3f9c1a", "--output", output]) == 0
    said = capsys.readouterr().out

    assert re.search(r"train_loss +█.*▁ +1\.07", said)
    assert f"dovetail run {output}/digits/2026-11-20T15-36-00-3f9c1a/resolved.toml" in said
    assert re.search(r"test +loss 0\.05  accuracy 98\.06 %", said)

    assert main(["runs", "show", "--json", "--output", output]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "failed"


def test_the_difference_of_two_runs_is_shown(output, capsys):
    """What differs, by section; nothing for a run and itself."""
    assert main(["runs", "diff", "3f9", "aa9", "--output", output]) == 0
    said = capsys.readouterr().out

    assert re.search(r"device +cpu +cuda", said)
    assert re.search(r"test_accuracy +98\.06 % +—", said)
    assert main(["runs", "diff", "3f9", "3f9", "-o", output]) == 0
    assert capsys.readouterr().out == "no difference\n"
    assert main(["runs", "diff", "3f9", "-o", output, "--json"]) == 0
    assert {"section": "run", "path": "device", "left": "cpu", "right": "cuda"} in json.loads(capsys.readouterr().out)[
        "differences"
    ]


# --- odds and ends ----------------------------------------------------------------------------------------------------


def test_columns_are_aligned():
    """Cells by the widest of their column; nothing trails."""
    assert columns([["a", "bb", ""], ["ccc", "d", "e"]], head=["X", "Y", "Z"], right="1") == [
        "X     Y  Z",
        "a    bb",
        "ccc   d  e",
    ]
    assert columns([], head=["X"]) == []


def test_ctrl_c_is_exit_code_130(monkeypatch, capsys):
    """Wherever it comes, with a word and without a traceback."""
    monkeypatch.setattr("dovetail.record.runs.find_runs", _interrupt)

    assert main(["runs", "list"]) == 130
    assert "interrupted" in capsys.readouterr().err


def _interrupt(_output: object) -> None:
    raise KeyboardInterrupt


def test_a_fault_of_ours_shows_its_traceback(monkeypatch, capsys):
    """What nobody foresaw is exit code 1, with the traceback on standard error and one document for --json."""
    monkeypatch.setattr("dovetail.record.runs.find_runs", _fail)

    assert main(["runs", "list", "--json"]) == 1
    said = capsys.readouterr()
    assert "Traceback" in said.err
    assert "ZeroDivisionError: surprise" in json.loads(said.out)["error"]


def _fail(_output: object) -> None:
    raise ZeroDivisionError("surprise")


def test_a_reader_that_leaves_early_is_no_fault():
    """`dovetail --help | head -c 0` ends without a traceback."""
    command = f'{sys.executable} -c "import sys; from dovetail.cli import main; sys.exit(main())" --help | head -c 0'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)

    assert "Traceback" not in done.stderr
