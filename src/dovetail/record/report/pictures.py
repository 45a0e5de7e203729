"""Pictures that the parts of a run draw for its report.

A picture becomes part of the report without changes, so it may only contain shapes and text: no scripts, no links,
nothing that is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dovetail.storage.atomic import write_atomic

#: The subfolder of a run's folder that holds pictures.
FOLDER: Final = "pictures"

_SVG: Final = "http://www.w3.org/2000/svg"
_LARGEST: Final = 2 << 20  # bytes; larger pictures would make the report slow to open
_SHAPES: Final = ("rect", "circle", "ellipse", "line", "polyline", "polygon", "path", "text", "tspan")
_ELEMENTS: Final = frozenset({"svg", "g", "title", "desc", "defs", "linearGradient", "stop", "clipPath", *_SHAPES})
_ATTRIBUTE: Final = re.compile(r"(?!on)[A-Za-z][A-Za-z0-9-]*")
_ELSEWHERE: Final = re.compile(r"url\((?!#)|@import|javascript:|expression\(", re.IGNORECASE)
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,60}")


class PictureError(ValueError):
    """A picture that cannot be part of a report."""


def write_picture(folder: Path, name: str, svg: str) -> Path:
    """Write a picture to the run's ``folder``, replacing one of the same name, and return its path.

    Raises:
        PictureError: the name is not a plain word, or the picture is not an SVG of shapes and text alone.
        OSError: the file cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise PictureError(f"picture {name!r}: the name must have 1 to 60 of the characters A-Z a-z 0-9 _ and -")
    check_picture(name, svg)
    path = folder / FOLDER / f"{name}.svg"
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, svg.encode())
    return path


def read_pictures(folder: Path) -> Iterator[str]:
    """Yield the pictures of the run in ``folder`` in the order of their names, skipping invalid ones."""
    for path in sorted((folder / FOLDER).glob("*.svg")):
        try:
            svg = path.read_text(encoding="utf-8")
            check_picture(path.stem, svg)
        except (OSError, ValueError):
            continue
        yield svg


def check_picture(name: str, svg: str) -> None:
    """Check that a picture is an SVG of shapes and text alone.

    Raises:
        PictureError: it is not; the message says why.
    """
    if len(svg) > _LARGEST:
        raise PictureError(f"picture '{name}' has {len(svg):,} characters, more than {_LARGEST:,}; draw less")
    if "<!" in svg or "<?" in svg:
        raise PictureError(f"picture '{name}' contains a declaration or a comment; start with <svg>")
    import xml.etree.ElementTree as ET  # most runs draw no pictures, and this import takes 0.4 MB

    try:
        root = ET.fromstring(svg)  # noqa: S314 (declarations, with which XML can expand or read files, are refused above)
    except ET.ParseError as error:
        raise PictureError(f"picture '{name}' is not well-formed XML: {error}") from error
    if root.tag != f"{{{_SVG}}}svg":
        raise PictureError(f"picture '{name}' does not start with <svg xmlns=\"{_SVG}\">")
    for element in root.iter():
        tag = element.tag.removeprefix(f"{{{_SVG}}}")
        if tag not in _ELEMENTS:
            raise PictureError(
                f"picture '{name}' contains <{tag}>, which is not allowed; use only {', '.join(sorted(_ELEMENTS))}"
            )
        for attribute, value in element.items():
            if not _ATTRIBUTE.fullmatch(attribute) or _ELSEWHERE.search(value):
                raise PictureError(
                    f"picture '{name}' contains {attribute}={value[:40]!r}, which refers to something outside of it"
                )
