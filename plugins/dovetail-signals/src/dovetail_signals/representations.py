"""Differentiable time–frequency representations of signals, on any device.

All functions take signals [..., time] in float32 or float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_TINY = 1e-10  # below the power of any float32 signal of ordinary scale


def stft_power(signals: Tensor, *, n_fft: int, hop: int) -> Tensor:
    """Return the power |X|² of the short-time Fourier transform with a Hann window, without padding.

    Args:
        signals: [..., time].
        n_fft: length of a window, in samples; at most the signal's length.
        hop: samples from one window to the next.

    Returns:
        [..., n_fft // 2 + 1, (time - n_fft) // hop + 1]; row k is at k · rate / n_fft Hz.

    Raises:
        ValueError: the signal is shorter than a window.
    """
    if signals.shape[-1] < n_fft:
        raise ValueError(f"n_fft = {n_fft} is longer than the signals, {signals.shape[-1]}")
    window = torch.hann_window(n_fft, dtype=signals.dtype, device=signals.device)
    spectrum = torch.fft.rfft(signals.unfold(-1, n_fft, hop) * window)
    return _squared(spectrum).transpose(-1, -2)


def _squared(values: Tensor) -> Tensor:
    """Return |z|²; squaring the real view at once is faster than squaring the real and imaginary parts separately."""
    squares = torch.view_as_real(values).square()
    found: Tensor = squares[..., 0] + squares[..., 1]
    return found


def mean_power(signals: Tensor, *, n_fft: int, hop: int) -> Tensor:
    """Return the power spectrum averaged over windows, which has less variance than that of one window.

    Args:
        signals: [..., time].
        n_fft: length of a window, in samples; at most the signal's length.
        hop: samples from one window to the next.

    Returns:
        [..., n_fft // 2 + 1]; value k is at k · rate / n_fft Hz.

    Raises:
        ValueError: the signal is shorter than a window.

    Source:
        Welch, The use of fast Fourier transform for the estimation of power spectra, IEEE Transactions on Audio and
        Electroacoustics 15 (1967), 70–73, without the normalisation.
    """
    return stft_power(signals, n_fft=n_fft, hop=hop).mean(-1)


def mel_filters(n_fft: int, n_mels: int, sample_rate: float, low_hz: float, high_hz: float) -> Tensor:
    """Return triangular filters [n_mels, n_fft // 2 + 1] float32, whose peaks are evenly spaced on the mel scale.

    Args:
        n_fft: window length of the spectrum.
        n_mels: number of filters.
        sample_rate: in Hz.
        low_hz: lower edge of the first filter.
        high_hz: upper edge of the last filter, at most half the sampling rate.

    Raises:
        ValueError: not 0 ≤ low_hz < high_hz ≤ sample_rate / 2.

    Source:
        mel = 2595 log10(1 + f / 700): O'Shaughnessy, Speech Communication: Human and Machine (1987), 150.
    """
    if not 0 <= low_hz < high_hz <= sample_rate / 2:
        raise ValueError(f"needs 0 ≤ low_hz < high_hz ≤ {sample_rate / 2:g}, got {low_hz:g} and {high_hz:g}")
    tops = mel_frequencies(n_mels, low_hz, high_hz)
    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * sample_rate / n_fft
    rise = (bins - tops[:-2, None]) / (tops[1:-1] - tops[:-2])[:, None]
    fall = (tops[2:, None] - bins) / (tops[2:] - tops[1:-1])[:, None]
    return torch.minimum(rise, fall).clamp_min(0).float()


def mel_frequencies(n_mels: int, low_hz: float, high_hz: float) -> Tensor:
    """Return ``n_mels`` frequencies in Hz, evenly spaced on the mel scale, and both ends: [n_mels + 2] float64."""
    low, high = (2595 * math.log10(1 + hz / 700) for hz in (low_hz, high_hz))
    return 700 * (10 ** (torch.linspace(low, high, n_mels + 2, dtype=torch.float64) / 2595) - 1)


def decibels(power: Tensor) -> Tensor:
    """Return 10 log10 of a power, at least -100 dB."""
    return 10 * torch.log10(power.clamp_min(_TINY))


def standardize(values: Tensor, dims: int) -> Tensor:
    """Return values with mean 0 and variance 1 over the last ``dims`` dimensions; constant values become 0."""
    over = tuple(range(-dims, 0))
    centred = values - values.mean(over, keepdim=True)
    return centred / (centred.square().mean(over, keepdim=True).sqrt() + 1e-5)


def cwt_power(signals: Tensor, *, frequencies: Tensor, sample_rate: float, cycles: float = 6.0, hop: int = 1) -> Tensor:
    """Return the power |W|² of the continuous wavelet transform with the Morlet wavelet, normalised by amplitude.

    A sine of amplitude a has power a² at its own frequency. The signal is treated as periodic.

    Args:
        signals: [..., time].
        frequencies: [F] in Hz, each above 0 and below half the sampling rate.
        sample_rate: in Hz.
        cycles: of the wavelet; more cycles resolve frequency more finely and time more coarsely.
        hop: return every ``hop``-th time step.

    Returns:
        [..., F, ceil(time / hop)].

    Source:
        Torrence and Compo, A practical guide to wavelet analysis, Bulletin of the American Meteorological Society 79
        (1998), 61–78, equations 4 and 6, normalised by amplitude instead of energy.
    """
    length = signals.shape[-1]
    spectrum = torch.fft.fft(signals)
    omega = 2 * math.pi * torch.fft.fftfreq(length, 1 / sample_rate, device=signals.device, dtype=signals.dtype)
    scales = cycles / (2 * math.pi * frequencies.to(signals.device, signals.dtype))
    # Only positive frequencies: the wavelet is analytic. The factor 2 gives a sine its own amplitude.
    wavelets = 2 * torch.exp(-((scales[:, None] * omega - cycles) ** 2) / 2) * (omega > 0)
    # Every fold-th time step is the inverse transform of the folded spectrum, so skipped steps cost nothing.
    fold = math.gcd(length, hop)
    size = length // fold
    folded: Tensor | float = 0.0
    for begin in range(0, -(-fold // 2) * size, size):  # the rest has only negative frequencies
        piece = slice(begin, begin + size)
        folded = folded + spectrum[..., None, piece] * wavelets[:, piece]
    return _squared(torch.fft.ifft(folded / fold)[..., :: hop // fold])


def analytic(signals: Tensor) -> Tensor:
    """Return the complex analytic signal: its real part is the signal, its absolute value the envelope.

    Source:
        Marple, Computing the discrete-time "analytic" signal via FFT, IEEE Transactions on Signal Processing 47 (1999).
    """
    length = signals.shape[-1]
    keep = torch.zeros(length, dtype=signals.dtype, device=signals.device)
    keep[0] = 1
    keep[1 : (length + 1) // 2] = 2
    if length % 2 == 0:
        keep[length // 2] = 1
    found: Tensor = torch.fft.ifft(torch.fft.fft(signals) * keep)
    return found


def require_band(band: tuple[float, float] | None, sample_rate: float) -> None:
    """Check a band [low, high] in Hz, or None for all frequencies, against the sampling rate.

    Raises:
        ValueError: not 0 ≤ low < high ≤ sample_rate / 2.
    """
    if band is not None and not 0 <= band[0] < band[1] <= sample_rate / 2:
        raise ValueError(
            f"band: needs 0 ≤ low < high ≤ {sample_rate / 2:g} Hz, half the sampling rate, got {list(band)}"
        )


def envelope(signals: Tensor, *, sample_rate: float, band: tuple[float, float] | None = None) -> Tensor:
    """Return the envelope of signals [..., time], with its mean removed.

    Args:
        signals: [..., time].
        sample_rate: in Hz.
        band: band-pass the signals to [low, high] in Hz first; all frequencies by default.

    Raises:
        ValueError: the band does not fit the sampling rate.
    """
    require_band(band, sample_rate)
    if band is not None:
        length = signals.shape[-1]
        hz = torch.fft.rfftfreq(length, 1 / sample_rate, device=signals.device)
        inside = (hz >= band[0]) & (hz <= band[1])
        signals = torch.fft.irfft(torch.fft.rfft(signals) * inside, n=length)
    found = analytic(signals).abs()
    return found - found.mean(-1, keepdim=True)


def envelope_spectrum(
    signals: Tensor, *, sample_rate: float, band: tuple[float, float] | None = None, high_hz: float | None = None
) -> Tensor:
    """Return the amplitude spectrum of the envelope, which shows the rate of impacts such as a bearing fault's.

    Args:
        signals: [..., time].
        sample_rate: in Hz.
        band: band-pass the signals to [low, high] in Hz first; all frequencies by default.
        high_hz: upper end of the spectrum in Hz; half the sampling rate by default.

    Returns:
        [..., frequencies]; value k is at k · rate / time Hz, and the mean of the envelope is removed.

    Source:
        Randall and Antoni, Rolling element bearing diagnostics – a tutorial, Mechanical Systems and Signal Processing
        25 (2011), section 5.
    """
    length = signals.shape[-1]
    spectrum: Tensor = torch.fft.rfft(envelope(signals, sample_rate=sample_rate, band=band)).abs() * (2 / length)
    return spectrum if high_hz is None else spectrum[..., : int(high_hz * length / sample_rate) + 1]


def spectral_kurtosis(signals: Tensor, *, n_fft: int, hop: int) -> Tensor:
    """Return the impulsiveness of each frequency, E|X|⁴ / (E|X|²)² - 2: 0 for Gaussian noise, -1 for a tone.

    Args:
        signals: [..., time].
        n_fft: length of a window, in samples.
        hop: samples from one window to the next.

    Returns:
        [..., n_fft // 2 + 1].

    Source:
        Antoni, The spectral kurtosis: a useful tool for characterising non-stationary signals, Mechanical Systems and
        Signal Processing 20 (2006), 282–307, equation 52.
    """
    power = stft_power(signals, n_fft=n_fft, hop=hop)
    return power.square().mean(-1) / power.mean(-1).square().clamp_min(_TINY**2) - 2
