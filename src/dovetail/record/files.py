"""The names of what lies in a run's folder, and what its processes have in common."""

from __future__ import annotations

from typing import Final

RECORD: Final = "run.json"
METRICS: Final = "metrics.jsonl"
ALERTS: Final = "alerts.jsonl"
RESOLVED: Final = "resolved.toml"
LOG: Final = "log.txt"
REPORT: Final = "report.html"

#: Environment variable that tells the processes of one command, also those started anew, from any others.
LAUNCH: Final = "DOVETAIL_LAUNCH"
#: Environment variable of a process that ``--nproc`` started: whoever did says why others ended, so it need not.
WATCHED: Final = "DOVETAIL_WATCHED"
#: Seconds in which a second signal is the first: timeout sends one to the process, and one to the group that it is in.
ECHO: Final = 0.2
