"""Fault frequencies of rolling-element bearings, from their geometry."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from attrs import field, frozen
from attrs.validators import ge, gt


@frozen
class FaultFrequencies:
    """The fault frequencies of a bearing, in Hz or as multiples of the shaft's frequency (orders)."""

    #: Ball-pass frequency of the outer race, which stands still.
    bpfo: float
    #: Ball-pass frequency of the inner race, which turns with the shaft.
    bpfi: float
    #: Ball spin frequency. A fault on a ball strikes both races in one spin, so impacts come at twice this frequency.
    bsf: float
    #: Fundamental train frequency: the rotation of the cage.
    ftf: float

    def at(self, shaft_hz: float) -> FaultFrequencies:
        """Return these orders in Hz, for a shaft that turns ``shaft_hz`` times a second."""
        return FaultFrequencies(self.bpfo * shaft_hz, self.bpfi * shaft_hz, self.bsf * shaft_hz, self.ftf * shaft_hz)


@frozen(kw_only=True)
class BearingGeometry:
    """The dimensions of a rolling-element bearing whose outer race stands still.

    Give both diameters in the same unit, whichever it is: only their ratio counts.

    Raises:
        ValueError: there are fewer than 2 elements, a diameter is not positive, the elements are as wide as the pitch
            circle or wider, or the angle is outside [0, 90).
    """

    #: Number of rolling elements.
    elements: int = field(validator=ge(2))
    #: Diameter of a rolling element.
    element_diameter: float = field(validator=gt(0))
    #: Diameter of the pitch circle, on which the centres of the elements run.
    pitch_diameter: float = field(validator=gt(0))
    #: Contact angle in degrees, 0 for a deep-groove bearing under radial load.
    contact_angle: float = field(default=0.0, validator=ge(0))

    def __attrs_post_init__(self) -> None:
        """Check the dimensions against one another."""
        if self.element_diameter >= self.pitch_diameter:
            raise ValueError(
                f"element_diameter = {self.element_diameter:g} must be less than pitch_diameter = "
                f"{self.pitch_diameter:g}"
            )
        if self.contact_angle >= 90:  # noqa: PLR2004 (degrees: a right angle)
            raise ValueError(f"contact_angle must be less than 90 degrees, got {self.contact_angle:g}")

    def orders(self) -> FaultFrequencies:
        """Return the fault frequencies as multiples of the shaft's frequency.

        They hold for rolling without slip; in practice 1 to 2 % of slip shifts them.

        Source:
            Randall and Antoni, Rolling element bearing diagnostics – a tutorial, Mechanical Systems and Signal
            Processing 25 (2011), equations 1 to 4.
        """
        ratio = self.element_diameter / self.pitch_diameter * math.cos(math.radians(self.contact_angle))
        return FaultFrequencies(
            bpfo=self.elements / 2 * (1 - ratio),
            bpfi=self.elements / 2 * (1 + ratio),
            bsf=self.pitch_diameter / (2 * self.element_diameter) * (1 - ratio**2),
            ftf=(1 - ratio) / 2,
        )

    def frequencies(self, shaft_hz: float) -> FaultFrequencies:
        """Return the fault frequencies in Hz for a shaft that turns ``shaft_hz`` times a second."""
        return self.orders().at(shaft_hz)


#: Bearings of public test rigs; dimensions in inches, as published.
BEARINGS: Final[Mapping[str, BearingGeometry]] = {
    # Case Western Reserve University, drive end and fan end.
    "SKF-6205": BearingGeometry(elements=9, element_diameter=0.3126, pitch_diameter=1.537),
    "SKF-6203": BearingGeometry(elements=8, element_diameter=0.2656, pitch_diameter=1.122),
    # Society for Machinery Failure Prevention Technology (MFPT).
    "NICE-MFPT": BearingGeometry(elements=8, element_diameter=0.235, pitch_diameter=1.245),
}


def bearing(name: str) -> BearingGeometry:
    """Return a bearing of :data:`BEARINGS` by name; ValueError, with the known names, if there is none."""
    if name not in BEARINGS:
        raise ValueError(f"unknown bearing '{name}'; known are {', '.join(BEARINGS)}")
    return BEARINGS[name]
