"""The envelope spectra of a bearing's classes, with lines where its faults would show, as a picture in the report."""

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
_LONGEST: Final = 1 << 17  # values of a recording: finer lines than these cannot be seen
_POINTS: Final = 4000  # along the axis
_BEYOND: Final = 1.06  # the last line stands a little before the end
_MOST_CLASSES: Final = 12
_MINUTE: Final = 60.0


class EnvelopePicture:
    """Draws, before training begins, the envelope spectrum of each class over multiples of the shaft's frequency.

    It is the mean over the recordings of the training split, each as long as its windows reach. Lines show the fault
    frequencies of the bearing and their multiples: BPFO of the outer race, BPFI of the inner one, BSF of a ball, which
    knocks at twice that, FTF of the cage. Of a dataset that is none of recordings nothing is drawn; the log says so.

    Source:
        Randall and Antoni, Rolling element bearing diagnostics – a tutorial, Mechanical Systems and Signal Processing
        25 (2011), section 5.

    Args:
        bearing: which bearing, by the name in `dovetail_signals.geometry.BEARINGS`.
        rpm: the column with the shaft's turns a minute.
        band: from and to which frequency, in Hz, to look at before the envelope is taken; by default everywhere.
        multiples: of each fault frequency.

    Raises:
        ValueError: there is no such bearing; when the run starts: the recordings have no such column.
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
        self._end = _BEYOND * multiples * self._orders.bpfi

    def dovetail_run_start(self, run: Run) -> None:
        """Draw."""
        samples = run.parts.loaders.train.dataset
        if not isinstance(samples, WindowSamples):
            _logger.warning("signals.envelope_picture: the dataset is none of recordings, so there is no picture")
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
        """Return multiples of the shaft's frequency, as far as there are lines, and the envelope's amplitude there.

        The mean amplitude is 1, so that loud recordings do not hide the others.

        Args:
            signal: [length].
            sample_rate: in Hz.
            shaft_hz: turns of the shaft in a second.
        """
        scaled = standardize(signal[:_LONGEST].double(), 1)
        values = envelope_spectrum(scaled, sample_rate=sample_rate, band=self._band).numpy()
        found = np.arange(len(values)) * sample_rate / len(scaled) / shaft_hz
        orders = np.linspace(0, self._end, _POINTS)
        amplitudes = np.interp(orders, found, values, right=0.0)
        return orders, amplitudes / (amplitudes.mean() or 1.0)
