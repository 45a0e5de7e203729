"""The losses of batches, kept on the device until figures are read.

A step copies its loss into memory that the host can see, without waiting for the device. One step later the host looks
at the value, so a non-finite loss is noticed at once on the CPU, and on other devices as soon as the copy has arrived.
Sums are computed when they are read: at the logging cadence and at the end of an epoch.
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

#: Types of devices whose values the host reads without waiting.
HOSTS = frozenset({"cpu"})


@define
class Sums:
    """Weighted sums of a loss and its parts, accumulated batch by batch in double precision."""

    total: float = 0.0
    weight: float = 0.0
    #: (weighted sum, weight) by the name of the part.
    parts: dict[str, tuple[float, float]] = field(factory=dict)
    #: The largest finite gradient norm before clipping; None if none was measured.
    gradient_norm: float | None = None
    samples: int = 0

    def means(self, prefix: str) -> dict[str, float]:
        """Return the mean loss and its parts as ``{prefix}_loss``, ``{prefix}_{part}``; NaN without any weight."""
        figures = {f"{prefix}_loss": self.total / self.weight if self.weight else math.nan}
        for name, (total, weight) in self.parts.items():
            figures[f"{prefix}_{name}"] = total / weight if weight else math.nan
        return figures


def merge_sums(several: Sequence[Sums]) -> Sums:
    """Return the sums of several processes together."""
    if len(several) == 1:
        return several[0]
    norms = [sums.gradient_norm for sums in several if sums.gradient_norm is not None]
    parts: dict[str, tuple[float, float]] = {}
    for sums in several:
        for name, (total, weight) in sums.parts.items():
            before = parts.get(name, (0.0, 0.0))
            parts[name] = before[0] + total, before[1] + weight
    return Sums(
        total=sum(sums.total for sums in several),
        weight=sum(sums.weight for sums in several),
        parts=parts,
        gradient_norm=max(norms, default=None),
        samples=sum(sums.samples for sums in several),
    )


@frozen
class Faults:
    """Non-finite losses and gradients: how many batches, and how many updates, ago; 0 is the last."""

    batches: tuple[int, ...] = ()
    updates: tuple[int, ...] = ()

    def merged(self, others: Sequence[Faults]) -> Faults:
        """Return these together with those of other processes."""
        several = (self, *others)
        batches, updates = (
            {ago for faults in several for ago in getattr(faults, name)} for name in ("batches", "updates")
        )
        return Faults(tuple(sorted(batches, reverse=True)), tuple(sorted(updates, reverse=True)))

    def __bool__(self) -> bool:
        return bool(self.batches or self.updates)


@frozen
class _Numbers:
    """The content of a log, read from the device."""

    totals: Sequence[float]
    weights: Sequence[float]
    norms: Sequence[float]
    #: The parts of a batch's loss, by the batch's place in the log.
    parts: Mapping[int, Mapping[str, float]]
    #: Places of batches that do not count.
    left_out: AbstractSet[int]

    def add_to(self, sums: Sums, begin: tuple[int, int, int], end: tuple[int, int, int]) -> None:
        """Add a stretch of the log to ``sums``; its ends are numbers of losses, norms and samples."""
        sums.samples += end[2] - begin[2]
        for norm in self.norms[begin[1] : end[1]]:
            if math.isfinite(norm):
                sums.gradient_norm = max(norm, sums.gradient_norm or 0.0)
        # One by one rather than with sum(), so that the result does not depend on when the log is read.
        for place in range(begin[0], end[0]):
            counts = place not in self.left_out
            weight = self.weights[place] if counts else 0.0
            if counts:
                sums.total += self.totals[place] * weight
                sums.weight += weight
            for name, value in self.parts.get(place, _NONE).items():
                total, seen = sums.parts.get(name, (0.0, 0.0))
                sums.parts[name] = (total + value * weight, seen + weight) if counts else (total, seen)


class LossLog:
    """Collects the losses of batches, and returns their means."""

    def __init__(self, device: torch.device, length: int = 64, *, leave_out_faults: bool = False) -> None:
        """Make room for ``length`` batches between two reads; a full log reads itself.

        Args:
            device: the device of the losses.
            length: how many losses fit.
            leave_out_faults: leave batches with a non-finite loss out of the sums.
        """
        self._device, self._leave_out_faults = device, leave_out_faults
        # Batches and updates since the log was made, and which of them were non-finite.
        self._batches = self._updates = 0
        self._faults: tuple[list[int], list[int]] = ([], [])
        # Infinity stands for a value that has not arrived yet. On a host device, reading a number is cheaper than
        # copying it.
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
        # The ends of intervals that are complete but not read: numbers of losses, norms and samples.
        self._cuts: list[tuple[int, int, int]] = []
        #: The sums since the epoch began, and since the last interval ended.
        self.epoch, self.interval = Sums(), Sums()
        # Intervals that are complete and read, the oldest first.
        self._intervals: deque[Sums] = deque()
        self._norm_broken = False

    def add(self, result: LossResult, samples: int) -> None:
        """Add the loss of one batch; its ``total`` is detached."""
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
            # Detached: a part that is only logged would otherwise keep its whole graph alive.
            self._parts.append((place, {name: value.detach() for name, value in result.parts.items()}))

    def add_norm(self, norm: Tensor | float) -> None:
        """Add the gradient norm of an update: a number, or a 0-d tensor on the device."""
        self._norms.append(norm)
        if isinstance(norm, float) and not math.isfinite(norm):
            self._norm_broken = True

    def broken(self) -> bool:
        """Return whether a loss or norm that has arrived is non-finite, without waiting for the others."""
        if self._norm_broken or self._faults[0] or self._faults[1]:  # the last two were found while reading
            return True
        while self._looked_at < len(self._weights):
            value = self._seen[self._looked_at]
            if not math.isfinite(value):
                # Where values must arrive first, infinity may mean "not yet"; reading will tell.
                return self._slots is None or math.isnan(value)
            self._looked_at += 1
        return False

    def read(self) -> None:
        """Wait for the device and add the content of the log to the sums."""
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
        numbers = _Numbers(totals, weights, norms, _by_place(self._parts), left_out)
        begin, end = (0, 0, 0), (len(weights), len(norms), self._samples)
        numbers.add_to(self.epoch, begin, end)
        for cut in self._cuts:
            numbers.add_to(self.interval, begin, cut)
            self._end_interval()
            begin = cut
        numbers.add_to(self.interval, begin, end)
        self._clear()

    def take_faults(self) -> Faults:
        """Wait for the device, and return what was non-finite since the last call."""
        self.read()
        batches, updates = self._faults
        self._faults = ([], [])
        return Faults(
            tuple(self._batches - 1 - place for place in batches), tuple(self._updates - 1 - place for place in updates)
        )

    def end_interval(self) -> None:
        """End the interval here, without waiting for the device; :meth:`take_interval` returns its sums."""
        self._cuts.append((len(self._weights), len(self._norms), self._samples))

    def take_interval(self) -> Sums:
        """Return the sums of the oldest complete interval that was not taken yet; may wait for the device.

        Raises:
            IndexError: there is none.
        """
        if not self._intervals:
            self.read()
        return self._intervals.popleft()

    def start_interval(self) -> Sums:
        """Return the sums since the last interval ended, and start a new one."""
        self.read()
        done, self.interval = self.interval, Sums()
        return done

    def _end_interval(self) -> None:
        self._intervals.append(self.interval)
        self.interval = Sums()

    def end_epoch(self) -> Sums:
        """Return the sums of the epoch, and start a new one."""
        self.read()
        done, self.epoch = self.epoch, Sums()
        return done

    def state_dict(self) -> dict[str, Any]:
        """Return the sums of the current epoch and interval."""
        self.read()
        return {"epoch": attrs.asdict(self.epoch), "interval": attrs.asdict(self.interval)}

    def restore(self, states: Sequence[Mapping[str, Any]], group: Group) -> None:
        """Continue from the sums of every process; after a change of world size, rank 0 gets the sums of all."""
        if len(states) == group.size:
            self.load_state_dict(states[group.rank])
        elif group.leads:
            self.epoch = merge_sums([Sums(**state["epoch"]) for state in states])
            self.interval = merge_sums([Sums(**state["interval"]) for state in states])

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from sums that :meth:`state_dict` returned."""
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
