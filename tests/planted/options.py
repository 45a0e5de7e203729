"""A sound loss with an option of every type that a run file can express."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from attrs import field, frozen
from torch import Tensor

from dovetail import AtLeast, Between, Loss, MoreThan, Scheduler
from planted.losses import SoundLoss


class Colour(enum.Enum):
    """An enumeration."""

    RED = "red"
    BLUE = "blue"


@frozen
class Inner:
    """A nested table."""

    size: Annotated[int, AtLeast(1)]
    ratio: Annotated[float, Between(0, 1)] = 0.5
    names: list[str] = field(factory=list)
    deeper: Inner | None = None


class LossOfEveryOption(SoundLoss):
    """Accepts every type of option and ignores it."""

    def __init__(  # noqa: PLR0917 (an option of every type)
        self,
        untyped=None,
        flag: bool = False,
        number: int = 3,
        bounded: Annotated[int, Between(-2, 2)] = 0,
        positive: Annotated[float, MoreThan(0)] = 1.0,
        rate: float | Tensor = 1e-3,
        text: str = "",
        optional: str | None = None,
        either: int | list[float] | Literal["auto"] = "auto",
        mode: Literal["mean", "sum", 3] = "mean",
        colour: Colour = Colour.RED,
        path: Path = Path("here"),
        day: dt.date = dt.date(2026, 1, 1),
        moment: dt.datetime | None = None,
        clock: dt.time = dt.time(12),
        items: Sequence[int] = (),
        pair: tuple[int, str] = (1, "a"),
        many: tuple[float, ...] = (),
        distinct: frozenset[int] = frozenset(),
        ratios: list[Annotated[float, Between(0, 1)]] | None = None,
        table: dict[str, int] | None = None,
        anything: Mapping[str, Any] | None = None,
        inner: Inner | None = None,
        inners: list[Inner] | None = None,
        loss: Loss | None = None,
        losses: list[Loss] | None = None,
        schedules: dict[str, Scheduler] | None = None,
        tensor: Tensor | None = None,
    ):
        """Ignore the options."""
