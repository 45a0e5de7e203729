"""Helpers for HTML, used by all sections of the report."""

from __future__ import annotations

import html
import re
from typing import Final

_ILLEGAL: Final = re.compile(r"[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")


def escape(value: object) -> str:
    """Return ``value`` as text for HTML and SVG: markup escaped, characters that XML forbids replaced."""
    return html.escape(_ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", str(value)))


def card(content: str) -> str:
    """Return ``content`` on a card."""
    return f'<figure class="card">{content}</figure>'
