"""What the native ops cost, beside their floor (a copy or a read of the same bytes) and beside plain torch.

The rivals' maths are written here: a masking one mask after another as torchaudio does it, all samples and masks at
once as vectorised pipelines do it, and ``torch.nn.utils.get_total_norm``. Everything runs in turn; a figure is the
least of a few repetitions in one round, the ratios are medians over rounds of two figures of the same round.
A copy into memory that is there already is the floor; a result in new memory also waits for the system to hand it out,
which `clone` shows.

Run ``make bench-ops`` or ``python benchmarks/ops.py``.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from _measure import alternate, ratios, record, table, versions
from torch import Tensor

from dovetail import ops
from dovetail.random import uniform

ROUNDS, REPEATS = 15, 5
TIME, FREQUENCY = 40, 20


def timed(call: Callable[[], object]) -> Callable[[], float]:
    """Return what measures a call: the least of a few repetitions, in seconds."""

    def measure() -> float:
        seconds = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - began)
        return min(seconds)

    return measure


def one_mask_after_another(pictures: Tensor) -> Tensor:
    """Mask as torchaudio's ``mask_along_axis_iid`` does: for each mask a comparison over the axis and a masked fill."""
    for axis, widest in ((3, TIME), (3, TIME), (2, FREQUENCY), (2, FREQUENCY)):
        extent = pictures.shape[axis]
        width = torch.rand(pictures.shape[:2]) * widest
        start = (torch.rand(pictures.shape[:2]) * (extent - width)).long()[..., None, None]
        end = start + width.long()[..., None, None]
        places = torch.arange(extent)
        moved = pictures.transpose(axis, -1)
        pictures = moved.masked_fill((places >= start) & (places < end), 0.0).transpose(axis, -1)
    return pictures


def all_masks_at_once(pictures: Tensor) -> Tensor:
    """Mask with one outer product of what is kept along either axis."""
    kept = []
    for axis, widest in ((2, FREQUENCY), (3, TIME)):
        extent = pictures.shape[axis]
        width = (torch.rand(len(pictures), 2, 1) * (widest + 1)).long()
        start = (torch.rand(len(pictures), 2, 1) * (extent - width + 1)).long()
        places = torch.arange(extent)
        kept.append(~((places >= start) & (places < start + width)).any(1))
    return pictures * (kept[0][:, None, :, None] & kept[1][:, None, None, :])


def spec_augment_section() -> str:
    """Measure SpecAugment on 64 spectrograms of 128 × 1024 in float32."""
    pictures = torch.randn(64, 1, 128, 1024)
    target, scratch = torch.empty_like(pictures), pictures.clone()
    uniforms = uniform(0, 0, torch.arange(64), "spec_augment", (4, 2))
    figures = alternate(
        {
            "copy of the same bytes": timed(lambda: target.copy_(pictures)),
            "`clone`, a new tensor": timed(pictures.clone),
            "dovetail, functional": timed(lambda: ops.spec_augment(pictures, uniforms)),
            "dovetail, in place": timed(lambda: ops.spec_augment_(scratch, uniforms)),
            "all masks at once, eager": timed(lambda: all_masks_at_once(pictures)),
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


def report(title: str, figures: dict[str, list[float]], base: str) -> str:
    """Return a table of medians and ratios."""
    of_base = ratios(figures, base)
    rows = [[name, f"{1e3 * statistics.median(one):.3f}", f"{of_base[name]:.2f}"] for name, one in figures.items()]
    return f"### {title}\n\n" + table(["what", "ms", f"× {base}"], rows)


def main() -> None:
    """Measure and record."""
    sections = [spec_augment_section(), grad_norms_section(torch.float32), grad_norms_section(torch.bfloat16)]
    about = f"{versions('torch', 'numpy')}; {torch.get_num_threads()} threads. "
    about += f"Medians of {ROUNDS} alternating rounds, each the least of {REPEATS} repetitions."
    record("Ops", "make bench-ops", "\n\n".join([about, *sections]))


if __name__ == "__main__":
    main()
