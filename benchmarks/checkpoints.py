"""What saving and loading 100 million parameters with AdamW state (1.2 GB) costs, beside the disk and beside others.

The floors are a raw write and flush of the same bytes in one file, one copy of them into memory that is there already,
and reading the files of the checkpoint into a small buffer. Everything runs in turn, ratios are medians over rounds of
two figures of the same round. What is written is flushed to the disk, also where a library leaves that to its caller.
"Cold" means that the operating system has been asked to forget the files.

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
    """Return the state of a model and of AdamW, of random numbers."""
    torch.manual_seed(0)
    moments = [
        {"step": torch.tensor(1.0), "exp_avg": torch.randn(shape), "exp_avg_sq": torch.rand(shape)} for shape in SHAPES
    ]
    model = {f"layers.{number}.weight": torch.randn(shape) for number, shape in enumerate(SHAPES)}
    return {"model": model, "optimizer": {"state": dict(enumerate(moments))}}


def flat(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return all tensors by one name each, as safetensors and DCP are given them."""
    return {f"{file}.{key}": tensor for file, some in encode(state).tensors.items() for key, tensor in some.items()}


def flush(path: Path) -> None:
    """Flush the files of a path to the disk."""
    for one in files(path):
        descriptor = os.open(one, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def files(path: Path) -> Iterable[Path]:
    """Return the files of a path."""
    return [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())


def seconds(call: Callable[[], object]) -> float:
    """Return how long a call takes; what it returns is thrown away afterwards."""
    began = time.perf_counter()
    result = call()
    took = time.perf_counter() - began
    del result
    return took


def writing(path: Path, write: Callable[[Path], object], *, unflushed: bool = False) -> Callable[[], float]:
    """Return what measures writing to a path that is not there, up to the disk."""

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
    """Return what measures reading.

    All is read from the disk once before, so that what lies below the operating system, such as the cache of a virtual
    disk, is in the same state for every candidate.
    """

    def forget() -> None:
        for one in files(path):
            descriptor = os.open(one, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)

    def measure() -> float:
        forget()
        raw_read(path)
        if cold:
            forget()
        return seconds(lambda: call(path))

    return measure


def raw_write(path: Path, tensors: Iterable[torch.Tensor]) -> None:
    """Write the bytes and flush them, and nothing else."""
    with path.open("xb", buffering=0) as file:
        for tensor in tensors:
            rest = memory_of(tensor)
            while rest:
                rest = rest[os.write(file.fileno(), rest) :]
        os.fsync(file.fileno())


def raw_read(path: Path) -> None:
    """Read all bytes into one small buffer."""
    for one in files(path):
        with one.open("rb", buffering=0) as file:
            while file.readinto(BUFFER):
                pass


def read_into_new_memory(path: Path) -> list[torch.Tensor]:
    """Read all bytes into memory that the system has to hand out: the floor of whatever loads."""
    found = []
    for one in files(path):
        found.append(torch.empty(one.stat().st_size, dtype=torch.uint8))
        with one.open("rb", buffering=0) as file:
            rest = memory_of(found[-1])
            while rest:
                rest = rest[file.readinto(rest) :]
    return found


def save_section(folder: Path, state: dict[str, Any]) -> str:
    """Measure saving up to the disk."""
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
    return report("Save", figures, "raw write and flush", sum(one.nbytes for one in tensors.values()))


def stall_section(folder: Path, state: dict[str, Any]) -> str:
    """Measure how long training waits for a save in the background."""
    tensors = flat(state)
    buffers = [torch.empty_like(one).zero_() for one in tensors.values()]
    store = CheckpointStore(folder / "background", keep_best=0, keep_last=1)
    saver = Saver(store, background=True)
    step = 0

    def ours() -> float:
        nonlocal step
        saver.wait()
        step += 1
        return seconds(lambda: saver.save(state, partial(store.save, step, 1, {})))

    pending: list[Any] = []

    def theirs() -> float:
        while pending:
            pending.pop().result()
        shutil.rmtree(folder / "dcp-async", ignore_errors=True)
        took = seconds(lambda: pending.append(dcp.async_save(tensors, checkpoint_id=folder / "dcp-async")))
        pending[0].result()
        return took

    def copy() -> float:
        saver.wait()
        return seconds(lambda: torch._foreach_copy_(buffers, list(tensors.values())))

    figures = alternate(
        {"one copy into memory that is there": copy, "Dovetail, in the background": ours, "DCP `async_save`": theirs},
        ROUNDS,
    )
    with saver:
        pass
    return report("What training waits for", figures, "one copy into memory that is there")


def read_section(folder: Path, state: dict[str, Any], *, cold: bool) -> str:
    """Measure verifying and loading what :func:`save_section` has left behind."""
    tensors = flat(state)
    loaded = {key: torch.empty_like(one) for key, one in tensors.items()}
    calls: dict[str, tuple[Path, Callable[[Path], object]]] = {
        "raw read": (folder / "ours", raw_read),
        "raw read into new memory": (folder / "ours", read_into_new_memory),
        "Dovetail, verify": (folder / "ours", verify),
        "Dovetail, verify and load": (folder / "ours", read_checkpoint),
        "safetensors": (folder / "st", safetensors.torch.load_file),
        "`torch.load`": (folder / "pt", torch.load),
        "DCP, into memory that is there": (
            folder / "dcp",
            lambda path: dcp.load(loaded, checkpoint_id=path, no_dist=True),
        ),
    }
    figures = alternate(
        {name: reading(path, call, cold=cold) for name, (path, call) in calls.items()},
        ROUNDS,
    )
    total = sum(one.nbytes for one in tensors.values())
    return report(f"Read, {'cold' if cold else 'warm'}", figures, "raw read", total)


def report(title: str, figures: dict[str, list[float]], base: str, length: int | None = None) -> str:
    """Return a table of medians, rates and ratios."""
    of_base = ratios(figures, base)
    rows = []
    for name, one in figures.items():
        median = statistics.median(one)
        rate = [f"{length / median / 1e9:.2f}"] if length else []
        rows.append([name, f"{median:.3f}", f"{min(one):.3f}", *rate, f"{of_base[name]:.2f}"])
    head = ["what", "median s", "fastest", *(["GB/s"] if length else []), f"× {base}"]
    return f"### {title}\n\n" + table(head, rows)


def priority() -> str:
    """Say whether this session of processes has been given more than its share of the cores."""
    group = Path("/proc/self/autogroup")
    nice = group.read_text(encoding="utf-8").rpartition(" ")[2].strip() if group.exists() else "0"
    return "" if nice == "0" else f" Measured at a raised priority (nice {nice}) on a machine that others use too."


def main() -> None:
    """Measure and record."""
    warnings.simplefilter("ignore")  # DCP warns of its own use of torch
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
    about += f" safetensors maps its file: warm, it has read nothing yet.{priority()}"
    record("Checkpoints", "make bench-checkpoints", "\n\n".join([about, *sections]))


if __name__ == "__main__":
    main()
