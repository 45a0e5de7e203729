"""Pictures of the spectrograms that a network trains on, with their masks."""

from __future__ import annotations

import logging
from typing import Annotated, Any, Final

import torch
from torch import Tensor

from dovetail import AtLeast, Batch, Run
from dovetail_signals.pictures.heat_map import heat_map
from dovetail_signals.pictures.svg import Axis
from dovetail_signals.windows import WindowSamples

_logger: Final = logging.getLogger("dovetail.signals")
_LOW_QUANTILE: Final = 0.03  # values below it get the same colour
_SPECTROGRAMS: Final = 4  # dimensions: [batch, channels, frequencies, times]


class SpectrogramPicture:
    """Draw spectrograms of the first training batch as the network will see them, before training starts.

    They include all transforms and the trainer's changes; masked parts are hatched. Of several representations, each
    spectrogram is drawn. If no input is a spectrogram, nothing is drawn and the log has a warning. The picture does not
    change the results of training.

    Args:
        samples: number of samples, of different classes if possible.
    """

    def __init__(self, *, samples: Annotated[int, AtLeast(1)] = 2) -> None:
        self._samples = samples

    def dovetail_run_start(self, run: Run) -> None:
        """Draw the pictures."""
        with torch.random.fork_rng():  # a trainer may draw from the global generator
            batch = run.parts.trainer.prepare_batch(run, next(iter(run.parts.trainer.batches(run))))
        inputs = batch["inputs"]
        found = inputs if isinstance(inputs, dict) else {"": inputs}
        spectrograms = {name: values.cpu() for name, values in found.items() if values.ndim == _SPECTROGRAMS}
        if not spectrograms:
            _logger.warning("signals.spectrogram_picture: the inputs are not spectrograms, so nothing is drawn")
        names = run.data.get("class_names")
        for number, row in enumerate(_pick_rows(batch, self._samples), start=1):
            for name, values in spectrograms.items():
                title = ", ".join(filter(None, [_class(batch, row, names), name, "as trained on"]))
                drawn = _draw(title, values[row, 0], run, name)
                run.store.add_picture(f"spectrogram-{number}{'-' if name else ''}{_file_safe(name)}", drawn)


def _pick_rows(batch: Batch, most: int) -> list[int]:
    """Return at most ``most`` rows of a batch, starting with one of each class."""
    targets = batch["targets"]
    if targets.is_floating_point() or targets.ndim != 1:
        return list(range(min(most, len(targets))))
    labels = targets.tolist()
    first = list({label: row for row, label in reversed([*enumerate(labels)])}.values())[::-1]
    others = [row for row in range(len(labels)) if row not in first]
    return [*first, *others][:most]


def _class(batch: Batch, row: int, names: Any) -> str:
    target = batch["targets"][row]
    if target.is_floating_point() or target.ndim:
        return f"sample {row}"
    name = str(names[int(target)] if names else int(target))
    return f"class {name}" if name.isdigit() else name


def _file_safe(name: str) -> str:
    return "".join(char if char.isalnum() and char.isascii() else "_" for char in name)[:40]


def _draw(title: str, values: Tensor, run: Run, name: str) -> str:
    samples = run.parts.loaders.train.dataset
    known = samples if isinstance(samples, WindowSamples) else None
    hidden = masked(values)
    times = Axis.linear("time, s", 0, known.window / known.sample_rate) if known else None
    return heat_map(
        title + (" (hatched: masked)" if hidden.any() else ""),
        _clip_low(values, hidden).numpy(),
        _frequencies(run, name, values.shape[0], known),
        times or Axis.linear("time step", 0, values.shape[1]),
        hidden=hidden.double().numpy(),
    )


def _clip_low(values: Tensor, hidden: Tensor) -> Tensor:
    """Clip values at a low quantile, because noise in decibels has a long lower tail without structure."""
    seen = values[~hidden].double()
    return values.double().clamp_min(float(seen.quantile(_LOW_QUANTILE))) if len(seen) else values.double()


def _frequencies(run: Run, name: str, rows: int, known: WindowSamples | None) -> Axis:
    """Return the frequency axis, in Hz if a representation with ``rows`` rows knows its frequencies, else in bins."""
    for transform in run.parts.transforms.values():
        representation = getattr(transform, "parts", {}).get(name, transform)
        hz = representation.row_hz(known.sample_rate) if known and hasattr(representation, "row_hz") else None
        if hz is not None and len(hz) == rows:
            return Axis.from_values("frequency, Hz", hz.double().numpy())
    return Axis.linear("frequency bin", 0, rows)


def masked(spectrogram: Tensor) -> Tensor:
    """Return the boolean mask of a spectrogram ``[frequencies, times]``.

    A masked row or column has one constant value. So has silence, but that value is the minimum of the spectrogram.
    """
    least = spectrogram.min()
    rows, columns = (
        (spectrogram.amax(dim) == spectrogram.amin(dim)) & (spectrogram.amin(dim) > least) for dim in (1, 0)
    )
    return rows[:, None] | columns[None, :]
