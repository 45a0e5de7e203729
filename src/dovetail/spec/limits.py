"""Limits on a number in a run file, written inside ``Annotated[…]``."""

from __future__ import annotations

from attrs import frozen


@frozen
class Between:
    """Limits a number to ``low ≤ value ≤ high``."""

    low: float
    high: float

    def problem(self, value: float) -> str | None:
        """Say what is wrong with ``value``, or None."""
        return None if self.low <= value <= self.high else f"must be between {self.low:g} and {self.high:g}"


@frozen
class AtLeast:
    """Limits a number to ``value ≥ low``."""

    low: float

    def problem(self, value: float) -> str | None:
        """Say what is wrong with ``value``, or None."""
        return None if value >= self.low else f"must be at least {self.low:g}"


@frozen
class MoreThan:
    """Limits a number to ``value > low``."""

    low: float

    def problem(self, value: float) -> str | None:
        """Say what is wrong with ``value``, or None."""
        return None if value > self.low else f"must be more than {self.low:g}"
