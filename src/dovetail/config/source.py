"""The text of a file, read within bounds whatever the path names."""

from __future__ import annotations

import codecs
import os
import stat
from itertools import islice
from typing import Final, NoReturn

from dovetail.config.diagnostics import ConfigError, Origin, Problem, suggest
from dovetail.config.locate import Lines

#: How many bytes a run file may have.
MAX_BYTES: Final = 1_000_000


def read_text(name: str) -> str:
    """Return the text of a UTF-8 file.

    Raises:
        ConfigError: with one problem: the file cannot be read, is no regular file, is larger than 1 MB, or is
            not UTF-8.
    """
    return _decode(_read(name), name)


def _read(name: str) -> bytes:
    try:
        with open(name, "rb", opener=_without_waiting) as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(MAX_BYTES + 1) if stat.S_ISREG(mode) else None
    except FileNotFoundError as error:
        _refuse(name, f"{_reason(error)}{_near_files(name)}")
    except (OSError, ValueError) as error:
        _refuse(name, _reason(error))
    if data is None:
        _refuse(name, f"is {'a pipe' if stat.S_ISFIFO(mode) else 'a device'}, not a file")
    if len(data) > MAX_BYTES:
        _refuse(name, f"is larger than {MAX_BYTES // 1_000_000} MB; no run file needs that")
    return data


def _without_waiting(name: str, flags: int) -> int:
    """Open a file; a pipe nobody writes to must not block."""
    return os.open(name, flags | os.O_NONBLOCK)


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return "no file can have such a name"


def _near_files(name: str) -> str:
    folder, base = os.path.split(name)
    try:
        with os.scandir(folder or ".") as entries:
            names = [entry.name for entry in islice(entries, 1000) if entry.name.endswith(".toml")]
    except OSError:
        return ""
    return suggest(base, names)


def _decode(data: bytes, name: str) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        _refuse(name, "is UTF-16; save it as UTF-8")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig")
        wrong = f"the byte 0x{data[error.start]:02X} is not UTF-8; save the file as UTF-8"
        raise ConfigError([Problem(Origin(name, *Lines(before).place(len(before))), "", wrong)]) from None
    return text


def _refuse(name: str, message: str) -> NoReturn:
    raise ConfigError([Problem(Origin(name), "", message)]) from None
