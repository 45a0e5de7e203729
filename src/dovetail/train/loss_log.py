"""Losses, kept on the device until somebody reads them.

A step writes its loss into memory that the host can see, without waiting for the device. One step later the value is
looked at, so a loss that is not a number is noticed at once on the CPU, and elsewhere as soon as the copy has arrived.
Sums are made when they are read: at the logging cadence and at the end of an epoch.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, Final

import attrs
import torch
from attrs import define, field, frozen
from torch import Tensor

if TYPE_CHECKING:
    from dovetail.distributed.group import Group
    from dovetail.losses.result import LossResult

_NONE: Final[Mapping[str, float]] = {}

#: Kinds of devices whose values the host reads without waiting for anything.
HOSTS = frozenset({"cpu"})


@define
class Sums:
    """Weighted sums of a loss and of its parts, added up one batch after another in double precision."""

    total: float = 0.0
    weight: float = 0.0
    #: By the part's name: (weighted sum, weight).
    parts: dict[str, tuple[float, float]] = field(factory=dict)
    #: The largest finite norm of the gradients before clipping; None where there was none.
    gradient_norm: float | None = None
    samples: int = 0

    def means(self, prefix: str) -> dict[str, float]:
        """Return the mean loss and its parts as ``{prefix}_loss``, ``{prefix}_{part}``; NaN where nothing was added."""
        figures = {f"{prefix}_loss": self.total / self.weight if self.weight else math.nan}
        for name, (total, weight) in self.parts.items():
            figures[f"{prefix}_{name}"] = total / weight if weight else math.nan
        return figures


def add_up(several: Sequence[Sums]) -> Sums:
    """Return the sums of several processes together."""
    if len(several) == 1:
        return several[0]
    norms = [one.gradient_norm for one in several if one.gradient_norm is not None]
    parts: dict[str, tuple[float, float]] = {}
    for one in several:
        for name, (total, weight) in one.parts.items():
            before = parts.get(name, (0.0, 0.0))
            parts[name] = before[0] + total, before[1] + weight
    return Sums(
        total=sum(one.total for one in several),
        weight=sum(one.weight for one in several),
        parts=parts,
        gradient_norm=max(norms, default=None),
        samples=sum(one.samples for one in several),
    )


@frozen
class Faults:
    """Losses and gradients that were NaN or infinite: how many batches, and how many updates, ago; 0 is the last."""

    batches: tuple[int, ...] = ()
    updates: tuple[int, ...] = ()

    def and_those(self, others: Sequence[Faults]) -> Faults:
        """Return these together with those that others have seen."""
        several = (self, *others)
        batches, updates = ({ago for one in several for ago in getattr(one, name)} for name in ("batches", "updates"))
        return Faults(tuple(sorted(batches, reverse=True)), tuple(sorted(updates, reverse=True)))

    def __bool__(self) -> bool:
        return bool(self.batches or self.updates)


@frozen
class _Numbers:
    """What was on a tape, read."""

    totals: Sequence[float]
    weights: Sequence[float]
    norms: Sequence[float]
    #: By the batch's place.
    parts: Mapping[int, Mapping[str, float]]
    #: Places of batches that do not count.
    left_out: AbstractSet[int]

    def add_to(self, sums: Sums, begin: tuple[int, int, int], end: tuple[int, int, int]) -> None:
        """Add a stretch of the tape to ``sums``: from so many losses, norms and samples to so many."""
        sums.samples += end[2] - begin[2]
        for norm in self.norms[begin[1] : end[1]]:
            if math.isfinite(norm):
                sums.gradient_norm = max(norm, sums.gradient_norm or 0.0)
        # One after another and not as one sum, so that it makes no difference when the tape is read.
        for place in range(begin[0], end[0]):
            counts = place not in self.left_out
            weight = self.weights[place] if counts else 0.0
            if counts:
                sums.total += self.totals[place] * weight
                sums.weight += weight
            for name, value in self.parts.get(place, _NONE).items():
                total, of = sums.parts.get(name, (0.0, 0.0))
                sums.parts[name] = (total + value * weight, of + weight) if counts else (total, of)


class LossTape:
    """Takes the losses of batches, and gives their means."""

    def __init__(self, device: torch.device, length: int = 64, *, leave_out_faults: bool = False) -> None:
        """Make room for ``length`` batches between two readings; a fuller tape reads itself.

        Args:
            device: where losses are.
            length: how many.
            leave_out_faults: leave batches whose loss is NaN or infinite out of the sums.
        """
        self._device, self._leave_out_faults = device, leave_out_faults
        # Batches and updates since the tape was made, and which of them were no numbers.
        self._batches = self._updates = 0
        self._faults: tuple[list[int], list[int]] = ([], [])
        # Infinite stands for a value that has not arrived from the device. Where there is nothing to wait for, a number
        # is read for less than it takes to copy it.
        self._seen: Any = [math.inf] * length
        self._slots: list[Tensor] | None = None
        if device.type not in HOSTS:
            memory = torch.full((length,), math.inf, pin_memory=device.type == "cuda")
            self._slots, self._seen = list(memory.unbind()), memory.numpy()
        self._looked_at = 0
        self._weights: list[Tensor | float] = []
        self._parts: list[tuple[int, dict[str, Tensor]]] = []
        self._norms: list[Tensor | float] = []
        self._samples = 0
        # Where intervals end that were cut off: how many losses, norms and samples were on the tape.
        self._cuts: list[tuple[int, int, int]] = []
        #: Since the epoch began, and since the last interval was cut off.
        self.epoch, self.interval = Sums(), Sums()
        # Intervals that were cut off and read, the oldest first.
        self._intervals: deque[Sums] = deque()
        self._norm_broken = False

    def add(self, result: LossResult, samples: int) -> None:
        """Take the loss of one batch; its ``total`` is detached."""
        place = len(self._weights)
        if place == len(self._seen):
            self.read()
            place = 0
        if self._slots is None:
            self._seen[place] = float(result.total)
        else:
            self._slots[place].copy_(result.total, non_blocking=True)
        self._weights.append(result.weight)
        self._samples += samples
        if result.parts:
            # Detached, because a part that is only for the log would keep its whole graph alive.
            self._parts.append((place, {name: value.detach() for name, value in result.parts.items()}))

    def add_norm(self, norm: Tensor | float) -> None:
        """Take the norm of an update's gradients: a number, or a 0-d tensor on the device."""
        self._norms.append(norm)
        if isinstance(norm, float) and not math.isfinite(norm):
            self._norm_broken = True

    def broken(self) -> bool:
        """Say whether a loss or norm that has arrived is NaN or infinite, without waiting for those that have not."""
        if self._norm_broken or self._faults[0] or self._faults[1]:  # the last two were seen while reading
            return True
        while self._looked_at < len(self._weights):
            value = self._seen[self._looked_at]
            if not math.isfinite(value):
                # Where something has to arrive, infinite may mean "not yet", and reading will tell.
                return self._slots is None or math.isnan(value)
            self._looked_at += 1
        return False

    def read(self) -> None:
        """Wait for the device and add what is on the tape to the sums."""
        if not self._weights:
            for _ in self._cuts:
                self._end_interval()
            self._cuts = []
            return
        if self._device.type != "cpu":
            torch.accelerator.synchronize(self._device)
        totals, weights, norms = list(map(float, self._seen)), _values(self._weights), _values(self._norms)
        faults = [place for place in range(len(weights)) if not math.isfinite(totals[place])]
        left_out = set(faults) if self._leave_out_faults else set()
        self._faults[0].extend(self._batches + place for place in faults)
        self._faults[1].extend(self._updates + place for place, norm in enumerate(norms) if not math.isfinite(norm))
        self._batches, self._updates = self._batches + len(weights), self._updates + len(norms)
        read = _Numbers(totals, weights, norms, _by_place(self._parts), left_out)
        begin, end = (0, 0, 0), (len(weights), len(norms), self._samples)
        read.add_to(self.epoch, begin, end)
        for cut in self._cuts:
            read.add_to(self.interval, begin, cut)
            self._end_interval()
            begin = cut
        read.add_to(self.interval, begin, end)
        self._clear()

    def take_faults(self) -> Faults:
        """Wait for the device, and return what was NaN or infinite since the last call."""
        self.read()
        batches, updates = self._faults
        self._faults = ([], [])
        return Faults(
            tuple(self._batches - 1 - one for one in batches), tuple(self._updates - 1 - one for one in updates)
        )

    def cut(self) -> None:
        """End the interval here, without waiting for the device; :meth:`take_interval` gives its sums."""
        self._cuts.append((len(self._weights), len(self._norms), self._samples))

    def take_interval(self) -> Sums:
        """Return the sums of the oldest interval that was cut off and not yet taken, waiting for the device if need be.

        Raises:
            IndexError: there is none.
        """
        if not self._intervals:
            self.read()
        return self._intervals.popleft()

    def start_interval(self) -> Sums:
        """Return the sums since the last interval was cut off, and begin anew."""
        self.read()
        done, self.interval = self.interval, Sums()
        return done

    def _end_interval(self) -> None:
        self._intervals.append(self.interval)
        self.interval = Sums()

    def start_epoch(self) -> Sums:
        """Return the sums of the epoch, and begin anew."""
        self.read()
        done, self.epoch = self.epoch, Sums()
        return done

    def state_dict(self) -> dict[str, Any]:
        """Return the sums of the epoch and the interval under way."""
        self.read()
        return {"epoch": attrs.asdict(self.epoch), "interval": attrs.asdict(self.interval)}

    def take_up(self, states: Sequence[Mapping[str, Any]], group: Group) -> None:
        """Go on from the sums of every process; where there were more or fewer, the leader has those of all."""
        if len(states) == group.size:
            self.load_state_dict(states[group.rank])
        elif group.leads:
            self.epoch = add_up([Sums(**one["epoch"]) for one in states])
            self.interval = add_up([Sums(**one["interval"]) for one in states])

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from sums that :meth:`state_dict` gave."""
        self._clear()
        self.epoch, self.interval = Sums(**state["epoch"]), Sums(**state["interval"])

    def _clear(self) -> None:
        self._weights, self._parts, self._norms, self._cuts = [], [], [], []
        self._norm_broken = False
        self._samples = self._looked_at = 0
        self._seen[:] = [math.inf] * len(self._seen)


def _values(values: list[Any]) -> list[float]:
    """Return numbers and 0-d tensors as floats, the tensors in one transfer."""
    places = [place for place, value in enumerate(values) if isinstance(value, Tensor)]
    if not places:
        return [float(value) for value in values]
    read = torch.stack([values[place].detach().double() for place in places]).tolist()
    found = dict(zip(places, read, strict=True))
    return [found[place] if place in found else float(value) for place, value in enumerate(values)]


def _by_place(parts: list[tuple[int, dict[str, Tensor]]]) -> dict[int, dict[str, float]]:
    """Return the parts of each batch's loss by the batch's place, all read in one transfer."""
    values = iter(_values([value for _, named in parts for value in named.values()]))
    return {place: {name: next(values) for name in named} for place, named in parts}
