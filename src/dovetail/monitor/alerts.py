"""Alerts: something went wrong that need not end the run. What is told, to whom, and how often."""

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

    #: What it is about, for programs: ``"val_loss_spike"``, ``"drift"``, ``"gradient_norm"`` …
    type: str
    #: What happened, for people.
    message: str
    severity: Severity = "warning"
    epoch: int = 0
    step: int = 0
    #: The figures behind it; ``repeats``, where others like it were held back since the last that was told.
    details: Mapping[str, Any] = field(factory=dict)
    time: dt.datetime = field(factory=lambda: dt.datetime.now(dt.UTC))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, the time in ISO 8601."""
        return {**attrs.asdict(self), "details": dict(self.details), "time": self.time.isoformat()}


@define
class _Told:
    step: int
    rank: int
    held_back: int = 0


class AlertManager:
    """Passes alerts on, but not the same one again and again.

    Args:
        listeners: each is called with every alert that is told.
        history: how many of the last alerts :attr:`alerts` keeps.
    """

    def __init__(self, *listeners: Callable[[Alert], object], history: int = 1000) -> None:
        self._listeners = list(listeners)
        self._told: dict[tuple[str, str], _Told] = {}
        #: Those told, oldest first.
        self.alerts: deque[Alert] = deque(maxlen=history)

    def listen(self, listener: Callable[[Alert], object]) -> None:
        """Call ``listener`` with every alert from now on."""
        self._listeners.append(listener)

    def tell(self, alert: Alert, *, about: str = "", cooldown: float = 0) -> bool:
        """Pass ``alert`` on, and say whether it was.

        Args:
            alert: the alert.
            about: what it is about among others of its type, such as a layer's name.
            cooldown: for so many updates after one that was told, another of the same type and ``about`` is held back,
                unless it is more severe.
        """
        key, rank = (alert.type, about), _RANKS[alert.severity]
        last = self._told.get(key)
        if last is not None and rank <= last.rank and alert.step - last.step < cooldown:
            last.held_back += 1
            return False
        if last is not None and last.held_back:
            alert = evolve(alert, details={**alert.details, "repeats": last.held_back})
        self._told[key] = _Told(alert.step, rank)
        self.alerts.append(alert)
        for listener in self._listeners:
            listener(alert)
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return which alerts are being held back."""
        return {"told": [(*key, one.step, one.rank, one.held_back) for key, one in self._told.items()]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self._told = {(kind, about): _Told(*rest) for kind, about, *rest in state["told"]}

    def has_alerts(self) -> bool:
        """Say whether any was told."""
        return bool(self.alerts)

    def get_alerts(self) -> list[dict[str, Any]]:
        """Return those told, oldest first, with ``type``, ``message``, ``severity``, ``epoch``, ``step`` …."""
        return [one.to_dict() for one in self.alerts]
