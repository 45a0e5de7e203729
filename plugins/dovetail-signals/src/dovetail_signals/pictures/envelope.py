"""A picture of the envelope spectrum of each class, with lines at the bearing's fault frequencies."""

from __future__ import annotations

import logging
from typing import Annotated, Final

import numpy as np
import torch

from dovetail import AtLeast, Run
from dovetail_signals.geometry import bearing as known_bearing
from dovetail_signals.pictures.spectra import Marks, stacked_spectra
from dovetail_signals.pictures.svg import Array
from dovetail_signals.representations import envelope_spectrum, standardize
from dovetail_signals.windows import WindowSamples

_logger: Final = logging.getLogger("dovetail.signals")
_LONGEST: Final = 1 << 17  # samples of a recording; a finer frequency resolution is not visible
_POINTS: Final = 4000  # values along the axis
_MARGIN: Final = 1.06  # end of the axis relative to the last line
_MOST_CLASSES: Final = 12
_MINUTE: Final = 60.0


class EnvelopePicture:
    """Draw the envelope spectrum of each class over orders of the shaft's frequency, before training starts.

    Each spectrum is the mean over the recordings of the training split. Lines show the bearing's fault frequencies and
    their multiples: BPFO (outer race), BPFI (inner race), BSF (ball spin; a ball fault shows at twice this frequency)
    and FTF (cage). If the dataset does not consist of recordings, nothing is drawn and the log has a warning.

    Source:
        Randall and Antoni, Rolling element bearing diagnostics – a tutorial, Mechanical Systems and Signal Processing
        25 (2011), section 5.

    Args:
        bearing: a name in `dovetail_signals.geometry.BEARINGS`.
        rpm: the column with the shaft's speed, in revolutions per minute.
        band: band-pass the signals to [low, high] in Hz first; all frequencies by default.
        multiples: number of lines for each fault frequency.

    Raises:
        ValueError: the bearing is unknown or, when the run starts, the recordings lack the column.
    """

    def __init__(
        self,
        *,
        bearing: str = "SKF-6205",
        rpm: str = "rpm",
        band: tuple[float, float] | None = None,
        multiples: Annotated[int, AtLeast(1)] = 3,
    ) -> None:
        self._name, self._orders = bearing, known_bearing(bearing).orders()
        self._rpm, self._band, self._multiples = rpm, band, multiples
        self._end = _MARGIN * multiples * self._orders.bpfi

    def dovetail_run_start(self, run: Run) -> None:
        """Draw the picture."""
        samples = run.parts.loaders.train.dataset
        if not isinstance(samples, WindowSamples):
            _logger.warning("signals.envelope_picture: the dataset does not consist of recordings, so nothing is drawn")
            return
        try:
            shaft = np.asarray(samples.column(self._rpm), dtype=np.float64) / _MINUTE
        except (KeyError, ValueError) as error:
            raise ValueError(f"signals.envelope_picture: rpm = '{self._rpm}': {error.args[0]}") from error
        found: dict[str, list[Array]] = {}
        for row, signal in samples.contiguous_segments():
            name = samples.class_names[int(samples.target_values[row])] if samples.class_names else "all recordings"
            found.setdefault(name, []).append(self.spectrum(signal[0], samples.sample_rate, shaft[row])[1])
        order = [name for name in samples.class_names or found if name in found][:_MOST_CLASSES]
        marks = [
            Marks(name, [k * order for k in range(1, self._multiples + 1)], colour)
            for name, order, colour in (
                ("BPFO", self._orders.bpfo, "train"),
                ("BPFI", self._orders.bpfi, "validation"),
                ("BSF", self._orders.bsf, "test"),
                ("FTF", self._orders.ftf, "other"),
            )
        ]
        title = f"Envelope spectra of the classes, {self._name}"
        spectra = {name: np.mean(found[name], axis=0) for name in order}
        run.store.add_picture(
            "envelope", stacked_spectra(title, spectra, "multiples of the shaft's frequency", self._end, marks)
        )

    def spectrum(self, signal: torch.Tensor, sample_rate: float, shaft_hz: float) -> tuple[Array, Array]:
        """Return the orders of the shaft's frequency up to the end of the axis, and the envelope's amplitudes there.

        The mean amplitude is 1, so that loud recordings do not dominate.

        Args:
            signal: [length].
            sample_rate: in Hz.
            shaft_hz: revolutions of the shaft per second.
        """
        scaled = standardize(signal[:_LONGEST].double(), 1)
        values = envelope_spectrum(scaled, sample_rate=sample_rate, band=self._band).numpy()
        found = np.arange(len(values)) * sample_rate / len(scaled) / shaft_hz
        orders = np.linspace(0, self._end, _POINTS)
        amplitudes = np.interp(orders, found, values, right=0.0)
        return orders, amplitudes / (amplitudes.mean() or 1.0)
