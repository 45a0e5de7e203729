"""Tests of dovetail.config.compose: files, profiles and overrides as one tree."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dovetail.config.compose import MAX_CHAIN, MAX_FILES, compose
from dovetail.config.diagnostics import ConfigError
from dovetail.config.tree import flatten
from dovetail.kernel.secret import Env

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write files into the working directory, named by keywords, and return the name of the first."""
    monkeypatch.chdir(tmp_path)

    def write(**texts: str) -> str:
        for name, text in texts.items():
            Path(f"{name}.toml").write_text(text)
        return f"{next(iter(texts))}.toml"

    return write


def refusals(path: str | None, **more: Any) -> list[str]:
    """Return the messages about a configuration that is refused."""
    with pytest.raises(ConfigError) as raised:
        compose(path, **more)
    return str(raised.value).splitlines()


def origins(path: str | None, **more: Any) -> dict[str, tuple[Any, str]]:
    """Return every value with its origin."""
    return {key: (value, str(origin)) for key, value, origin in flatten(compose(path, **more))}


def test_every_value_knows_its_origin(write: Write) -> None:
    """A value has the origin of the strongest layer that sets it."""
    path = write(
        run='extends = ["base.toml"]\n[run]\nname = "x"\n[training]\nb = 2\nc = 2\nd = 2\n'
        "[profile.fast.training]\nc = 3\nd = 3\n",
        base="[training]\na = 1\nb = 1\nc = 1\nd = 1\n",
    )

    assert origins(path, profile="fast", overrides=["training.d=4"], base={"run": {"seed": 42}}) == {
        "run.seed": (42, "default"),
        "run.name": ("x", "run.toml:3:8"),
        "training.a": (1, "base.toml:2:5"),
        "training.b": (2, "run.toml:5:5"),
        "training.c": (3, "run.toml:9:5"),
        "training.d": (4, "command line, argument 1"),
    }


def test_tables_know_their_origin(write: Write) -> None:
    """The origin of a table is the strongest file with it; overrides and profiles that add to it do not change that."""
    path = write(run='extends = ["base.toml"]\n[model]\nwidth = 2\n', base='[model]\ntype = "mlp"\n[loss]\na = 1\n')
    profiles = {"dovetail:fast": lambda: {"model": {"width": 3}}}

    tree = compose(
        path, overrides=["model.width=4", "loss.b=1", "new.x=1"], profile="fast", installed_profiles=profiles
    )

    places = {name: (str(node.origin()), str(node.key_origin())) for name, node in tree.table.items()}
    assert places == {
        "model": ("run.toml:2:1", "run.toml:2:2"),
        "loss": ("base.toml:3:1", "base.toml:3:2"),
        "new": ("command line, argument 3", "command line, argument 3"),
    }
    assert str(tree.origin()) == "run.toml:1:1"


def test_arrays_replace(write: Write) -> None:
    """An array is one value: the stronger layer replaces all of it."""
    path = write(run='extends = ["base.toml"]\na = [3]\n[[b]]\ny = 2\n', base="a = [1, 2]\nb = [{x = 1}]\n")

    assert compose(path).to_python() == {"a": [3], "b": [{"y": 2}]}
    assert origins(path) == {"a": ([3], "run.toml:2:5"), "b": ([{"y": 2}], "run.toml:3:1")}


@pytest.mark.parametrize(
    "upper, made",
    [
        ('type = "cnn"', {"type": "cnn"}),
        ('type = "cnn"\nwidth = 5', {"type": "cnn", "width": 5}),
        ('type = "mlp"\ndepth = 2', {"type": "mlp", "width": 3, "inner": {"type": "relu", "slope": 0}, "depth": 2}),
        ("width = 4", {"type": "mlp", "width": 4, "inner": {"type": "relu", "slope": 0}}),
        ('inner.type = "elu"', {"type": "mlp", "width": 3, "inner": {"type": "elu"}}),
        ('inner = "none"', {"type": "mlp", "width": 3, "inner": "none"}),
        ('type = "@unset"', {"width": 3, "inner": {"type": "relu", "slope": 0}}),
        ("type = 3", {"type": 3}),
    ],
)
def test_another_type_drops_inherited_options(write: Write, upper: str, made: dict[str, Any]) -> None:
    """Options of the old type are dropped; a nested table with the same type keeps its options."""
    path = write(
        run=f'extends = ["base.toml"]\n[model]\n{upper}\n',
        base='[model]\ntype = "mlp"\nwidth = 3\ninner = { type = "relu", slope = 0 }\n',
    )

    assert compose(path).to_python() == {"model": made}


def test_a_table_of_another_type_has_the_origin_of_the_type(write: Write) -> None:
    """An option that a new type lacks is reported there."""
    path = write(run='[model]\ntype = "mlp"\n')

    model = compose(path, overrides=["model.type=cnn"]).table["model"]

    assert str(model.origin()) == "command line, argument 1"


def test_a_type_may_change_twice(write: Write) -> None:
    """Each layer goes over all layers below: an override keeps what a profile gives to the same type."""
    path = write(
        run='[model]\ntype = "mlp"\nwidth = 3\n[profile.small.model]\ntype = "cnn"\nchannels = 8\n',
    )

    assert compose(path, profile="small", overrides=["model.type=cnn"]).to_python() == {
        "model": {"type": "cnn", "channels": 8}
    }


def test_none_and_unset_in_files(write: Write) -> None:
    """A file can set None and remove keys, as an override can."""
    path = write(run='extends = ["base.toml"]\na = "@unset"\nb = "@none"\nc = [1, "@none"]\n', base="a = 1\nb = 1\n")

    assert compose(path).to_python() == {"b": None, "c": [1, None]}
    assert refusals(write(run='[t]\na = "@unset"\n')) == [
        "run.toml:2:1: t.a: nothing is set here that @unset could remove"
    ]


def test_secrets_stay_references(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table with only env is a reference, never its value; a section's key named env is an ordinary key."""
    monkeypatch.setenv("TOKEN", "hunter2")
    path = write(
        run='[t]\ntoken = { env = "TOKEN" }\nlist = [{ env = "TOKEN" }]\nno = { env = "a b" }\n'
        'with = { env = "X", b = 1 }\nnot = { env = 1 }\n[section]\nenv = "TOKEN"\n',
    )

    tree = compose(path)

    assert tree.to_python() == {
        "t": {
            "token": Env("TOKEN"),
            "list": [Env("TOKEN")],
            "no": {"env": "a b"},
            "with": {"env": "X", "b": 1},
            "not": {"env": 1},
        },
        "section": {"env": "TOKEN"},
    }
    assert "hunter2" not in repr(flatten(tree))


# --- extends -------------------------------------------------------------------------------------------------


def test_files_are_found_beside_the_file_that_names_them(write: Write) -> None:
    """A name in extends is relative to its own file; origins are relative to the working directory."""
    Path("conf/parts").mkdir(parents=True)
    Path("conf/run.toml").write_text('extends = ["parts/a.toml", "../top.toml"]\n')
    Path("conf/parts/a.toml").write_text('extends = ["b.toml"]\na = 1\n')
    Path("conf/parts/b.toml").write_text("b = 1\n")
    write(top="c = 1\n")

    assert origins("conf/run.toml") == {
        "b": (1, "conf/parts/b.toml:1:5"),
        "a": (1, "conf/parts/a.toml:2:5"),
        "c": (1, "top.toml:1:5"),
    }
    assert origins(str(Path("conf/run.toml").resolve()))["c"] == (1, f"{Path('top.toml').resolve()}:1:5")


def test_detours_through_links_are_kept(write: Write) -> None:
    """If a linked folder changes the meaning of .., the path stays as it was written."""
    Path("far/away").mkdir(parents=True)
    Path("near").symlink_to("far/away")
    Path("far/base.toml").write_text("a = 1\n")
    Path("far/away/run.toml").write_text('extends = ["../base.toml"]\n')

    assert origins("near/run.toml") == {"a": (1, "near/../base.toml:1:5")}


def test_later_files_win_and_diamonds_work(write: Write) -> None:
    """A file that two others extend is merged once, below both."""
    path = write(
        run='extends = ["left.toml", "right.toml"]\nd = 0\n',
        left='extends = ["root.toml"]\na = 1\nb = 1\n',
        right='extends = ["root.toml"]\nb = 2\n',
        root="a = 9\nb = 9\nc = 9\nd = 9\n",
    )

    assert compose(path).to_python() == {"a": 1, "b": 2, "c": 9, "d": 0}


def test_circles(write: Write) -> None:
    """Files that extend one another in a circle are listed in order, where the circle closes."""
    path = write(
        run='extends = ["a.toml"]\n', a='extends = ["b.toml"]\n', b='extends = ["ok.toml", "a.toml"]\n', ok="x = 1\n"
    )

    assert refusals(path) == ["b.toml:1:23: extends: files extend one another in a circle: a.toml → b.toml → a.toml"]
    assert refusals(write(me='extends = ["./me.toml"]\n')) == [
        "me.toml:1:12: extends: files extend one another in a circle: me.toml → me.toml"
    ]


def test_chains_and_numbers_of_files_have_a_limit(write: Write) -> None:
    """Neither a long chain of files nor very many files delay a run."""
    chain = {f"f{number}": f'extends = ["f{number + 1}.toml"]\n' for number in range(MAX_CHAIN + 5)}
    many = {f"g{number}": "" for number in range(MAX_FILES + 5)}

    assert refusals(write(**chain)) == [
        f"f{MAX_CHAIN - 1}.toml:1:12: extends: more than {MAX_CHAIN} files extend one another in a row"
    ]
    [said] = refusals(write(run="extends = [\n" + "\n".join(f"'{name}.toml'," for name in many) + "\n]", **many))
    assert (
        said == f"run.toml:{MAX_FILES + 1}:1: extends: more than {MAX_FILES} files or 2 MB make up this configuration"
    )


EXAMPLE = 'for example extends = ["base.toml"]'


def test_many_large_files_have_a_limit(write: Write) -> None:
    """Files that are large, though each within its limit, are refused before they fill the memory."""
    names = [f"large{number}" for number in range(8)]
    large = dict.fromkeys(names, "#" * 900_000)

    [said] = refusals(write(run="extends = [\n" + "".join(f"'{name}.toml',\n" for name in names) + "]", **large))

    assert said == "run.toml:5:1: extends: more than 64 files or 2 MB make up this configuration"


@pytest.mark.parametrize(
    "text, said",
    [
        ("extends = 'x'", f'1:11: extends: expected an array of file names, got the string "x"; {EXAMPLE}'),
        ("extends = [1]", f"1:12: extends[0]: expected a file name, got the integer 1; {EXAMPLE}"),
        ('extends = ["bsae.toml"]', "1:12: extends: bsae.toml: no such file or directory; did you mean 'base.toml'?"),
        ('extends = [""]', "1:12: extends: .: is a directory"),
        ('extends = ["/dev/zero"]', "1:12: extends: /dev/zero: is a device, not a file"),
        (r'extends = ["a\u0000b"]', r"1:12: extends: a\u0000b: no file can have such a name"),
    ],
)
def test_what_cannot_be_extended(write: Write, text: str, said: str) -> None:
    """A file that cannot be read is reported at the extends that names it."""
    assert refusals(write(run=text, base="")) == [f"run.toml:{said}"]


def test_errors_in_extended_files_are_reported_there_and_once(write: Write) -> None:
    """A syntax error is reported in its file, however many files extend it; the others are checked as well."""
    path = write(
        run='extends = ["a.toml", "b.toml"]\n[profile]\nx = 1\n',
        a='extends = ["broken.toml"]\n',
        b='extends = ["broken.toml"]\n',
        broken="a = \n",
    )

    assert refusals(path, overrides=["x"], profile="none") == [
        "broken.toml:1:5: invalid value",
        "run.toml:3:5: profile.x: expected a table, got the integer 1",
        "command line, argument 1: 'x' has no '='; write KEY=VALUE, for example training.max_epochs=3",
    ]


def test_a_missing_run_file(write: Write) -> None:
    """A missing run file is reported by its name."""
    write(base="")

    assert refusals("bsae.toml") == ["bsae.toml: no such file or directory; did you mean 'base.toml'?"]


# --- profiles ------------------------------------------------------------------------------------------------


def test_profiles_of_extended_files(write: Write) -> None:
    """Several files may have the same profile: the stronger file's wins, and both win over all files."""
    path = write(
        run='extends = ["base.toml"]\na = 1\nb = 1\n[profile.fast]\nb = 3\n',
        base="a = 0\n[profile.fast]\na = 2\nb = 2\n[profile.slow]\na = 5\n",
    )

    assert compose(path).to_python() == {"a": 1, "b": 1}
    assert compose(path, profile="fast").to_python() == {"a": 2, "b": 3}
    assert compose(path, profile="slow").to_python() == {"a": 5, "b": 1}


def test_installed_profiles(write: Write) -> None:
    """An installed profile is used if no file has one of that name; its origin names the package."""
    path = write(run='[training]\na = 1\n[profile."own"]\ntraining.a = 2\n')
    installed = {
        "dovetail:ci_fast": lambda: {"training": {"a": 3}},
        "yourco:own": lambda: {"training": {"a": 4}},
        "plain": lambda: {"training": {"a": 5}},
    }

    assert origins(path, profile="ci_fast", installed_profiles=installed) == {
        "training.a": (3, "profile ci_fast (dovetail)")
    }
    assert origins(path, profile="own", installed_profiles=installed) == {"training.a": (2, "run.toml:4:14")}
    assert origins(path, profile="yourco:own", installed_profiles=installed) == {
        "training.a": (4, "profile own (yourco)")
    }
    assert origins(None, profile="plain", installed_profiles=installed) == {"training.a": (5, "profile plain")}


def test_unknown_profiles(write: Write) -> None:
    """The message about an unknown name has the nearest one, and all of them."""
    path = write(run="[profile.fast]\n[profile.slow]\n")
    installed = {"dovetail:ci_fast": dict, "dovetail:baseline": dict}

    assert refusals(path, profile="fats", installed_profiles=installed) == [
        "profile fats: unknown profile; did you mean 'fast'? (in the file: fast, slow; installed: baseline, ci_fast)"
    ]
    assert refusals(None, profile="base-line", installed_profiles=installed) == [
        "profile base-line: unknown profile; did you mean 'baseline'? (installed: baseline, ci_fast)"
    ]
    assert refusals(None, profile="x\ny") == ["profile x\\ny: unknown profile; there is none"]
    many = {f"p{number:03}": dict for number in range(30)}
    assert refusals(None, profile="other", installed_profiles=many)[0].endswith("p018, p019, …)")


def test_profiles_that_two_packages_provide() -> None:
    """The message names both providers of a name and how to choose."""
    installed = {"b:fast": dict, "a:fast": dict}

    assert refusals(None, profile="fast", installed_profiles=installed) == [
        "profile fast: several packages provide it; choose 'a:fast' or 'b:fast'"
    ]


@pytest.mark.parametrize(
    "load, said",
    [
        (lambda: 1, "profile.bad: expected a table, got the integer 1"),
        (lambda: {"extends": []}, "profile.bad.extends: a profile cannot contain this; only a file can"),
        (lambda: 1 / 0, "cannot be loaded: ZeroDivisionError: division by zero"),
    ],
)
def test_broken_installed_profiles(load: Callable[[], Any], said: str) -> None:
    """A plugin that returns no table, or raises, gets one line that names it."""
    assert refusals(None, profile="bad", installed_profiles={"yourco:bad": load}) == [f"profile bad (yourco): {said}"]


@pytest.mark.parametrize(
    "text, said",
    [
        (
            "profile = 1",
            "1:11: profile: expected a table of profiles, got the integer 1; for example [profile.fast.training]",
        ),
        ("[profile]\nfast = 1", "2:8: profile.fast: expected a table, got the integer 1"),
        ("[profile.fast]\nextends = []", "2:1: profile.fast.extends: a profile cannot contain this; only a file can"),
        ("[profile.fast.profile.x]", "1:15: profile.fast.profile: a profile cannot contain this; only a file can"),
    ],
)
def test_profiles_of_a_wrong_shape(write: Write, text: str, said: str) -> None:
    """All profiles of a file are checked, chosen or not."""
    assert refusals(write(run=text)) == [f"run.toml:{said}"]


def test_composing_is_light(tmp_path: Path) -> None:
    """Composing a configuration imports neither torch nor difflib."""
    path = tmp_path / "run.toml"
    path.write_text("[run]\nseed = 1\n")
    code = (
        "import sys\nfrom dovetail.config.compose import compose\ncompose(sys.argv[1])\n"
        "print(sorted({'torch', 'numpy', 'difflib', 'rich'} & set(sys.modules)))\n"
    )

    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
