"""Text made safe for HTML and SVG."""

from __future__ import annotations

import html
import re
from typing import Final

_ILLEGAL: Final = re.compile(r"[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")


def escape(value: object) -> str:
    """Return ``value`` as text: markup in it is inert, and characters that no document may hold are replaced."""
    return html.escape(_ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", str(value)))
