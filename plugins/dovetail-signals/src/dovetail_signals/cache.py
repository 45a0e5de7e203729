"""Representations that are computed once: kept by the content of the signal, in memory and on disk."""

from __future__ import annotations

import hashlib
import inspect
import io
import logging
import os
import sys
import uuid
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, final

import numpy as np
import torch
from torch import Tensor

from dovetail import AtLeast, Batch, Run, Transform
from dovetail.random import Draws
from dovetail_signals import representations
from dovetail_signals.sample_rate import alert_on_nested_sample_rates
from dovetail_signals.tfr import require_signals

_logger: Final = logging.getLogger("dovetail.signals")
_DIGEST: Final = 16  # bytes: two different signals with one digest are not to be expected before 2^64 signals
_FLUSH_BYTES: Final = 16 << 20  # bytes that are written together, and that a kill can lose


@final
class Cached:
    """A representation that is computed once for each signal.

    What is kept is found by the signal's bytes, and belongs to the representation with these options, its source, and
    this version of torch: nothing old is ever taken for new. Each signal is represented by itself, so that it is the
    same in any batch, computed or kept, before and after a resume. Transforms that draw random numbers come after it:
    before it, every signal is a new one. It has to look at the signals on the CPU, and lets no gradient through.

    Args:
        representation: a transform of this package: ``{ type = "signals.cwt", sample_rate = 12000 }``.
        path: a folder where representations are kept from run to run, also of a run that is killed; several runs may
            share it. By default memory alone keeps them.
        limit_mb: of representations, in millions of bytes; further ones are not kept.

    Raises:
        ValueError: it is no representation, or its options cannot be told.
    """

    #: Draws no random numbers.
    deterministic: ClassVar[bool] = True

    def __init__(
        self, *, representation: Transform, path: Path | None = None, limit_mb: Annotated[int, AtLeast(1)] = 2000
    ) -> None:
        self._inner: Any = representation
        if not hasattr(representation, "represent"):
            raise ValueError(f"representation: {type(representation).__name__} is no representation of signals")
        #: By the option that names it.
        self.nested = {"representation": representation}
        self._identity = _identity(representation)
        self._path, self._limit = None if path is None else Path(path).expanduser(), limit_mb * 10**6
        self._stores: dict[str, _Store] = {}

    def dovetail_run_start(self, run: Run) -> None:
        """Say so where the recordings have another sampling rate than the representation is told."""
        alert_on_nested_sample_rates(run, self)

    def row_hz(self, sample_rate: float) -> Tensor | None:
        """Return what the representation says of its rows, if it does."""
        found: Tensor | None = self._inner.row_hz(sample_rate) if hasattr(self._inner, "row_hz") else None
        return found

    def transform_batch(self, batch: Batch, draws: Draws) -> Batch:  # noqa: ARG002 (the form of every transform)
        """Return the batch with its signals represented; ValueError where its inputs are no signals."""
        return {**batch, "inputs": self.represent(require_signals(batch))}

    def represent(self, signals: Tensor) -> Tensor:
        """Return the representations of signals [N, channels, time]."""
        store = self._store(signals.device.type)
        with torch.no_grad():
            found = [
                store.get(_key(signal), partial(self._alone, signals[number]))
                for number, signal in enumerate(signals.cpu().contiguous())
            ]
        return torch.stack(found).to(signals.device) if found else self._inner.represent(signals)

    def _alone(self, signal: Tensor) -> Tensor:
        found: Tensor = self._inner.represent(signal[None])[0]
        return found

    def _store(self, device: str) -> _Store:
        if device not in self._stores:
            name = hashlib.blake2b(self._identity + device.encode(), digest_size=_DIGEST).hexdigest()
            folder = None if self._path is None else self._path / f"{type(self._inner).__name__.lower()}-{name}"
            self._stores[device] = _Store(folder, self._limit)
        return self._stores[device]

    def flush(self) -> None:
        """Write what is new to the disk."""
        for store in self._stores.values():
            store.flush()

    def dovetail_epoch_end(self) -> None:
        """Write what the epoch brought."""
        self.flush()

    def dovetail_run_end(self) -> None:
        """Write what is left."""
        self.flush()


class _Store:
    """Tensors by digest, in memory; where there is a folder, also in files there, each whole or not there at all."""

    def __init__(self, folder: Path | None, limit: int) -> None:
        self._folder, self._limit = folder, limit
        self._kept: dict[bytes, Tensor] = {}
        self._new: list[bytes] = []
        self._size = self._new_size = 0
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(folder.glob("*.kept")):
                self._read(path)

    def get(self, key: bytes, compute: Callable[[], Tensor]) -> Tensor:
        """Return what is kept under ``key``, or compute and keep it."""
        found = self._kept.get(key)
        if found is None:
            found = compute().cpu()
            self._keep(key, found)
        return found

    def _keep(self, key: bytes, value: Tensor) -> None:
        if self._size >= self._limit:
            return
        self._kept[key] = value
        self._size += value.nbytes
        if self._size >= self._limit:
            _logger.warning(
                "signals.cached: %d representations fill its %.0f MB, further ones are not kept; raise limit_mb, or "
                "put transforms that draw random numbers after it",
                len(self._kept),
                self._limit / 1e6,
            )
        if self._folder is not None:
            self._new.append(key)
            self._new_size += value.nbytes
            if self._new_size >= _FLUSH_BYTES:
                self.flush()

    def flush(self) -> None:
        """Write what is new into a file of its own; representations of one shape make one array."""
        if self._folder is None or not self._new:
            return
        by_shape: dict[tuple[torch.dtype, torch.Size], list[bytes]] = {}
        for key in self._new:
            by_shape.setdefault((self._kept[key].dtype, self._kept[key].shape), []).append(key)
        arrays: dict[str, Any] = {}
        for number, keys in enumerate(by_shape.values()):
            arrays[f"keys{number}"] = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, _DIGEST)
            arrays[f"values{number}"] = torch.stack([self._kept[key] for key in keys]).numpy()
        content = io.BytesIO()
        np.savez(content, **arrays)
        try:
            _write(self._folder / f"{uuid.uuid4().hex}.kept", content.getvalue())
        except OSError as error:  # training goes on without
            _logger.warning("signals.cached: nothing more is written to %s: %s", self._folder, error)
            self._folder = None
        self._new, self._new_size = [], 0

    def _read(self, path: Path) -> None:
        content = path.read_bytes()
        if hashlib.blake2b(content[64:]).digest() != content[:64]:
            _logger.warning("signals.cached: %s is damaged, and is not used", path)
            return
        with zipfile.ZipFile(io.BytesIO(content[64:])) as archive:
            count = len(archive.namelist()) // 2
        with np.load(io.BytesIO(content[64:]), allow_pickle=False) as arrays:
            for number in range(count):
                values = torch.from_numpy(arrays[f"values{number}"])
                for key, value in zip(arrays[f"keys{number}"], values, strict=True):
                    if self._size < self._limit and key.tobytes() not in self._kept:
                        self._kept[key.tobytes()] = value
                        self._size += value.nbytes


def _write(path: Path, content: bytes) -> None:
    """Write a digest and the content, all or nothing, also where the process or the machine dies meanwhile."""
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as file:
            file.write(hashlib.blake2b(content).digest())
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _key(signal: Tensor) -> bytes:
    digest = hashlib.blake2b(f"{signal.dtype} {tuple(signal.shape)}".encode(), digest_size=_DIGEST)
    digest.update(signal.numpy().data)
    return digest.digest()


def _canonical(value: Any) -> str:
    """Return a value as text that no other value has.

    Raises:
        TypeError: it is none of the kinds that options are.
    """
    if isinstance(value, Tensor):
        content = hashlib.blake2b(value.detach().cpu().contiguous().numpy().tobytes()).hexdigest()
        return f"{value.dtype}{tuple(value.shape)}{content}"
    if isinstance(value, dict):
        return f"{{{','.join(f'{_canonical(name)}:{_canonical(item)}' for name, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_canonical, value))}]"
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    raise TypeError(f"one of them is a {type(value).__name__}")


def _identity(representation: Any) -> bytes:
    """Return what tells this representation from any other: its options, its source, and what computes it."""
    try:
        options = _canonical(vars(representation))
        sources = [Path(inspect.getfile(source)).read_bytes() for source in (type(representation), representations)]
    except (TypeError, OSError) as error:
        raise ValueError(
            f"representation: {type(representation).__name__} cannot be kept, as its options cannot be told: {error}"
        ) from error
    name = f"{type(representation).__module__}.{type(representation).__qualname__}"
    versions = f"{torch.__version__} {sys.byteorder}"
    parts = [name.encode(), options.encode(), *sources, versions.encode()]
    return b"".join(hashlib.blake2b(part).digest() for part in parts)
