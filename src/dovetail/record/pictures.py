"""Pictures that the parts of a run draw for its report: SVG that can only be looked at.

A picture goes into the report as it is, so it may hold shapes, text and nothing else: no script, no link, nothing that
is loaded from anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dovetail.storage.atomic import write_atomic

#: The folder of pictures in a run's folder.
FOLDER: Final = "pictures"

_SVG: Final = "http://www.w3.org/2000/svg"
_LARGEST: Final = 2 << 20  # bytes; a report with several larger ones would open slowly
_SHAPES: Final = ("rect", "circle", "ellipse", "line", "polyline", "polygon", "path", "text", "tspan")
_ELEMENTS: Final = frozenset({"svg", "g", "title", "desc", "defs", "linearGradient", "stop", "clipPath", *_SHAPES})
_ATTRIBUTE: Final = re.compile(r"(?!on)[A-Za-z][A-Za-z0-9-]*")
_ELSEWHERE: Final = re.compile(r"url\((?!#)|@import|javascript:|expression\(", re.IGNORECASE)
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,60}")


class PictureError(ValueError):
    """A picture that a report cannot take."""


def write_picture(folder: Path, name: str, svg: str) -> Path:
    """Keep a picture in the run's ``folder``, replacing one of the same name, and return its path.

    Raises:
        PictureError: the name is no plain word, or the picture is no SVG of shapes and text alone.
        OSError: it cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise PictureError(f"a picture is named with 1 to 60 of the characters A-Z a-z 0-9 _ and -, got {name!r}")
    check(name, svg)
    path = folder / FOLDER / f"{name}.svg"
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, svg.encode())
    return path


def read_pictures(folder: Path) -> Iterator[str]:
    """Yield the pictures of the run in ``folder`` by their names' order, leaving out what is none."""
    for path in sorted((folder / FOLDER).glob("*.svg")):
        try:
            svg = path.read_text(encoding="utf-8")
            check(path.stem, svg)
        except (OSError, ValueError):
            continue
        yield svg


def check(name: str, svg: str) -> None:
    """Make sure that a picture is an SVG of shapes and text alone.

    Raises:
        PictureError: says what it is or has instead.
    """
    if len(svg) > _LARGEST:
        raise PictureError(f"picture '{name}' has {len(svg):,} characters, more than {_LARGEST:,}; draw less")
    if "<!" in svg or "<?" in svg:
        raise PictureError(f"picture '{name}' has a declaration or a comment; begin with <svg>")
    import xml.etree.ElementTree as ET  # here, as most runs draw no picture of their own, and it takes 0.4 MB of memory

    try:
        root = ET.fromstring(svg)  # noqa: S314 (declarations, by which XML grows or reads files, are refused above)
    except ET.ParseError as error:
        raise PictureError(f"picture '{name}' is no well-formed XML: {error}") from error
    if root.tag != f"{{{_SVG}}}svg":
        raise PictureError(f"picture '{name}' does not begin with <svg xmlns=\"{_SVG}\">")
    for element in root.iter():
        tag = element.tag.removeprefix(f"{{{_SVG}}}")
        if tag not in _ELEMENTS:
            raise PictureError(f"picture '{name}' has a <{tag}>; there may be {', '.join(sorted(_ELEMENTS))}")
        for attribute, value in element.items():
            if not _ATTRIBUTE.fullmatch(attribute) or _ELSEWHERE.search(value):
                raise PictureError(f"picture '{name}' has {attribute}={value[:40]!r}, which reaches beyond the picture")
