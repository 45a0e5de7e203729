"""Time of the native ops, compared with their lower bound (a copy or a read of the same bytes) and with plain torch.

The alternatives are implemented here: masking one mask at a time as torchaudio does, all samples and masks at once as
vectorised pipelines such as NeMo's do (also with ``torch.compile``), ``torch.nn.utils.get_total_norm``, and a loop over
samples that looks up the frequencies of the predicted class. Candidates alternate; a figure is the minimum of a few
repetitions in a round, and ratios are medians over rounds of two figures of the same round. The lower bound is a copy
to allocated memory; a result in new memory also includes the allocation, as `clone` shows.

Run ``make bench-ops`` or ``python benchmarks/ops.py``.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from _measure import alternate, ratios, record, table, versions
from torch import Tensor

from dovetail import ops
from dovetail.ops._frequency import frequency_penalties_reference
from dovetail.random import uniform

ROUNDS, REPEATS = 15, 5
TIME, FREQUENCY = 40, 20
RATE = 20_480
TINY_CALLS = 200


def timed(call: Callable[[], object]) -> Callable[[], float]:
    """Return a function that measures a call: the minimum of a few repetitions, in seconds."""

    def measure() -> float:
        seconds = []
        for _ in range(REPEATS):
            started = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - started)
        return min(seconds)

    return measure


def one_mask_after_another(pictures: Tensor) -> Tensor:
    """Mask as torchaudio's ``mask_along_axis_iid`` does: a comparison along the axis and a masked fill per mask."""
    for axis, widest in ((3, TIME), (3, TIME), (2, FREQUENCY), (2, FREQUENCY)):
        extent = pictures.shape[axis]
        width = torch.rand(pictures.shape[:2]) * widest
        start = (torch.rand(pictures.shape[:2]) * (extent - width)).long()[..., None, None]
        end = start + width.long()[..., None, None]
        positions = torch.arange(extent)
        moved = pictures.transpose(axis, -1)
        pictures = moved.masked_fill((positions >= start) & (positions < end), 0.0).transpose(axis, -1)
    return pictures


def all_masks_at_once(pictures: Tensor) -> Tensor:
    """Mask with an outer product of the unmasked positions along both axes."""
    kept = []
    for axis, widest in ((2, FREQUENCY), (3, TIME)):
        extent = pictures.shape[axis]
        width = (torch.rand(len(pictures), 2, 1) * (widest + 1)).long()
        start = (torch.rand(len(pictures), 2, 1) * (extent - width + 1)).long()
        positions = torch.arange(extent)
        kept.append(~((positions >= start) & (positions < start + width)).any(1))
    return pictures * (kept[0][:, None, :, None] & kept[1][:, None, None, :])


def one_sample_after_another(signals: Tensor, logits: Tensor, bands: list[list[tuple[float, float]]]) -> Tensor:
    """Look up frequencies as published code does: in a loop over samples, for the predicted class."""
    total = torch.zeros(())
    for signal, scores in zip(signals, logits, strict=True):
        energy = torch.fft.rfft(signal).abs().square()
        bins = torch.fft.rfftfreq(len(signal), 1 / RATE)
        for low, high in bands[int(scores.argmax())]:
            inside = energy[(bins >= low) & (bins <= high)].sum()
            total = total + 1 - inside / energy.sum()
    return total / len(signals)


def frequency_section() -> str:
    """Measure the frequency consistency of 64 signals of a second, 10 classes with 3 frequencies and 3 harmonics."""
    signals, logits = torch.randn(64, RATE), torch.randn(64, 10, requires_grad=True)
    frequencies = [[30 * (2.3 + 0.31 * which + 1.1 * number) for number in range(3)] for which in range(10)]
    bands = ops.bands_around(frequencies, harmonics=3)
    loop_bands = [[(f * h * 0.9, f * h * 1.1) for f in own for h in (1, 2, 3)] for own in frequencies]
    spectrum = torch.view_as_real(torch.fft.rfft(signals))[:, None].contiguous()
    rest = (bands.edges, bands.ends, None, None, 1.0, RATE)

    def loss_and_gradient() -> None:
        ops.frequency_consistency(logits, ops.frequency_penalties(signals, bands, sample_rate=RATE)).backward()

    figures = alternate(
        {
            "one rfft": timed(lambda: torch.fft.rfft(signals)),
            "dovetail, penalties": timed(lambda: ops.frequency_penalties(signals, bands, sample_rate=RATE)),
            "its part for the bands": timed(lambda: torch.ops.dovetail.frequency_penalties(spectrum, *rest)),
            "dovetail, loss and gradient": timed(loss_and_gradient),
            "plain torch, all at once": timed(lambda: frequency_penalties_reference(spectrum, *rest)),
            "one sample after another, argmax": timed(lambda: one_sample_after_another(signals, logits, loop_bands)),
        },
        ROUNDS,
    )
    return report(f"frequency consistency, [64, {RATE}] fp32, 10 classes, 90 bands", figures, "one rfft")


def tiny_section() -> str:
    """Measure the overhead of a call on tiny inputs."""
    picture, uniforms = torch.randn(1, 1, 4, 4), uniform(0, 0, torch.arange(1), "spec_augment", (4, 2))
    gradient, target = [torch.randn(4)], torch.empty(1, 1, 4, 4)
    logits, labels = torch.randn(8, 4, requires_grad=True), torch.arange(8) % 4
    penalties = torch.rand(8, 4)

    def many(call: Callable[[], object]) -> Callable[[], float]:
        def calls() -> None:
            for _ in range(TINY_CALLS):
                call()

        return timed(calls)

    def plain_terms() -> None:
        (F.cross_entropy(logits, labels) + (logits.softmax(1) * penalties).sum() / 8).backward()

    def our_terms() -> None:
        ops.physical_terms(logits, labels, penalties=penalties).total.backward()

    calls: dict[str, Callable[[], object]] = {
        "`copy_`": lambda: target.copy_(picture),
        "all masks at once, eager": lambda: all_masks_at_once(picture),
        "dovetail, spec_augment": lambda: ops.spec_augment(picture, uniforms),
        "dovetail, spec_augment_": lambda: ops.spec_augment_(picture, uniforms),
        "`get_total_norm`": lambda: torch.nn.utils.get_total_norm(gradient),
        "dovetail, grad_norms": lambda: ops.grad_norms(gradient),
        "correct predictions, eager": lambda: torch.count_nonzero((logits.argmax(-1) == labels) & (labels != -100)),
        "dovetail, count_right": lambda: ops.count_right(logits, labels),
        "cross-entropy and gradient": lambda: F.cross_entropy(logits, labels).backward(),
        "the same and frequency consistency, eager": plain_terms,
        "dovetail, physical_terms and gradient": our_terms,
    }
    figures = alternate({name: many(call) for name, call in calls.items()}, ROUNDS)
    rows = [[name, f"{1e6 * statistics.median(values) / TINY_CALLS:.1f}"] for name, values in figures.items()]
    return "### Overhead of a call on tiny inputs\n\n" + table(["operation", "µs per call"], rows)


def spec_augment_section() -> str:
    """Measure SpecAugment on 64 spectrograms of 128 × 1024 in float32."""
    pictures = torch.randn(64, 1, 128, 1024)
    target, scratch = torch.empty_like(pictures), pictures.clone()
    uniforms = uniform(0, 0, torch.arange(64), "spec_augment", (4, 2))
    compiled = torch.compile(all_masks_at_once)
    compiled(pictures)
    figures = alternate(
        {
            "copy of the same bytes": timed(lambda: target.copy_(pictures)),
            "`clone`, a new tensor": timed(pictures.clone),
            "dovetail, functional": timed(lambda: ops.spec_augment(pictures, uniforms)),
            "dovetail, with `out`": timed(lambda: ops.spec_augment(pictures, uniforms, out=target)),
            "dovetail, in place": timed(lambda: ops.spec_augment_(scratch, uniforms)),
            "all masks at once, eager": timed(lambda: all_masks_at_once(pictures)),
            "all masks at once, torch.compile": timed(lambda: compiled(pictures)),
            "one mask after another, eager": timed(lambda: one_mask_after_another(pictures)),
        },
        ROUNDS,
    )
    return report("spec_augment, [64, 1, 128, 1024] fp32, 2 + 2 masks", figures, "copy of the same bytes")


def grad_norms_section(dtype: torch.dtype) -> str:
    """Measure the statistics of 10 million gradients in 100 tensors."""
    gradients = [torch.randn(100_000, dtype=dtype) for _ in range(100)]
    figures = alternate(
        {
            "`get_total_norm`": timed(lambda: torch.nn.utils.get_total_norm(gradients)),
            "dovetail, all statistics": timed(lambda: ops.grad_norms(gradients)),
            "per parameter, in Python": timed(
                lambda: [(g.norm().item(), g.abs().max().item(), (g == 0).sum().item()) for g in gradients]
            ),
        },
        ROUNDS,
    )
    return report(f"grad_norms, 10 M in 100 tensors, {str(dtype).removeprefix('torch.')}", figures, "`get_total_norm`")


def count_right_section() -> str:
    """Measure the accuracy of 8,192 predictions of a language model with 8,192 tokens, in float32."""
    scores, labels = torch.randn(8192, 8192), torch.randint(8192, (8192,))

    def plain() -> None:
        kept = labels != -100
        torch.count_nonzero((scores.argmax(-1) == labels) & kept)
        torch.count_nonzero(kept)

    figures = alternate(
        {
            "one read (`amax` of everything)": timed(scores.amax),
            "dovetail": timed(lambda: ops.count_right(scores, labels)),
            "plain torch": timed(plain),
        },
        ROUNDS,
    )
    return report("count_right, [8192, 8192] fp32", figures, "one read (`amax` of everything)")


def report(title: str, figures: dict[str, list[float]], base: str) -> str:
    """Return a table of medians and ratios."""
    of_base = ratios(figures, base)
    rows = [
        [name, f"{1e3 * statistics.median(values):.3f}", f"{of_base[name]:.2f}"] for name, values in figures.items()
    ]
    return f"### {title}\n\n" + table(["operation", "ms", f"× {base}"], rows)


def main() -> None:
    """Measure and record."""
    sections = [
        spec_augment_section(),
        grad_norms_section(torch.float32),
        grad_norms_section(torch.bfloat16),
        frequency_section(),
        count_right_section(),
        tiny_section(),
    ]
    about = f"{versions('torch', 'numpy')}; {torch.get_num_threads()} threads. "
    about += f"Medians of {ROUNDS} alternating rounds, each the minimum of {REPEATS} repetitions."
    record("Ops", "make bench-ops", "\n\n".join([about, *sections]))


if __name__ == "__main__":
    main()
