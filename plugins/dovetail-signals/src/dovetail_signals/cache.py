"""A cache of representations, keyed by the content of each signal, in memory and on disk."""

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
_DIGEST: Final = 16  # bytes: a collision is not expected below 2^64 signals
_FLUSH_BYTES: Final = 16 << 20  # size of one write; a kill can lose this much


@final
class Cached:
    """Compute a representation once for each signal and reuse it.

    The key is the signal's bytes together with the representation's options and source code and the version of torch,
    so a stale entry is never used. Each signal is represented on its own: the result does not depend on its batch, on
    whether it comes from the cache, or on a resume. Put transforms that draw random numbers after this one; before it,
    they make every signal new. The cache copies signals to the CPU to hash them, and no gradient flows through it.

    Args:
        representation: a transform of this package: ``{ type = "signals.cwt", sample_rate = 12000 }``.
        path: a folder that keeps representations from run to run, even if a run is killed; several runs may use it at
            once. By default they are kept in memory only.
        limit_mb: size of all cached representations, in MB (10⁶ bytes); beyond it nothing more is cached.

    Raises:
        ValueError: ``representation`` is not a representation, or has an option that cannot be hashed.
    """

    #: Draws no random numbers.
    deterministic: ClassVar[bool] = True

    def __init__(
        self, *, representation: Transform, path: Path | None = None, limit_mb: Annotated[int, AtLeast(1)] = 2000
    ) -> None:
        self._inner: Any = representation
        if not hasattr(representation, "represent"):
            raise ValueError(f"representation: {type(representation).__name__} is not a representation of signals")
        #: The wrapped transform by its option's path, for the sampling-rate check.
        self.nested = {"representation": representation}
        self._identity = _identity(representation)
        self._path, self._limit = None if path is None else Path(path).expanduser(), limit_mb * 10**6
        self._stores: dict[str, _Store] = {}

    def dovetail_run_start(self, run: Run) -> None:
        """Raise an alert if the representation's ``sample_rate`` differs from the recordings'."""
        alert_on_nested_sample_rates(run, self)

    def row_hz(self, sample_rate: float) -> Tensor | None:
        """Return the frequency of each row in Hz, or None if the representation has none."""
        found: Tensor | None = self._inner.row_hz(sample_rate) if hasattr(self._inner, "row_hz") else None
        return found

    def transform_batch(self, batch: Batch, draws: Draws) -> Batch:  # noqa: ARG002 (every transform takes it)
        """Return the batch with representations as inputs; ValueError if its inputs are not signals."""
        return {**batch, "inputs": self.represent(require_signals(batch))}

    def represent(self, signals: Tensor) -> Tensor:
        """Return the representations of signals [N, channels, time], from the cache where they are in it."""
        store = self._store(signals.device.type)
        with torch.no_grad():
            found = [
                store.get(_key(signal), partial(self._represent_one, signals[number]))
                for number, signal in enumerate(signals.cpu().contiguous())
            ]
        return torch.stack(found).to(signals.device) if found else self._inner.represent(signals)

    def _represent_one(self, signal: Tensor) -> Tensor:
        found: Tensor = self._inner.represent(signal[None])[0]
        return found

    def _store(self, device: str) -> _Store:
        if device not in self._stores:
            name = hashlib.blake2b(self._identity + device.encode(), digest_size=_DIGEST).hexdigest()
            folder = None if self._path is None else self._path / f"{type(self._inner).__name__.lower()}-{name}"
            self._stores[device] = _Store(folder, self._limit)
        return self._stores[device]

    def flush(self) -> None:
        """Write new entries to the disk."""
        for store in self._stores.values():
            store.flush()

    def dovetail_epoch_end(self) -> None:
        """Write the epoch's new entries."""
        self.flush()

    def dovetail_run_end(self) -> None:
        """Write the remaining entries."""
        self.flush()


class _Store:
    """Tensors by digest, in memory and, given a folder, in files that are written atomically."""

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
        """Return the entry of ``key``, computing and keeping it if it is missing."""
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
                "signals.cached: %d representations fill its %.0f MB and no more are cached; raise limit_mb, or put "
                "transforms that draw random numbers after it",
                len(self._kept),
                self._limit / 1e6,
            )
        if self._folder is not None:
            self._new.append(key)
            self._new_size += value.nbytes
            if self._new_size >= _FLUSH_BYTES:
                self.flush()

    def flush(self) -> None:
        """Write new entries to one new file, with one array for each shape."""
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
        except OSError as error:  # training continues, with the cache in memory
            _logger.warning("signals.cached: cannot write to %s, nothing more is saved there: %s", self._folder, error)
            self._folder = None
        self._new, self._new_size = [], 0

    def _read(self, path: Path) -> None:
        content = path.read_bytes()
        if hashlib.blake2b(content[64:]).digest() != content[:64]:
            _logger.warning("signals.cached: %s is damaged and was ignored", path)
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
    """Write a digest and the content atomically, even if the process or the machine dies while writing."""
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
    """Return a text that is unique to the value.

    Raises:
        TypeError: the value is none of the types that options have.
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
    raise TypeError(f"one option is of type {type(value).__name__}")


def _identity(representation: Any) -> bytes:
    """Return a digest of the representation's options, its source code and the version of torch."""
    try:
        options = _canonical(vars(representation))
        sources = [Path(inspect.getfile(source)).read_bytes() for source in (type(representation), representations)]
    except (TypeError, OSError) as error:
        raise ValueError(
            f"representation: {type(representation).__name__} cannot be cached, its options cannot be hashed: {error}"
        ) from error
    name = f"{type(representation).__module__}.{type(representation).__qualname__}"
    versions = f"{torch.__version__} {sys.byteorder}"
    parts = [name.encode(), options.encode(), *sources, versions.encode()]
    return b"".join(hashlib.blake2b(part).digest() for part in parts)
