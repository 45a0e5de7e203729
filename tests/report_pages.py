"""Reading reports in tests."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

NASTY = "<script>alert('x')</script> & \"quotes\" \x00\x1b"


def read(path: Path) -> tuple[str, ET.Element]:
    """Return a page as text and as a tree; it must be well-formed XML."""
    text = path.read_text(encoding="utf-8")
    return text, ET.fromstring(text.removeprefix("<!DOCTYPE html>"))  # noqa: S314 (we wrote it)


def words(tree: ET.Element) -> str:
    """Return all text of a page on one line."""
    return " ".join(" ".join(tree.itertext()).split())
