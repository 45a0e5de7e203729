"""The alerts of a run, on the report's page: what went wrong without ending it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from dovetail.record.files import ALERTS
from dovetail.record.markup import escape
from dovetail.record.runs import read_events

_MOST: Final = 50


def alerts_section(folder: Path) -> str:
    """Return a table of a run's alerts, the oldest first; of very many the first, and nothing where there are none."""
    alerts = [one for one in read_events(folder, ALERTS) if one.get("message")]
    if not alerts:
        return ""
    rows = "".join(
        f'<tr><td class="n">{escape(one.get("epoch", ""))}</td><td class="n">{escape(one.get("step", ""))}</td>'
        f"<td>{escape(one.get('severity', ''))}</td><td>{escape(one['message'])}</td></tr>"
        for one in alerts[:_MOST]
    )
    left = len(alerts) - _MOST
    more = f'<p class="muted">and {left:,} more in <code>{ALERTS}</code></p>' if left > 0 else ""
    head = '<th class="n">epoch</th><th class="n">step</th><th></th><th>what was noticed</th>'
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<h2>Alerts</h2><div class="card">{table}{more}</div>'
