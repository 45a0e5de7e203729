"""Throughput of signals: reading, augmentation and spectrograms, compared with torch and torch-audiomentations.

All candidates read windows of the same recordings from memory in batches, in a new order each epoch, on one thread.
``make bench-rivals`` installs torch-audiomentations; without it, its row is skipped. Run ``make bench-signals``.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _measure import add_rivals_to_path, alternate, ratios, record, table, versions
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dovetail.data.loader import make_loader
from dovetail_signals import tfr
from dovetail_signals.augment import transforms
from dovetail_signals.models.spectrogram_cnn import SpectrogramCNN
from dovetail_signals.recordings import recordings

RATE, WINDOW, BATCH, HOP = 12_000, 2048, 64, 64
RECORDINGS, SECONDS = 20, 10
NOISE, SCALE, SHIFT, N_FFT = 0.1, (0.8, 1.2), 500, 256
TIME_MASK, FREQUENCY_MASK, MASKS = 6, 20, 2
ROUNDS = 7

torch.set_num_threads(1)


def write(folder: Path) -> None:
    """Write recordings and their metadata table."""
    random = np.random.default_rng(0)
    rows = ["file,fault,sample_rate_hz"]
    for number in range(RECORDINGS):
        signal = random.standard_normal(RATE * SECONDS).astype(np.float32)
        np.savez(folder / f"{number}.npz", DE=signal)
        rows.append(f"{number}.npz,{number % 5},{RATE}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")


class PlainWindows(Dataset[tuple[Tensor, int]]):
    """Windows in a plain torch dataset, cut and transformed one at a time."""

    def __init__(self, folder: Path, change: Callable[[Tensor], Tensor] | None) -> None:
        self.change = change
        self.windows: list[tuple[Tensor, int]] = []
        for number in range(RECORDINGS):
            with np.load(folder / f"{number}.npz") as archive:
                signal = torch.from_numpy(archive["DE"])[None]
            starts = range(0, signal.shape[1] - WINDOW + 1, WINDOW // 2)
            self.windows += [(signal[:, start : start + WINDOW], number % 5) for start in starts]

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        signal, label = self.windows[index]
        return (signal if self.change is None else self.change(signal)), label


def augment_one(signal: Tensor) -> Tensor:
    """Return a signal [1, time] with noise, scaled and shifted."""
    signal = signal + NOISE * torch.randn_like(signal)
    signal = signal * (SCALE[0] + (SCALE[1] - SCALE[0]) * float(torch.rand(())))
    return signal.roll(int(torch.randint(-SHIFT, SHIFT + 1, ())), -1)


def decibels(signals: Tensor) -> Tensor:
    """Return standardised spectrograms in decibels [..., frequencies, times] of signals [..., time]."""
    window = torch.hann_window(N_FFT)
    spectrogram = torch.stft(signals, N_FFT, HOP, window=window, center=False, return_complex=True).abs().square()
    spectrogram = 10 * spectrogram.clamp_min(1e-10).log10()
    return (spectrogram - spectrogram.mean((-2, -1), keepdim=True)) / spectrogram.std((-2, -1), keepdim=True)


def represent_one(signal: Tensor) -> Tensor:
    """Return the masked spectrogram of an augmented signal."""
    spectrogram = decibels(augment_one(signal))
    for dim, widest in ((-2, FREQUENCY_MASK), (-1, TIME_MASK)):
        for _ in range(MASKS):
            width = int(torch.randint(0, widest + 1, ()))
            start = int(torch.randint(0, spectrogram.shape[dim] - width + 1, ()))
            spectrogram.narrow(dim, start, width).zero_()
    return spectrogram


def represent_batch(signals: Tensor) -> Tensor:
    """Return the masked spectrograms of augmented signals [N, 1, time], a whole batch at a time."""
    count, _, length = signals.shape
    signals = signals + NOISE * torch.randn_like(signals)
    signals = signals * (SCALE[0] + (SCALE[1] - SCALE[0]) * torch.rand(count, 1, 1))
    positions = (torch.arange(length) - torch.randint(-SHIFT, SHIFT + 1, (count, 1))) % length
    spectrogram = decibels(signals.gather(-1, positions[:, None])[:, 0])[:, None]
    masked = torch.zeros_like(spectrogram, dtype=torch.bool)
    for dim, widest in ((2, FREQUENCY_MASK), (3, TIME_MASK)):
        size = spectrogram.shape[dim]
        at = torch.arange(size).reshape((1, 1, -1, 1) if dim == 2 else (1, 1, 1, -1))
        for _ in range(MASKS):
            width = torch.randint(0, widest + 1, (count, 1, 1, 1))
            start = (torch.rand(count, 1, 1, 1) * (size - width + 1)).floor()
            masked |= (at >= start) & (at < start + width)
    return spectrogram.masked_fill(masked, 0.0)


def audiomentations() -> Callable[[Tensor], Tensor] | None:
    """Return noise, gain and shift of torch-audiomentations; None if it is not installed."""
    add_rivals_to_path()
    try:
        from torch_audiomentations import AddColoredNoise, Compose, Gain, Shift
    except ImportError:
        return None
    steps = [
        AddColoredNoise(min_snr_in_db=20, max_snr_in_db=20, min_f_decay=0, max_f_decay=0, p=1, output_type="dict"),
        Gain(min_gain_in_db=-1.9, max_gain_in_db=1.6, p=1, output_type="dict"),
        Shift(-SHIFT, SHIFT, shift_unit="samples", p=1, output_type="dict"),
    ]
    compose = Compose(steps, output_type="dict")
    return lambda signals: compose(signals, sample_rate=RATE).samples


def epoch(batches: Callable[[], Iterable[Any]], change: Callable[[Tensor], Tensor] | None = None) -> float:
    """Iterate over an epoch; return the processor time in seconds."""
    started = time.process_time()
    for batch in batches():
        inputs = batch["inputs"] if isinstance(batch, dict) else batch[0]
        if change is not None:
            change(inputs)
    return time.process_time() - started


def dovetail(samples: Any, steps: Sequence[Any]) -> Callable[[], float]:
    """Return a function that measures an epoch of Dovetail's loader with these transforms."""
    loader = make_loader(samples, batch_size=BATCH, shuffle=True, transforms=steps)

    def go() -> float:
        loader.set_epoch(loader.epoch + 1)
        return epoch(lambda: loader)

    return go


def plain(folder: Path, per_sample: Callable[[Tensor], Tensor] | None, per_batch: Any = None) -> Callable[[], float]:
    """Return a function that measures an epoch of torch's loader with a transform per sample or per batch."""
    loader = DataLoader(PlainWindows(folder, per_sample), batch_size=BATCH, shuffle=True)
    return lambda: epoch(lambda: loader, per_batch)


def training(samples: Any, steps: Sequence[Any]) -> Callable[[], float]:
    """Return a function that measures an epoch of training a small network with these transforms."""
    model = SpectrogramCNN(
        num_classes=5, input_shape=(1, N_FFT // 2 + 1, (WINDOW - N_FFT) // HOP + 1), channels=(8, 16)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loader = make_loader(samples, batch_size=BATCH, shuffle=True, transforms=steps)

    def go() -> float:
        started = time.process_time()
        for batch in loader:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(batch["inputs"]), batch["targets"]).backward()
            optimizer.step()
        return time.process_time() - started

    return go


def section(title: str, candidates: dict[str, Callable[[], float]], base: str, count: int) -> str:
    """Measure the candidates, alternating; return a table of samples per second."""
    figures = alternate(candidates, ROUNDS)
    against = ratios(figures, base)
    rows = [
        (name, f"{count / statistics.median(values):,.0f}", f"{count / min(values):,.0f}", f"{1 / against[name]:.2f}")
        for name, values in figures.items()
    ]
    return f"### {title}\n\n" + table(["operation", "median samples/s", "fastest", f"× {base}"], rows)


def main() -> None:
    """Measure everything."""
    augment = [
        transforms.GaussianNoise(noise_std=NOISE),
        transforms.AmplitudeScaling(scale_range=SCALE),
        transforms.TimeShift(shift_max=SHIFT),
    ]
    masks = transforms.SpecAugment(time_mask_param=TIME_MASK, freq_mask_param=FREQUENCY_MASK)
    stft = tfr.STFT(n_fft=N_FFT, hop=HOP)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder)
        samples = recordings(folder, "fault", window=WINDOW, overlap=0.5)
        rival = audiomentations()
        base, sections = "torch, a sample at a time", []
        candidates = {base: plain(folder, None), "Dovetail": dovetail(samples, [])}
        sections.append(section("Only windows", candidates, base, len(samples)))
        candidates = {base: plain(folder, augment_one)}
        candidates |= {"torch-audiomentations": plain(folder, None, rival)} if rival else {}
        candidates["Dovetail"] = dovetail(samples, augment)
        sections.append(section("Noise, gain and shift", candidates, base, len(samples)))
        candidates = {
            base: plain(folder, represent_one),
            "torch, a batch at a time": plain(folder, None, represent_batch),
            "Dovetail": dovetail(samples, [*augment, stft, masks]),
        }
        sections.append(section("The same, then spectrograms with masks", candidates, base, len(samples)))
        base = "without masks"
        few = samples.subset(np.arange(0, len(samples), 4))
        candidates = {base: training(few, [stft]), "with masks, by the fused op": training(few, [stft, masks])}
        sections.append(section("Training a small network on spectrograms", candidates, base, len(few)))
        steps: dict[str, Any] = {
            "reading": None,
            "`gaussian_noise`": augment[0],
            "`amplitude_scaling`": augment[1],
            "`time_shift`": augment[2],
            "`auto_augment`": transforms.AutoAugment(),
            "`patch_augment`": transforms.PatchAugment(),
            "`stft`": stft,
            "`log_mel`": tfr.LogMel(sample_rate=RATE, n_fft=N_FFT, hop=HOP),
            "`cwt`": tfr.CWT(sample_rate=RATE),
            "`envelope_spectrum`": tfr.EnvelopeSpectrum(sample_rate=RATE, band=(2000.0, 5000.0)),
            "`spectral_kurtosis`": tfr.SpectralKurtosis(),
        }
        each = {what: dovetail(samples, [] if step is None else [step]) for what, step in steps.items()}
        figures = {what: min(values) / len(samples) for what, values in alternate(each, 3).items()}
        rows = [
            (what, f"{1e6 * (seconds - (figures['reading'] if what != 'reading' else 0)):.1f}")
            for what, seconds in figures.items()
        ]
        sections.append("### Each transform of Dovetail\n\n" + table(["operation", "µs per sample, fastest"], rows))
    about = versions("dovetail", "dovetail-signals", "torch", "torch-audiomentations")
    about += (
        f". {len(samples):,} windows of {WINDOW} values, batches of {BATCH}, one thread; processor time, medians of "
        f"{ROUNDS} alternating rounds; ratios are taken within a round. Dovetail draws by address: the numbers are the "
        "same in any batch, on any device and after a resume."
    )
    record("Signals", "make bench-signals", "\n\n".join([about, *sections]))


if __name__ == "__main__":
    main()
