"""Alerts: something that went wrong but need not end the run. Who gets them, and how often."""

from __future__ import annotations

import datetime as dt
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import attrs
from attrs import define, evolve, field, frozen

Severity = Literal["warning", "critical"]

_RANKS: Final[Mapping[str, int]] = {"warning": 0, "critical": 1}


@frozen
class Alert:
    """Something that went wrong without ending the run."""

    #: The kind of alert, for programs: ``"val_loss_spike"``, ``"drift"``, ``"gradient_norm"`` …
    type: str
    #: What happened, for people.
    message: str
    severity: Severity = "warning"
    epoch: int = 0
    step: int = 0
    #: The values behind it; ``repeats``, if any, is the number of similar alerts suppressed before this one.
    details: Mapping[str, Any] = field(factory=dict)
    time: dt.datetime = field(factory=lambda: dt.datetime.now(dt.UTC))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, the time in ISO 8601."""
        return {**attrs.asdict(self), "details": dict(self.details), "time": self.time.isoformat()}


@define
class _Last:
    """The last alert of a kind that was passed on."""

    step: int
    rank: int
    suppressed: int = 0


class AlertManager:
    """Passes alerts on to listeners, and suppresses repeats.

    Args:
        listeners: each is called with every alert that is passed on.
        history: how many of the latest alerts :attr:`alerts` keeps.
    """

    def __init__(self, *listeners: Callable[[Alert], object], history: int = 1000) -> None:
        self._listeners = list(listeners)
        self._last: dict[tuple[str, str], _Last] = {}
        #: The alerts that were passed on, oldest first.
        self.alerts: deque[Alert] = deque(maxlen=history)

    def listen(self, listener: Callable[[Alert], object]) -> None:
        """Call ``listener`` with every alert from now on."""
        self._listeners.append(listener)

    def tell(self, alert: Alert, *, about: str = "", cooldown: float = 0) -> bool:
        """Pass ``alert`` on unless it is a repeat, and return whether it was passed on.

        Args:
            alert: the alert.
            about: the subject, among alerts of the same type, such as a layer's name.
            cooldown: for this many updates after an alert, suppress others with the same type and ``about``, unless
                they are more severe.
        """
        key, rank = (alert.type, about), _RANKS[alert.severity]
        last = self._last.get(key)
        if last is not None and rank <= last.rank and alert.step - last.step < cooldown:
            last.suppressed += 1
            return False
        if last is not None and last.suppressed:
            alert = evolve(alert, details={**alert.details, "repeats": last.suppressed})
        self._last[key] = _Last(alert.step, rank)
        self.alerts.append(alert)
        for listener in self._listeners:
            listener(alert)
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return the state of suppressed alerts."""
        return {"told": [(*key, last.step, last.rank, last.suppressed) for key, last in self._last.items()]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state."""
        self._last = {(kind, about): _Last(*rest) for kind, about, *rest in state["told"]}

    def has_alerts(self) -> bool:
        """Return whether any alert was passed on."""
        return bool(self.alerts)

    def get_alerts(self) -> list[dict[str, Any]]:
        """Return the alerts, oldest first, as dicts of ``type``, ``message``, ``severity``, ``epoch``, ``step`` …."""
        return [alert.to_dict() for alert in self.alerts]
