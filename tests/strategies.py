"""Hypothesis strategies for several test files: TOML keys, values and documents."""

from __future__ import annotations

import datetime as dt
import string
from collections.abc import Callable

from hypothesis import strategies as st

Draw = Callable[[st.SearchStrategy], object]

_BARE = string.ascii_letters + string.digits + "-_"
#: Characters of TOML strings, and those that need no escape.
_characters = st.characters(exclude_categories=["Cs"])
_printable = st.characters(exclude_categories=["Cs", "Cc"])
_ESCAPES = {"\b": r"\b", "\t": r"\t", "\n": r"\n", "\f": r"\f", "\r": r"\r", '"': r"\"", "\\": r"\\"}


# --- keys ----------------------------------------------------------------------------------------------------

key_names = st.one_of(
    st.sampled_from(["a", "b", "type", "lr", "1", "a.b", "", " ", "#", "[x]", "=", "é", 'qu"ote', "it's"]),
    st.text(_BARE, min_size=1, max_size=6),
    st.text(_characters, max_size=6),
)


@st.composite
def _basic_body(draw: Draw, text: str, *, multiline: bool = False) -> str:
    """Draw ``text`` for double quotes, escaped where necessary and sometimes elsewhere."""
    written = ""
    for char in text:
        must = char in '"\\' or (ord(char) < 32 and not (multiline and char in "\n\t")) or char == "\x7f"
        if must and char in _ESCAPES and draw(st.booleans()):
            written += _ESCAPES[char]
        elif must or draw(st.integers(0, 9)) == 0:
            written += f"\\u{ord(char):04x}" if ord(char) <= 0xFFFF else f"\\U{ord(char):08X}"
        else:
            written += char
    return written


@st.composite
def key_text(draw: Draw, name: str) -> str:
    """Draw a spelling of a key."""
    ways = ["basic"]
    if name and set(name) <= set(_BARE):
        ways.append("bare")
    if "'" not in name and all(ord(char) >= 32 and char != "\x7f" for char in name):
        ways.append("literal")
    match draw(st.sampled_from(ways)):
        case "bare":
            return name
        case "literal":
            return f"'{name}'"
        case _:
            return f'"{draw(_basic_body(name))}"'


@st.composite
def _dotted(draw: Draw, names: list[str]) -> str:
    dot = draw(st.sampled_from([".", ".", " . ", ".\t"]))
    return dot.join([draw(key_text(name)) for name in names])


# --- values --------------------------------------------------------------------------------------------------


@st.composite
def _strings(draw: Draw) -> str:
    match draw(st.sampled_from(["basic", "literal", "multiline basic", "multiline literal"])):
        case "basic":
            return f'"{draw(_basic_body(draw(st.text(_characters, max_size=8))))}"'
        case "literal":
            body = draw(st.text(_printable, max_size=8))
            return "'" + body.replace("'", "") + "'"
        case "multiline basic":
            body = draw(_basic_body(draw(st.text(_characters, max_size=8)), multiline=True))
            extra = draw(st.sampled_from(["", "\n", "#", "[x]\n", '"x', '""x', "\\\n   \n  ", "\na = 1\n", "'''"]))
            end = draw(st.sampled_from(['"', '""', "", ""]))
            return f'"""{extra}{body}{end}"""'
        case _:
            body = draw(st.text(_printable, max_size=8)).replace("'", "")
            extra = draw(st.sampled_from(["", "\n", "#", "[x]\n", "'x", "''x", "\\", "\na = 1\n", '"""']))
            end = draw(st.sampled_from(["'", "''", "", ""]))
            return f"'''{extra}{body}{end}'''"


@st.composite
def _numbers(draw: Draw) -> str:
    sign = draw(st.sampled_from(["", "+", "-"]))
    digits = draw(st.sampled_from(["0", "7", "1_000", "12345678901234567890", "9_9_9"]))
    match draw(st.integers(0, 5)):
        case 0:
            return draw(st.sampled_from(["0xDEAD_beef", "0o7_55", "0b1_0", "0x0"]))
        case 1:
            return sign + draw(st.sampled_from(["inf", "nan"]))
        case 2:
            return f"{sign}{digits}.{draw(st.sampled_from(['0', '5', '0_1']))}"
        case 3:
            return f"{sign}{digits}{draw(st.sampled_from(['e5', 'E-3', 'e+1_0', '.5e2']))}"
        case _:
            return sign + digits


@st.composite
def _dates(draw: Draw) -> str:
    match draw(st.integers(0, 4)):
        case 0:
            return draw(st.dates()).isoformat()
        case 1:
            return draw(st.times()).isoformat()
        case 2:
            return f"{draw(st.dates()).isoformat()} 07:32"
        case _:
            stamp = draw(st.datetimes()).isoformat(sep=draw(st.sampled_from(["T", " "])))
            return stamp + draw(st.sampled_from(["", "Z", "z", "+05:30", "-00:01"]))


_blanks = st.sampled_from(["", "", " ", "\t ", "\n", "\n  \n", " # [no] {table} = 'x\n", '# """\n\t# ]\n'])
_scalars = st.one_of(st.sampled_from(["true", "false"]), _numbers(), _strings(), _dates())


@st.composite
def _arrays(draw: Draw, elements: st.SearchStrategy[str]) -> str:
    return _bracketed(draw, "[]", draw(st.lists(elements, max_size=3)))


@st.composite
def _inline_tables(draw: Draw, values: st.SearchStrategy[str]) -> str:
    entries = []
    for name in draw(st.lists(key_names, max_size=3, unique=True)):
        if draw(st.integers(0, 3)) == 0:  # dotted keys
            inner = draw(st.lists(key_names, min_size=1, max_size=2, unique=True))
            entries += [f"{draw(_dotted([name, part]))} = {draw(values)}" for part in inner]
        else:
            equals = draw(st.sampled_from([" = ", "=", "\t=  "]))
            entries.append(f"{draw(key_text(name))}{equals}{draw(values)}")
    return _bracketed(draw, "{}", draw(st.permutations(entries)))


def _bracketed(draw: Draw, brackets: str, entries: list[str]) -> str:
    written = brackets[0] + draw(_blanks)
    for index, entry in enumerate(entries):
        comma = "," if index < len(entries) - 1 or draw(st.booleans()) else ""
        written += f"{entry}{draw(_blanks)}{comma}{draw(_blanks)}"
    return written + brackets[1]


#: Spellings of TOML values: scalars, arrays and inline tables with line breaks and comments.
value_texts = st.recursive(_scalars, lambda inner: _arrays(inner) | _inline_tables(inner), max_leaves=6)


# --- documents -----------------------------------------------------------------------------------------------


@st.composite
def _body(draw: Draw, names: list[str]) -> list[str]:
    """Draw key-value pairs, some with dotted keys."""
    lines = []
    for name in names:
        if draw(st.integers(0, 3)) == 0:
            inner = draw(st.lists(key_names, min_size=1, max_size=2, unique=True))
            paths = [[name, part] for part in inner]
            if draw(st.booleans()):
                paths = [[*path, "deep"] for path in paths]
        else:
            paths = [[name]]
        for path in paths:
            equals = draw(st.sampled_from([" = ", "=", "  =\t"]))
            comment = draw(st.sampled_from(["", "", " ", " # [not] a 'table", '\t#"""']))
            lines.append(f"{draw(_dotted(path))}{equals}{draw(value_texts)}{comment}")
    return draw(st.permutations(lines))


@st.composite
def _section(draw: Draw, path: list[str], depth: int) -> list[str]:
    """Draw a table's pairs, then its tables and arrays of tables, in any order."""
    names = draw(st.lists(key_names, max_size=4, unique=True))
    cut = draw(st.integers(0, len(names)))
    lines = draw(_body(names[:cut]))
    for name in names[cut:] if depth else []:
        inner = [*path, name]
        pad = draw(st.sampled_from(["", " ", "\t"]))
        if draw(st.booleans()):
            for _ in range(draw(st.integers(1, 2))):
                lines.append(f"{pad}[[{pad}{draw(_dotted(inner))}{pad}]]{pad}# [[x]]")
                lines += draw(_section(inner, depth - 1))
        else:
            own = [f"[{pad}{draw(_dotted(inner))}{pad}]", *draw(_body(draw(_fresh_names)))]
            below = [f"[{draw(_dotted([*inner, 'below', 'it']))}]", *draw(_body(draw(_fresh_names)))]
            parts = draw(st.sampled_from([[own], [below], [own, below], [below, own]]))
            lines += [line for part in parts for line in part]
    return lines


_fresh_names = st.lists(st.sampled_from(["x", "y z", "0", "ü"]), max_size=2, unique=True)


@st.composite
def toml_texts(draw: Draw) -> str:
    """Draw a valid TOML document with unusual spellings and layout."""
    lines = [draw(st.sampled_from(["", "# head", "\n"])), *draw(_section([], 2))]
    text = "\n".join(lines) + draw(st.sampled_from(["", "\n", "\n\n# end", "\t"]))
    return text.replace("\n", "\r\n") if draw(st.booleans()) else text


# --- plain values --------------------------------------------------------------------------------------------

plain_scalars = st.one_of(
    st.booleans(),
    st.integers(-(10**40), 10**40),
    st.floats(),
    st.text(_characters, max_size=12),
    st.dates(),
    st.times().map(lambda time: time.replace(fold=0)),  # TOML has no fold
    st.datetimes(timezones=st.none() | st.just(dt.UTC)).map(lambda stamp: stamp.replace(fold=0)),
)

#: Parsed TOML values.
plain_values = st.recursive(
    plain_scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(key_names, inner, max_size=3),
    max_leaves=8,
)

#: Parsed TOML documents.
plain_tables = st.dictionaries(key_names, plain_values, max_size=4)
