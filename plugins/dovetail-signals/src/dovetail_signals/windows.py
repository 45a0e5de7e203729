"""Recordings cut into windows: a dataset that knows the recording of each window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, Self, final

import numpy as np
import numpy.typing as npt
import torch
from attrs import evolve, field, frozen

from dovetail import Batch

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.int64]

#: Columns of every window besides the facts about its recording.
OF_WINDOWS: Final = ("recording", "time")


@frozen(eq=False)
class Recording:
    """One recording, before it is cut into windows."""

    #: Unique among the recordings of a dataset.
    name: str
    #: [channels, length] float32.
    signal: torch.Tensor
    #: In Hz.
    sample_rate: float
    #: Metadata: numbers and strings by name.
    facts: Mapping[str, Any] = field(factory=dict)


@final
@frozen(eq=False, repr=False)
class WindowSamples:
    """Windows of recordings; each recording is in memory once, however much its windows overlap.

    A sample is a dict with ``inputs`` [channels, window] float32, ``targets``, and the values of ``meta``. The windows
    of one recording form a group, which a split keeps together; their ``spans`` are in seconds.
    """

    #: Reading draws no random numbers.
    deterministic: ClassVar[bool] = True

    #: [channels, all recordings end to end] float32.
    signal: torch.Tensor
    #: [samples]: the start of each window in ``signal``.
    starts: Indices
    window: int
    #: [samples] int64 class indices, or [samples, 1] float32 values of a regression.
    target_values: torch.Tensor
    class_names: tuple[str, ...] | None
    fingerprint: str
    #: [samples]: the name of the recording.
    groups: Array
    #: [samples, 2]: start and end of each window within its recording, in seconds.
    spans: npt.NDArray[np.float64]
    columns: Mapping[str, Array]
    meta: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int | None:
        """Number of classes; None for a regression."""
        return None if self.class_names is None else len(self.class_names)

    @property
    def num_outputs(self) -> int | None:
        """Number of values to predict for a sample; None for a classification."""
        return 1 if self.class_names is None else None

    @property
    def input_shape(self) -> tuple[int, int]:
        """Channels and length of a window."""
        return self.signal.shape[0], self.window

    @property
    def sample_rate(self) -> float:
        """The sampling rate in Hz."""
        begin, end = self.spans[0]
        return float(self.window / (end - begin))

    @property
    def targets(self) -> Array:
        """The targets as a 1-d array."""
        return self.target_values.reshape(len(self)).numpy()

    def column(self, name: str) -> Array:
        """Return a column with one value for each window: a fact about its recording, ``recording`` or ``time``.

        Raises:
            KeyError: there is no such column.
        """
        if name == "recording":
            return self.groups
        if name not in self.columns:
            raise KeyError(f"no column '{name}'; there are {', '.join(sorted(self.columns))}")
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> dict[str, Any]:
        start = int(self.starts[index])
        inputs = self.signal[:, start : start + self.window].clone()
        values = {name: _plain(self.columns[name][index]) for name in self.meta}
        return {"inputs": inputs, "targets": self.target_values[index], **values}

    def get_batch(self, indices: Indices) -> Batch:
        """Return the samples at ``indices`` as one batch, equal to the default collator's but faster."""
        # A view with one row for each possible start of a window, so that indexing copies whole rows.
        windows = self.signal.unfold(-1, self.window, 1).transpose(0, 1)
        batch = Batch(
            inputs=windows[torch.from_numpy(self.starts[indices])],
            targets=self.target_values[torch.from_numpy(indices)],
        )
        if self.meta:
            batch["meta"] = {name: _as_meta(self.columns[name][indices]) for name in self.meta}
        return batch

    def contiguous_segments(self) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield (index of the first window, signal [channels, length]) of each recording's longest covered segment."""
        for name in dict.fromkeys(self.groups):
            of = np.flatnonzero(self.groups == name)
            of = of[np.argsort(self.starts[of])]
            starts = self.starts[of]
            pieces = np.split(of, np.flatnonzero(np.diff(starts) > self.window) + 1)
            longest = max(pieces, key=lambda piece: self.starts[piece[-1]] - self.starts[piece[0]])
            first, last = self.starts[longest[[0, -1]]]
            yield int(longest[0]), self.signal[:, first : last + self.window]

    def subset(self, indices: Indices) -> Self:
        """Return a dataset of the samples at ``indices``, in that order; it refers to the same signal."""
        return evolve(
            self,
            starts=self.starts[indices],
            target_values=self.target_values[torch.from_numpy(indices)],
            groups=self.groups[indices],
            spans=self.spans[indices],
            columns={name: values[indices] for name, values in self.columns.items()},
        )


def cut(
    recordings: Sequence[Recording],
    *,
    window: int,
    overlap: float,
    target: str,
    task: str,
    meta: Sequence[str],
    classes: Sequence[str],
    fingerprint: str,
) -> WindowSamples:
    """Cut recordings into windows; samples at the end that do not fill a window are not used.

    Args:
        recordings: all with the same sampling rate and number of channels, each at least one window long.
        window: length of a window, in samples.
        overlap: fraction of a window that the next one repeats, 0 to less than 1.
        target: the fact to predict.
        task: ``classification`` or ``regression``.
        meta: facts that go with each window into the batch's ``meta``; also ``recording``, the name of the window's
            recording, and ``time``, where the window begins in it, in seconds.
        classes: the classes in the order of their indices; sorted by default.
        fingerprint: a digest of the recordings, which identifies the data.

    Raises:
        ValueError: a recording is too short, has a different number of channels or no target; a fact is unknown; or a
            class is not in ``classes``.
    """
    hop = max(1, round(window * (1 - overlap)))
    names = sorted({name for recording in recordings for name in recording.facts})
    for option, asked, known in (("target", (target,), names), ("meta", meta, sorted({*names, *OF_WINDOWS}))):
        for name in asked:
            if name not in known:
                raise ValueError(f"{option}: unknown column '{name}'; there are {', '.join(known)}")
    channels = recordings[0].signal.shape[0]
    owner, starts, first, offset = [], [], [], 0
    for number, recording in enumerate(recordings):
        if recording.signal.shape[0] != channels:
            raise ValueError(
                f"'{recording.name}' has {recording.signal.shape[0]} channels, '{recordings[0].name}' has {channels}"
            )
        length = recording.signal.shape[1]
        if length < window:
            raise ValueError(f"'{recording.name}' has {length} samples, fewer than a window of {window}")
        begins = np.arange(0, length - window + 1, hop)
        owner.append(np.full(len(begins), number))
        first.append(begins)
        starts.append(begins + offset)
        offset += length
    of = np.concatenate(owner)
    begins = np.concatenate(first)
    rates = np.asarray([recording.sample_rate for recording in recordings])[of]
    groups = np.asarray([recording.name for recording in recordings])[of]
    columns = {"recording": groups, "time": begins / rates}
    columns |= {name: _column([recording.facts.get(name) for recording in recordings])[of] for name in names}
    values, class_names = _targets(
        [recording.facts.get(target) for recording in recordings], recordings, target, task, classes
    )
    return WindowSamples(
        torch.cat([recording.signal for recording in recordings], dim=1),
        np.concatenate(starts).astype(np.int64),
        window,
        values[torch.from_numpy(of)],
        class_names,
        fingerprint,
        groups,
        np.stack([begins / rates, (begins + window) / rates], axis=1),
        columns,
        tuple(meta),
    )


def _targets(
    found: list[Any], recordings: Sequence[Recording], target: str, task: str, classes: Sequence[str]
) -> tuple[torch.Tensor, tuple[str, ...] | None]:
    for recording, value in zip(recordings, found, strict=True):
        if value is None or value == "":
            raise ValueError(f"'{recording.name}' has no value of '{target}'")
    if task == "regression":
        try:
            return torch.tensor([float(value) for value in found])[:, None], None
        except ValueError as error:
            raise ValueError(f"target: a regression needs numbers in '{target}': {error}") from None
    labels = [str(value) for value in found]
    names = tuple(classes) or tuple(sorted(set(labels), key=_sort_key))
    for recording, label in zip(recordings, labels, strict=True):
        if label not in names:
            raise ValueError(f"'{recording.name}' has the class '{label}', which is not among classes = {list(names)}")
    return torch.tensor([names.index(label) for label in labels]), names


def _sort_key(label: str) -> tuple[float, str]:
    """Return a sort key that puts numbers first, in numeric order, and words after them."""
    try:
        return float(label), ""
    except ValueError:
        return float("inf"), label


def _column(values: list[Any]) -> Array:
    """Return an array of numbers (NaN for None) if all values are numbers, else of strings (empty for None)."""
    if all(value is None or isinstance(value, int | float) for value in values):
        if all(isinstance(value, int) for value in values):
            return np.asarray(values, dtype=np.int64)
        return np.asarray([np.nan if value is None else value for value in values], dtype=np.float64)
    return np.asarray(["" if value is None else str(value) for value in values])


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _as_meta(values: Array) -> torch.Tensor | list[Any]:
    if values.dtype.kind == "f":
        return torch.from_numpy(values.astype(np.float32))
    return torch.from_numpy(values.copy()) if values.dtype.kind == "i" else values.tolist()
