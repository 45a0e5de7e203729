"""Transforms that replace a batch of signals by a representation of them, on the model's device."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, final

import torch
from torch import Tensor

from dovetail import AtLeast, Batch, MoreThan, Run, Transform
from dovetail.random import Draws
from dovetail_signals import representations
from dovetail_signals.sample_rate import alert_on_nested_sample_rates


def require_signals(batch: Batch) -> Tensor:
    """Return a batch's signals [N, channels, time]; ValueError if its inputs are anything else."""
    inputs = batch["inputs"]
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point() or inputs.ndim != 3:  # noqa: PLR2004 (N, C, T)
        found = f"shape {tuple(inputs.shape)} of {inputs.dtype}" if isinstance(inputs, Tensor) else "a dict"
        raise ValueError(f"needs floating-point signals of shape [batch, channels, time], got {found}")
    return inputs


class _Representation:
    """Base class of the transforms of this module."""

    #: Draws no random numbers.
    deterministic: ClassVar[bool] = True

    def dovetail_run_start(self, run: Run) -> None:
        """Raise an alert if ``sample_rate``, where there is one, differs from the recordings'."""
        alert_on_nested_sample_rates(run, self)

    def represent(self, signals: Tensor) -> Tensor:
        """Return the representation of signals [N, channels, time]."""
        raise NotImplementedError

    def row_hz(self, sample_rate: float) -> Tensor | None:  # noqa: ARG002 (some subclasses need it)
        """Return the frequency of each row of a spectrogram in Hz; None if the representation is not a spectrogram."""
        return None

    def transform_batch(self, batch: Batch, draws: Draws) -> Batch:  # noqa: ARG002 (every transform takes it)
        """Return the batch with representations as inputs; ValueError if its inputs are not signals."""
        return {**batch, "inputs": self.represent(require_signals(batch))}


@final
class ZScore(_Representation):
    """Scale each channel of each signal to mean 0 and variance 1, which removes loudness."""

    def represent(self, signals: Tensor) -> Tensor:
        """Return [N, channels, time]; a constant signal becomes 0."""
        return representations.standardize(signals, 1)


@final
class STFT(_Representation):
    """Compute spectrograms in decibels: [channels, n_fft // 2 + 1, times].

    Args:
        n_fft: length of a window, in samples.
        hop: samples from one window to the next; a quarter of a window by default.
        standardize: scale each channel of each sample to mean 0 and variance 1.
    """

    def __init__(
        self,
        *,
        n_fft: Annotated[int, AtLeast(2)] = 256,
        hop: Annotated[int | None, AtLeast(1)] = None,
        standardize: bool = True,
    ) -> None:
        self._n_fft, self._hop, self._standardize = n_fft, hop or max(1, n_fft // 4), standardize

    def represent(self, signals: Tensor) -> Tensor:
        """Return [N, channels, frequencies, times]; ValueError if a signal is shorter than a window."""
        power = representations.stft_power(signals, n_fft=self._n_fft, hop=self._hop)
        return _decibels(power, standardize=self._standardize)

    def row_hz(self, sample_rate: float) -> Tensor:
        """Return the frequency of each row in Hz."""
        return torch.arange(self._n_fft // 2 + 1) * (sample_rate / self._n_fft)


@final
class Spectrum(_Representation):
    """Compute power spectra in decibels, averaged over short windows: [channels, n_fft // 2 + 1].

    Args:
        n_fft: length of a window, in samples.
        hop: samples from one window to the next; half a window by default.
        standardize: scale each channel of each sample to mean 0 and variance 1, which removes loudness.

    Source:
        Welch, The use of fast Fourier transform for the estimation of power spectra, IEEE Transactions on Audio and
        Electroacoustics 15 (1967), 70–73.
    """

    def __init__(
        self,
        *,
        n_fft: Annotated[int, AtLeast(2)] = 1024,
        hop: Annotated[int | None, AtLeast(1)] = None,
        standardize: bool = True,
    ) -> None:
        self._n_fft, self._hop, self._standardize = n_fft, hop or max(1, n_fft // 2), standardize

    def represent(self, signals: Tensor) -> Tensor:
        """Return [N, channels, frequencies]; ValueError if a signal is shorter than a window."""
        found = representations.decibels(representations.mean_power(signals, n_fft=self._n_fft, hop=self._hop))
        return representations.standardize(found, 1) if self._standardize else found


@final
class LogMel(_Representation):
    """Compute log-mel spectrograms in decibels: [channels, n_mels, times].

    Args:
        sample_rate: in Hz.
        n_fft: length of a window, in samples.
        hop: samples from one window to the next; a quarter of a window by default.
        n_mels: number of bands.
        low_hz: lower edge of the lowest band, in Hz.
        high_hz: upper edge of the highest band, in Hz; half the sampling rate by default.
        standardize: scale each channel of each sample to mean 0 and variance 1.

    Raises:
        ValueError: not low_hz < high_hz ≤ sample_rate / 2.
    """

    def __init__(
        self,
        *,
        sample_rate: Annotated[float, MoreThan(0)],
        n_fft: Annotated[int, AtLeast(2)] = 256,
        hop: Annotated[int | None, AtLeast(1)] = None,
        n_mels: Annotated[int, AtLeast(1)] = 40,
        low_hz: Annotated[float, AtLeast(0)] = 0.0,
        high_hz: Annotated[float | None, MoreThan(0)] = None,
        standardize: bool = True,
    ) -> None:
        self._n_fft, self._hop, self._standardize = n_fft, hop or max(1, n_fft // 4), standardize
        high = high_hz or sample_rate / 2
        self._filters = representations.mel_filters(n_fft, n_mels, sample_rate, low_hz, high)
        self._hz = representations.mel_frequencies(n_mels, low_hz, high)[1:-1]
        self.sample_rate = sample_rate

    def represent(self, signals: Tensor) -> Tensor:
        """Return [N, channels, n_mels, times]; ValueError if a signal is shorter than a window."""
        power = representations.stft_power(signals, n_fft=self._n_fft, hop=self._hop)
        mel = self._filters.to(power.device, power.dtype) @ power
        return _decibels(mel, standardize=self._standardize)

    def row_hz(self, sample_rate: float) -> Tensor:  # noqa: ARG002 (fixed by its own options)
        """Return the peak frequency of each row's filter, in Hz."""
        return self._hz


@final
class CWT(_Representation):
    """Compute scalograms in decibels with the Morlet wavelet: [channels, frequencies, times].

    Args:
        sample_rate: in Hz.
        low_hz: the lowest frequency.
        high_hz: the highest frequency; 0.4 of the sampling rate by default.
        frequencies: number of frequencies, evenly spaced on a logarithmic scale.
        cycles: of the wavelet; more cycles resolve frequency more finely and time more coarsely.
        hop: return every ``hop``-th time step.
        standardize: scale each channel of each sample to mean 0 and variance 1.

    Raises:
        ValueError: not low_hz < high_hz < sample_rate / 2.
    """

    def __init__(
        self,
        *,
        sample_rate: Annotated[float, MoreThan(0)],
        low_hz: Annotated[float, MoreThan(0)] = 50.0,
        high_hz: Annotated[float | None, MoreThan(0)] = None,
        frequencies: Annotated[int, AtLeast(2)] = 32,
        cycles: Annotated[float, MoreThan(0)] = 6.0,
        hop: Annotated[int, AtLeast(1)] = 16,
        standardize: bool = True,
    ) -> None:
        high = high_hz or 0.4 * sample_rate
        if not low_hz < high < sample_rate / 2:
            raise ValueError(f"needs low_hz < high_hz < {sample_rate / 2:g}, got {low_hz:g} and {high:g}")
        self._frequencies = torch.logspace(
            float(torch.tensor(low_hz).log10()), float(torch.tensor(high).log10()), frequencies
        )
        self.sample_rate, self._cycles, self._hop, self._standardize = sample_rate, cycles, hop, standardize

    def represent(self, signals: Tensor) -> Tensor:
        """Return [N, channels, frequencies, times]."""
        power = representations.cwt_power(
            signals, frequencies=self._frequencies, sample_rate=self.sample_rate, cycles=self._cycles, hop=self._hop
        )
        return _decibels(power, standardize=self._standardize)

    def row_hz(self, sample_rate: float) -> Tensor:  # noqa: ARG002 (fixed by its own options)
        """Return the frequency of each row in Hz."""
        return self._frequencies


@final
class EnvelopeSpectrum(_Representation):
    """Compute amplitude spectra of the envelope: [channels, frequencies].

    Args:
        sample_rate: in Hz.
        band: band-pass the signals to [low, high] in Hz first; all frequencies by default.
        high_hz: upper end of the spectrum, in Hz; half the sampling rate by default.
        standardize: scale each channel of each sample to mean 0 and variance 1.

    Raises:
        ValueError: the band does not fit the sampling rate.
    """

    def __init__(
        self,
        *,
        sample_rate: Annotated[float, MoreThan(0)],
        band: tuple[float, float] | None = None,
        high_hz: Annotated[float | None, MoreThan(0)] = None,
        standardize: bool = True,
    ) -> None:
        representations.require_band(band, sample_rate)
        self.sample_rate, self._band, self._high, self._standardize = sample_rate, band, high_hz, standardize

    def represent(self, signals: Tensor) -> Tensor:
        """Return [N, channels, frequencies]."""
        spectrum = representations.envelope_spectrum(
            signals, sample_rate=self.sample_rate, band=self._band, high_hz=self._high
        )
        return representations.standardize(spectrum, 1) if self._standardize else spectrum


@final
class KeepEnvelope:
    """Store the signals' envelope in the batch's ``meta.signal``, which physics losses read; inputs do not change.

    A bearing fault shows at its frequency in the envelope, but hardly in the vibration itself.

    Args:
        sample_rate: in Hz.
        band: band-pass the signals to [low, high] in Hz first; all frequencies by default.

    Raises:
        ValueError: the band does not fit the sampling rate.
    """

    #: Draws no random numbers.
    deterministic: ClassVar[bool] = True

    def __init__(self, *, sample_rate: Annotated[float, MoreThan(0)], band: tuple[float, float] | None = None) -> None:
        representations.require_band(band, sample_rate)
        self.sample_rate, self._band = sample_rate, band

    def dovetail_run_start(self, run: Run) -> None:
        """Raise an alert if ``sample_rate`` differs from the recordings'."""
        alert_on_nested_sample_rates(run, self)

    def transform_batch(self, batch: Batch, draws: Draws) -> Batch:  # noqa: ARG002 (every transform takes it)
        """Return the batch with ``meta.signal`` [N, channels, time]; ValueError if its inputs are not signals."""
        found = representations.envelope(require_signals(batch), sample_rate=self.sample_rate, band=self._band)
        return {**batch, "meta": {**batch.get("meta", {}), "signal": found}}


@final
class SpectralKurtosis(_Representation):
    """Compute the spectral kurtosis, the impulsiveness of each frequency: [channels, n_fft // 2 + 1].

    Args:
        n_fft: length of a window, in samples.
        hop: samples from one window to the next; a quarter of a window by default.
    """

    def __init__(
        self, *, n_fft: Annotated[int, AtLeast(2)] = 256, hop: Annotated[int | None, AtLeast(1)] = None
    ) -> None:
        self._n_fft, self._hop = n_fft, hop or max(1, n_fft // 4)

    def represent(self, signals: Tensor) -> Tensor:
        """Return [N, channels, frequencies]; ValueError if a signal is shorter than a window."""
        return representations.spectral_kurtosis(signals, n_fft=self._n_fft, hop=self._hop)


@final
class MultiTFR:
    """Compute several representations of the same signals: inputs become a dict with one entry for each.

    Args:
        representations: transforms of this package by name: ``{ stft = { type = "signals.stft" }, … }``.

    Raises:
        ValueError: no representation is given, or a transform is not a representation.
    """

    #: Draws no random numbers.
    deterministic: ClassVar[bool] = True

    def __init__(self, *, representations: dict[str, Transform]) -> None:
        if not representations:
            raise ValueError("representations is empty: name at least one")
        #: The representations by name.
        self.parts: dict[str, Any] = dict(representations)
        for name, representation in self.parts.items():
            if not hasattr(representation, "represent"):
                raise ValueError(
                    f"representations.{name}: {type(representation).__name__} is not a representation of signals"
                )
        #: The representations by their options' paths, for the sampling-rate check.
        self.nested = {f"representations.{name}": representation for name, representation in self.parts.items()}

    def dovetail_run_start(self, run: Run) -> None:
        """Raise an alert if a representation's ``sample_rate`` differs from the recordings'."""
        alert_on_nested_sample_rates(run, self)

    def transform_batch(self, batch: Batch, draws: Draws) -> Batch:  # noqa: ARG002 (every transform takes it)
        """Return the batch with a dict of representations as inputs; ValueError if its inputs are not signals."""
        signals = require_signals(batch)
        return {
            **batch,
            "inputs": {name: representation.represent(signals) for name, representation in self.parts.items()},
        }


def _decibels(power: Tensor, *, standardize: bool) -> Tensor:
    found = representations.decibels(power)
    return representations.standardize(found, 2) if standardize else found
