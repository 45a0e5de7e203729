"""Tests of dovetail.config.document: TOML files, valid, broken and hostile."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from dovetail.config.diagnostics import ConfigError
from dovetail.config.document import MAX_BYTES, Document, load_document, parse_document
from strategies import toml_texts

UNESCAPED = r"unescaped '\' in a string"
BACKSLASH = r"write \\ for a backslash, or put the string in single quotes"


def refusal(text: str) -> str:
    """Return the message about a text that is refused, without the name of the file."""
    with pytest.raises(ConfigError) as raised:
        parse_document(text, "run.toml")
    [problem] = raised.value.problems
    assert "\n" not in str(problem)
    return str(problem).removeprefix("run.toml:")


def loading(path: str | Path) -> str:
    """Return the message about a file that is refused, without its name."""
    with pytest.raises(ConfigError) as raised:
        load_document(path)
    [problem] = raised.value.problems
    assert "\n" not in str(problem)
    return str(problem).removeprefix(str(path))


def test_a_file_is_read(tmp_path: Path) -> None:
    """A document has the file's name, its data and, for any path, an origin."""
    path = tmp_path / "run.toml"
    path.write_text('[run]\nname = "x"\n')

    document = load_document(path)

    assert document.name == str(path)
    assert document.data == {"run": {"name": "x"}}
    assert str(document.origin(("run", "name"))) == f"{path}:2:8"
    assert str(document.origin(("run", "name"), "key")) == f"{path}:2:1"


def test_a_tree_knows_its_positions() -> None:
    """Every node of a document's tree has the positions of its value and of its key."""
    tree = parse_document("[[a]]\nb = [1, 2]\n", "run.toml").tree()

    inner = tree.table["a"].value[0].table["b"]
    assert tree.to_python() == {"a": [{"b": [1, 2]}]}
    assert (inner.origin().line, inner.origin().column) == (2, 5)
    assert (inner.key_origin().line, inner.key_origin().column) == (2, 1)
    assert (inner.value[1].origin().line, inner.value[1].origin().column) == (2, 9)


def test_positions_are_computed_lazily(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a file runs tomli once; the scanner runs when a position is first needed."""

    def forbidden(*_: object) -> None:
        raise AssertionError("scanned")

    monkeypatch.setattr("dovetail.config.document.Scanner", forbidden)
    tree = parse_document("a = 1\n", "run.toml").tree()

    with pytest.raises(AssertionError, match="scanned"):
        tree.table["a"].origin()


# --- syntax errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, said",
    [
        ("a = 1 2", "1:7: a: expected newline or end of document after a statement"),
        ("a = 01", "1:6: a: expected newline or end of document after a statement; a number has no leading zero"),
        ("a = 1\rb = 2", "1:6: a: expected newline or end of document after a statement"),
        ("a = 1\r\r\n", "1:6: a: expected newline or end of document after a statement"),
        ("a = 'it's'", "1:9: a: expected newline or end of document after a statement"),
        ("a = 'x'''", "1:8: a: expected newline or end of document after a statement"),
        ("a: 1", "1:2: expected '=' after a key in a key/value pair"),
        ("a", "1:2: expected '=' after a key in a key/value pair"),
        ("a\nb = 1", "1:2: expected '=' after a key in a key/value pair"),
        (
            "learning rate = 1",
            "1:10: expected '=' after a key in a key/value pair; a key with other characters needs quotes",
        ),
        ("a =", "1:4: invalid value"),
        ("a =  # later\n", "1:6: invalid value"),
        ("a = digits # x", '1:5: invalid value; a string needs quotes: "digits"'),
        ("a = ../data", '1:5: invalid value; a string needs quotes: "../data"'),
        ("a = True", "1:5: invalid value; TOML writes true and false in lower case"),
        ("a = yes", "1:5: invalid value; TOML writes true and false in lower case"),
        ("a = -Infinity", "1:5: invalid value; TOML writes inf and nan in lower case"),
        ("a = None", '1:5: invalid value; TOML has no null: leave the key out, or write "@none"'),
        ("a = .5", "1:5: invalid value; a number needs a digit before the point"),
        ("a = [1,,2]", "1:8: invalid value (the array begins at 1:5)"),
        ("= 1", "1:1: invalid statement"),
        ('{"a": 1}', "1:1: invalid statement"),
        ("\0", "1:1: invalid statement"),
        ("[]", "1:2: invalid initial character for a key part"),
        ("a. = 1", "1:4: invalid initial character for a key part"),
        (
            "[my table]",
            "1:5: my: expected ']' at the end of a table declaration; a key with other characters needs quotes",
        ),
        ("[[a]", "1:4: a: expected ']]' at the end of an array declaration"),
        ('a = "x\nb = 1', "1:7: illegal character '\\n' (the string begins at 1:5)"),
        ("a = 'x\nb = 1", '2:6: expected "\'" (the string begins at 1:5)'),
        ("a = 'x", '1:7: expected "\'" (the string begins at 1:5)'),
        ('x = 1\na = """x\n\ny', "4:2: unterminated string (the string begins at 2:5)"),
        ("x = 1\na = '''x\n\ny", "4:2: expected \"'''\" (the string begins at 2:5)"),
        ('a."b = 1', "1:9: unterminated string (the string begins at 1:3)"),
        ("a = {'b = 1", '1:12: expected "\'" (the string begins at 1:6)'),
        ("a = [1, 2\nb = 3", "2:1: unclosed array (the array begins at 1:5)"),
        ("a = [[1, 2]", "1:12: unclosed array (the array begins at 1:5)"),
        ("a = {x = 1 y = 2}", "1:12: unclosed inline table (the inline table begins at 1:5)"),
        ("a = {x = 1", "1:11: unclosed inline table (the inline table begins at 1:5)"),
        (
            r'a = "C:\data"',
            f"1:10: {UNESCAPED} (the string begins at 1:5); {BACKSLASH}",
        ),
        (
            r'a."\q" = 1',
            f"1:6: {UNESCAPED} (the string begins at 1:3); {BACKSLASH}",
        ),
        (
            r'a = "\u12"',
            f"1:8: invalid hex value (the string begins at 1:5); {BACKSLASH}",
        ),
        (r'a = "\ud800"', "1:12: escaped character is not a Unicode scalar value (the string begins at 1:5)"),
        ("a = 2026-02-30", "1:5: invalid date or datetime"),
        ('a = """\r\r\n"""', "1:8: illegal character '\\r' (the string begins at 1:5)"),
        ('a = "\x01"', "1:6: illegal character '\\x01' (the string begins at 1:5)"),
        ("# \0", "1:3: found invalid character '\\x00'"),
        ("a = 1\na = 2", "2:1: a: cannot overwrite a value (first defined at 1:1)"),
        ("[a]\n[b]\n[ a ]", "3:3: a: cannot declare ('a',) twice (first defined at 1:2)"),
        ("a = 1\n[a.b]", "2:5: a.b: cannot overwrite a value"),
        ("[a]\n[[a]]", "2:3: a: cannot overwrite a value (first defined at 1:2)"),
        ("[[a]]\n[a]", "2:3: a: cannot declare ('a',) twice"),
        ("a = []\n[[a]]", "2:4: a: cannot mutate immutable namespace ('a',)"),
        ("a = []\n[a.b]", "2:5: a.b: cannot declare ('a', 'b') twice"),
        ("a = []\na.b = 1", "2:8: a.b: cannot mutate immutable namespace ('a',)"),
        ("a = [1]\n[[a.b]]", "2:6: a.b: cannot mutate immutable namespace ('a', 'b')"),
        ("a = {b = 1}\na.c = 2", "2:8: a.c: cannot mutate immutable namespace ('a',)"),
        ("a = {b = 1}\n[a.c]", "2:5: a.c: cannot declare ('a', 'c') twice"),
        ("a.b.c = 1\na.b = 2", "2:1: a.b: cannot overwrite a value (first defined at 1:3)"),
        ("a.b = 1\na.b.c = 2", "2:10: a.b.c: cannot overwrite a value"),
        ("a.b = 1\n[a]", "2:2: a: cannot declare ('a',) twice (first defined at 1:1)"),
        ("[a.b]\n[a]\nb.c = 1", "3:8: a.b.c: cannot redefine namespace ('a', 'b')"),
        ("[[a]]\nb = 1\nb = 2", "3:1: a.b: cannot overwrite a value (first defined at 2:1)"),
        ("a = {b = 1, b = 2}", "1:18: duplicate inline table key 'b' (the inline table begins at 1:5)"),
        (
            "a = [{b = {c = 1}, b.d = 2}]",
            "1:27: cannot mutate immutable namespace ('b', 'd') (the inline table begins at 1:6)",
        ),
    ],
)
def test_syntax_errors_have_a_place_and_a_hint(text: str, said: str) -> None:
    """A syntax error has tomli's sentence, its position, what it is in, and a hint if the text suggests one."""
    assert said == refusal(text)


def test_the_sentence_is_tomlis(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence of tomli is passed on, at its position."""

    def loads(text: str) -> None:
        raise tomli.TOMLDecodeError("Something new", text, 4)

    monkeypatch.setattr("dovetail.config.document.tomli.loads", loads)

    assert refusal("a = 1") == "1:5: something new"


@given(st.text(alphabet="ab.=[]{}\"'\\#,1- \n\r\t\0u0e:T", max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    """A text is refused exactly if tomli refuses it, in one line with a position inside the text."""
    try:
        expected = tomli.loads(text)
    except tomli.TOMLDecodeError:
        _check_refusal(text)
    else:
        assert repr(parse_document(text, "run.toml").data) == repr(expected)


@pytest.mark.slow
@given(toml_texts(), st.data())
def test_any_typing_error_is_read_or_refused(text: str, data: st.DataObject) -> None:
    """The same holds for a document with a few characters lost or changed."""
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 5)))
    slipped = text[:start] + data.draw(st.sampled_from(["", "'", '"', "]", "}", "=", "\n", "a"])) + text[end:]
    try:
        tomli.loads(slipped)
    except tomli.TOMLDecodeError:
        _check_refusal(slipped)
    else:
        assert isinstance(parse_document(slipped, "run.toml"), Document)


def _check_refusal(text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_document(text, "run.toml")
    [problem] = raised.value.problems
    lines = text.replace("\r\n", "\n").split("\n")
    assert problem.origin.line is not None
    assert problem.origin.column is not None
    assert 1 <= problem.origin.column <= len(lines[problem.origin.line - 1]) + 1
    assert str(problem).isprintable()


# --- hostile texts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, said",
    [
        ("a." * 100_000 + "b = 1", "1:1: a key of more than 32 parts"),
        ("[" + "a." * 100_000 + "b]", "1:2: a key of more than 32 parts"),
        ("x = {" + "a." * 100_000 + "b = 1}", "1:6: a key of more than 32 parts"),
        ("a" * 200_000 + " = 1", "1:1: a key of more than 256 characters"),
        ("'" + "." * 200_000 + "' = 1", "1:1: a key of more than 256 characters"),
        ("x = 1\na = " + "[" * 10_000, "2:37: tables and arrays nested more than 32 deep"),
        ("a = " + "[" * 100 + "]" * 100, "1:37: tables and arrays nested more than 32 deep"),
        ("a = " + "{a = " * 10_000, "1:161: tables and arrays nested more than 32 deep"),
        ("a = [" + "\n[" * 10_000, "33:1: tables and arrays nested more than 32 deep"),
        (f"[{'.'.join('a' * 20)}]\n{'.'.join('b' * 20)} = 1", "2:25: tables and arrays nested more than 32 deep"),
        ("a = " + "9" * 5_000, "1:5: a number of more than 300 digits"),
        ("a = [1, -" + "9" * 5_000 + "]", "1:9: a number of more than 300 digits"),
        ("a = 0x" + "f" * 500_000, "1:5: a number of more than 300 digits"),
        ("a = 1." + "0" * 5_000, "1:5: a number of more than 300 digits"),
        ("a = " + "[" * 40 + "'\n", "1:37: tables and arrays nested more than 32 deep"),
        ("a = '" + "x" * 900_000, '1:900006: expected "\'" (the string begins at 1:5)'),
        ('"' * 900_000, "1:3: expected '=' after a key in a key/value pair"),
        ("[" * 900_000, "1:3: invalid initial character for a key part"),
        (
            "a = " + "x" * 5_000,
            f'1:5: invalid value; a string needs quotes: "{"x" * 29}…{"x" * 29}"',
        ),
        ('a."\\q' + "x" * 300 + '" = 1', "1:3: a key of more than 256 characters"),
        (
            "k = '" + "x" * 300 + "'\n[a]\nb = 1\n[a]\n[[a]]",
            "4:2: a: cannot declare ('a',) twice (first defined at 2:2)",
        ),
        (
            "k = '" + "x" * 300 + "'\n" + r'a."\q" = 1',
            f"2:6: {UNESCAPED} (the string begins at 2:3); {BACKSLASH}",
        ),
    ],
    ids=lambda text: text[:20],
)
def test_hostile_texts_end_in_one_line(text: str, said: str) -> None:
    """What no run file needs is refused at its position, in less than two seconds."""
    started = time.process_time()

    assert said == refusal(text)
    assert time.process_time() - started < 2


def test_long_but_valid_texts_are_read() -> None:
    """Long strings, many entries, and nesting up to the limit are read."""
    notes = "n" * 300_000
    path = ".".join("abcdefgh" * 4)
    entries = "\n".join(f"k{number} = {number}" for number in range(2000))
    dots = "'''\n" + "a." * 500 + "\n'''"

    data = parse_document(f"notes = '{notes}'\ndots = {dots}\n{entries}\n{path} = 1\n", "run.toml").data

    assert data["notes"] == notes
    assert data["k1999"] == 1999
    assert parse_document(f"a = {'[' * 32}{']' * 32}", "run.toml").locate(("a", *[0] * 31)) == (1, 36)


# --- unreadable files ---------------------------------------------------------------------------------------


def test_missing_files_are_named_with_their_neighbours(tmp_path: Path) -> None:
    """The message about a missing file suggests a similar name in its folder."""
    (tmp_path / "bearing.toml").touch()
    (tmp_path / "bearing.txt").touch()

    assert loading(tmp_path / "baering.toml") == ": no such file or directory; did you mean 'bearing.toml'?"
    assert loading(tmp_path / "other.toml") == ": no such file or directory"
    assert loading(tmp_path / "none" / "bearing.toml") == ": no such file or directory"


def test_a_missing_file_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name without a folder is looked up in the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("bearing.toml").touch()

    assert loading("bearing") == ": no such file or directory; did you mean 'bearing.toml'?"


def test_folders_pipes_devices_and_sockets_are_refused(tmp_path: Path) -> None:
    """Anything but a regular file is refused, without waiting for it or reading it."""
    pipe, plug = tmp_path / "pipe", tmp_path / "socket"
    os.mkfifo(pipe)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(plug))

        assert loading(tmp_path) == ": is a directory"
        assert loading(pipe) == ": is a pipe, not a file"
        assert loading("/dev/zero") == ": is a device, not a file"
        assert loading(plug) == ": no such device or address"


def test_names_that_no_file_can_have(tmp_path: Path) -> None:
    """NUL, lone surrogates, endless names and links to themselves get one line each."""
    loop = tmp_path / "loop.toml"
    loop.symlink_to(loop)

    for name, said in [
        ("a\0b", "a\\u0000b: no file can have such a name"),
        ("\ud800", "\\uD800: no file can have such a name"),
    ]:
        with pytest.raises(ConfigError) as raised:
            load_document(name)
        assert said == str(raised.value)
    assert loading(loop) == ": too many levels of symbolic links"
    assert "file name too long" in loading(tmp_path / ("x" * 300))


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_forbidden_files(tmp_path: Path) -> None:
    """The message says that the permission is missing."""
    path = tmp_path / "run.toml"
    path.touch(mode=0)

    assert loading(path) == ": permission denied"


@pytest.mark.parametrize(
    "data, said",
    [
        (b"# " + b"x" * MAX_BYTES, ": is larger than 1 MB; no run file needs that"),
        ("a = 1".encode("utf-16"), ": is UTF-16; save it as UTF-8"),
        ("a = 1\nb = 'é'\n".encode("latin-1"), ":2:6: the byte 0xE9 is not UTF-8; save the file as UTF-8"),
        (b"\xef\xbb\xbf\xff", ":1:1: the byte 0xFF is not UTF-8; save the file as UTF-8"),
        (b"\xef\xbb\xbfa = \n", ":1:5: invalid value"),
        (b"\x7fELF\x02\x01\x01\x00", ":1:1: invalid statement"),
        (
            b"PK\x03\x04\x00",
            ":1:3: expected '=' after a key in a key/value pair",
        ),
    ],
    ids=lambda data: repr(data[:10]),
)
def test_files_that_are_not_text(tmp_path: Path, data: bytes, said: str) -> None:
    """A file that is too large, binary or not UTF-8 gets one line, with the position of the first wrong byte."""
    path = tmp_path / "run.toml"
    path.write_bytes(data)

    assert said == loading(path)


def test_a_file_of_the_largest_size_is_read(tmp_path: Path) -> None:
    """A file may have exactly the largest size."""
    path = tmp_path / "run.toml"
    path.write_bytes(b"#" * MAX_BYTES)

    assert load_document(path).data == {}


@pytest.mark.slow
def test_memory_stays_bounded(tmp_path: Path) -> None:
    """A large file of many small values takes less than 512 MB of address space, positions included."""
    path = tmp_path / "run.toml"
    path.write_text("a = [" + "[]," * 100_000 + "]")
    code = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**29, 2**29))\n"
        "from dovetail.config.document import load_document\n"
        "print(load_document(sys.argv[1]).locate(('a', 99_999)))\n"
    )

    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)

    assert done.stdout == "(1, 300003)\n", done.stderr
