"""Numbers, times and sparklines as text, the same in the console, in listings and in the report."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from torch import nn

_BARS: Final = "▁▂▃▄▅▆▇█"
_MAGNITUDE: Final = 10.0
_MINUTE: Final = 60
_HOUR: Final = 3600
#: Metrics whose names start or end like this are fractions, and are shown as percentages.
_FRACTIONS: Final = ("accuracy", "precision", "recall", "f1")
_DTYPES: Final = {"float64": "fp64", "float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
#: Logged values that are not metrics.
_NOT_METRICS: Final = ("lr", "samples_per_second", "grad_norm", "seconds")


def format_number(value: float) -> str:
    """Return a number with four significant digits: ``0.05231``, ``12.5``, ``3.2e-06``, ``nan``."""
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e6:  # noqa: PLR2004 (from a million on, digits do not fit a column)
        return f"{int(value):,}"
    if abs(value) < 1e-4 or abs(value) >= 1e6:  # noqa: PLR2004 (outside, zeros drown the digits)
        return f"{value:.3g}"
    return f"{value:,.1f}" if abs(value) >= 1e3 else f"{value:.4g}"  # noqa: PLR2004 (thousands need one decimal at most)


def format_metric(name: str, value: float) -> str:
    """Return ``value`` as a percentage where the metric's name says it is a fraction, else as a number."""
    base = name.removeprefix("train_").removeprefix("val_").removeprefix("test_")
    is_fraction = base.startswith(_FRACTIONS) or base.endswith(_FRACTIONS)
    return f"{100 * value:.2f} %" if is_fraction and 0 <= value <= 1 else format_number(value)


def format_metrics(metrics: Mapping[str, float]) -> str:
    """Return metrics as ``train_loss 0.12  val_loss 0.15``: losses first, learning rates and throughput left out."""
    names = sorted(
        (name for name in metrics if name not in _NOT_METRICS and not name.startswith("lr")),
        key=lambda name: (name not in {"train_loss", "val_loss", "test_loss"}, name.startswith("val_"), name),
    )
    return "  ".join(f"{name} {format_metric(name, metrics[name])}" for name in names)


def headline(test: Mapping[str, float]) -> tuple[str, float] | None:
    """Return the test metric to show first, with its name: the accuracy, or the first one that is not the loss."""
    names = sorted(test, key=lambda name: (name != "test_accuracy", name == "test_loss", name))
    return (names[0], test[names[0]]) if names else None


def format_rate(value: float) -> str:
    """Return a rate with three significant digits, or as a whole number from 100 on: ``12,431``, ``8.3``."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004 (three digits are enough)


def format_duration(seconds: float) -> str:
    """Return a duration in words: ``40 ms``, ``0.4 s``, ``34 s``, ``2 min 05 s``, ``1 h 02 min``."""
    if not math.isfinite(seconds):
        return "?"
    if 0 < seconds < 0.1:  # noqa: PLR2004 (tenths of a second would be 0)
        return f"{1000 * seconds:.3g} ms"
    if seconds < 10:  # noqa: PLR2004 (below, tenths still matter)
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02} min"


def format_clock(seconds: float) -> str:
    """Return a duration as a clock shows it: ``0:34``, ``1:02:05``."""
    if not math.isfinite(seconds):
        return "-:--"
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // _HOUR, whole % _HOUR // _MINUTE, whole % _MINUTE
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def plural(count: int, word: str) -> str:
    """Return ``1 epoch``, ``20 epochs``, ``12,000 steps``, ``2 processes``."""
    ending = "es" if word.endswith("s") else "s"
    return f"{count:,} {word}{'' if count == 1 else ending}"


def compute_precision(setting: str, model: nn.Module) -> str:
    """Return the precision a model computes in: ``setting`` if that is mixed, else the dtype of its parameters."""
    if setting != "fp32":
        return setting
    dtypes = {str(weight.dtype).removeprefix("torch.") for weight in model.parameters() if weight.is_floating_point()}
    return ", ".join(sorted(_DTYPES.get(dtype, dtype) for dtype in dtypes)) or setting


def sparkline(values: Sequence[float], width: int = 24) -> str:
    """Return ``values`` as a row of at most ``width`` bars; a value that is not finite is a gap.

    More values than bars are averaged in equal groups, so that the row spans all of them. Positive values that span an
    order of magnitude or more are drawn on a logarithmic scale: a falling loss would otherwise be one bar and a flat
    line.
    """
    if len(values) > width:
        edges = [round(i * len(values) / width) for i in range(width + 1)]
        values = [_mean(values[start:end]) for start, end in itertools.pairwise(edges)]
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return " " * len(values)
    low, high = min(finite), max(finite)
    if low > 0 and high / low >= _MAGNITUDE:
        values, low, high = [_log(value) for value in values], math.log(low), math.log(high)
    return "".join(_bar(value, low, high) for value in values)


def _log(value: float) -> float:
    return math.log(value) if math.isfinite(value) else value


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def _bar(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return " "
    if not math.isfinite(high - low) or high <= low:
        return _BARS[0]
    return _BARS[min(len(_BARS) - 1, int((value - low) / (high - low) * len(_BARS)))]
