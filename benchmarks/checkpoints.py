"""Time to save and load 100 million parameters with AdamW state (1.2 GB), compared with the disk and other libraries.

The lower bounds are a raw write and flush of the same bytes in one file, a copy to allocated memory, and a read of the
checkpoint's files into a small buffer. Candidates alternate; ratios are medians over rounds of two figures of the same
round. All writes are flushed to the disk, even if a library leaves that to its caller. "Cold" means that the operating
system was asked to drop the files from its cache.

Run ``make bench-checkpoints`` or ``python benchmarks/checkpoints.py``.
"""

from __future__ import annotations

import logging
import os
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from _measure import alternate, ratios, record, table, versions

from dovetail.checkpoint.format import encode, read_checkpoint, write_checkpoint
from dovetail.checkpoint.saver import Saver
from dovetail.checkpoint.store import CheckpointStore
from dovetail.checkpoint.tensor_file import memory_of
from dovetail.checkpoint.verify import verify

ROUNDS = 7
SHAPES = [(1024, 1024)] * 95 + [(1024,)] * 380
BUFFER = memoryview(bytearray(1 << 22))


def training_state() -> dict[str, Any]:
    """Return the state of a model and of AdamW, with random numbers."""
    torch.manual_seed(0)
    moments = [
        {"step": torch.tensor(1.0), "exp_avg": torch.randn(shape), "exp_avg_sq": torch.rand(shape)} for shape in SHAPES
    ]
    model = {f"layers.{number}.weight": torch.randn(shape) for number, shape in enumerate(SHAPES)}
    return {"model": model, "optimizer": {"state": dict(enumerate(moments))}}


def flat(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return all tensors in a flat dict, as safetensors and DCP take them."""
    files = encode(state).tensors.items()
    return {f"{file}.{key}": tensor for file, tensors in files for key, tensor in tensors.items()}


def flush(path: Path) -> None:
    """Flush the files of a path to the disk."""
    for file in files(path):
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def files(path: Path) -> Iterable[Path]:
    """Return the file at a path, or all files below it."""
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def seconds(call: Callable[[], object]) -> float:
    """Return the duration of a call; its result is freed after the measurement."""
    started = time.perf_counter()
    result = call()
    duration = time.perf_counter() - started
    del result
    return duration


def writing(path: Path, write: Callable[[Path], object], *, unflushed: bool = False) -> Callable[[], float]:
    """Return a function that measures writing to a new path, including the flush to the disk."""

    def measure() -> float:
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)

        def call() -> None:
            write(path)
            if unflushed:
                flush(path)

        return seconds(call)

    return measure


def reading(path: Path, call: Callable[[Path], object], *, cold: bool) -> Callable[[], float]:
    """Return a function that measures reading.

    It first reads everything once, so that caches below the operating system, such as that of a virtual disk, are in
    the same state for every candidate.
    """

    def drop_from_cache() -> None:
        for file in files(path):
            descriptor = os.open(file, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)

    def measure() -> float:
        drop_from_cache()
        raw_read(path)
        if cold:
            drop_from_cache()
        return seconds(lambda: call(path))

    return measure


def raw_write(path: Path, tensors: Iterable[torch.Tensor]) -> None:
    """Write and flush the bytes."""
    with path.open("xb", buffering=0) as file:
        for tensor in tensors:
            rest = memory_of(tensor)
            while rest:
                rest = rest[os.write(file.fileno(), rest) :]
        os.fsync(file.fileno())


def raw_read(path: Path) -> None:
    """Read all bytes into a small buffer."""
    for name in files(path):
        with name.open("rb", buffering=0) as file:
            while file.readinto(BUFFER):
                pass


def read_into_new_memory(path: Path) -> list[torch.Tensor]:
    """Read all bytes into newly allocated memory: the lower bound of loading."""
    tensors = []
    for name in files(path):
        tensors.append(torch.empty(name.stat().st_size, dtype=torch.uint8))
        with name.open("rb", buffering=0) as file:
            rest = memory_of(tensors[-1])
            while rest:
                rest = rest[file.readinto(rest) :]
    return tensors


def save_section(folder: Path, state: dict[str, Any]) -> str:
    """Measure saving, including the flush to the disk."""
    tensors = flat(state)
    figures = alternate(
        {
            "raw write and flush": writing(folder / "raw", lambda path: raw_write(path, tensors.values())),
            "Dovetail": writing(folder / "ours", lambda path: write_checkpoint(path, state)),
            "safetensors": writing(
                folder / "st", lambda path: safetensors.torch.save_file(tensors, path), unflushed=True
            ),
            "`torch.save`": writing(folder / "pt", lambda path: torch.save(state, path), unflushed=True),
            "DCP": writing(folder / "dcp", lambda path: dcp.save(tensors, checkpoint_id=path, no_dist=True)),
        },
        ROUNDS,
    )
    return report("Save", figures, "raw write and flush", sum(tensor.nbytes for tensor in tensors.values()))


def stall_section(folder: Path, state: dict[str, Any]) -> str:
    """Measure how long a background save blocks training."""
    tensors = flat(state)
    buffers = [torch.empty_like(tensor).zero_() for tensor in tensors.values()]
    store = CheckpointStore(folder / "background", keep_best=0, keep_last=1)
    saver = Saver(store, background=True)
    step = 0

    def dovetail() -> float:
        nonlocal step
        saver.wait()
        step += 1
        return seconds(lambda: saver.save(state, partial(store.save, step, 1, {})))

    pending: list[Any] = []

    def dcp_async() -> float:
        while pending:
            pending.pop().result()
        shutil.rmtree(folder / "dcp-async", ignore_errors=True)
        duration = seconds(lambda: pending.append(dcp.async_save(tensors, checkpoint_id=folder / "dcp-async")))
        pending[0].result()
        return duration

    def copy() -> float:
        saver.wait()
        return seconds(lambda: torch._foreach_copy_(buffers, list(tensors.values())))

    figures = alternate(
        {"a copy to allocated memory": copy, "Dovetail, in the background": dovetail, "DCP `async_save`": dcp_async},
        ROUNDS,
    )
    with saver:
        pass
    return report("Time training is blocked", figures, "a copy to allocated memory")


def read_section(folder: Path, state: dict[str, Any], *, cold: bool) -> str:
    """Measure verifying and loading the files of :func:`save_section`."""
    tensors = flat(state)
    loaded = {key: torch.empty_like(tensor) for key, tensor in tensors.items()}
    calls: dict[str, tuple[Path, Callable[[Path], object]]] = {
        "raw read": (folder / "ours", raw_read),
        "raw read into new memory": (folder / "ours", read_into_new_memory),
        "Dovetail, verify": (folder / "ours", verify),
        "Dovetail, verify and load": (folder / "ours", read_checkpoint),
        "safetensors": (folder / "st", safetensors.torch.load_file),
        "`torch.load`": (folder / "pt", torch.load),
        "DCP, into allocated memory": (
            folder / "dcp",
            lambda path: dcp.load(loaded, checkpoint_id=path, no_dist=True),
        ),
    }
    figures = alternate(
        {name: reading(path, call, cold=cold) for name, (path, call) in calls.items()},
        ROUNDS,
    )
    total = sum(tensor.nbytes for tensor in tensors.values())
    return report(f"Read, {'cold' if cold else 'warm'}", figures, "raw read", total)


def report(title: str, figures: dict[str, list[float]], base: str, length: int | None = None) -> str:
    """Return a table of medians, rates and ratios."""
    of_base = ratios(figures, base)
    rows = []
    for name, values in figures.items():
        median = statistics.median(values)
        rate = [f"{length / median / 1e9:.2f}"] if length else []
        rows.append([name, f"{median:.3f}", f"{min(values):.3f}", *rate, f"{of_base[name]:.2f}"])
    header = ["operation", "median s", "fastest", *(["GB/s"] if length else []), f"× {base}"]
    return f"### {title}\n\n" + table(header, rows)


def priority() -> str:
    """Return a note if this process runs at a raised priority, else an empty string."""
    group = Path("/proc/self/autogroup")
    nice = group.read_text(encoding="utf-8").rpartition(" ")[2].strip() if group.exists() else "0"
    return "" if nice == "0" else f" Measured at a raised priority (nice {nice}) on a shared machine."


def main() -> None:
    """Measure and record."""
    warnings.simplefilter("ignore")  # DCP's own use of torch causes warnings
    logging.disable(logging.WARNING)
    state = training_state()
    length = encode(state).nbytes()
    folder = Path(tempfile.mkdtemp(prefix=".bench-", dir=Path.cwd()))
    try:
        dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=0, world_size=1)
        sections = [save_section(folder, state)]
        sections += [read_section(folder, state, cold=True), read_section(folder, state, cold=False)]
        sections += [stall_section(folder, state)]
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        shutil.rmtree(folder)
    about = f"{versions('torch', 'safetensors')}; {torch.get_num_threads()} threads. {length / 1e9:.2f} GB in "
    about += f"{4 * len(SHAPES)} tensors; medians of {ROUNDS} alternating rounds, ratios taken within a round."
    about += f" safetensors maps its file into memory, so its warm figure includes no read.{priority()}"
    record("Checkpoints", "make bench-checkpoints", "\n\n".join([about, *sections]))


if __name__ == "__main__":
    main()
