"""A folder of recordings as a dataset: a metadata table names each file and its label."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Self, final

import torch
from attrs import define, evolve, field, frozen

from dovetail.data.arrays import Array, as_inputs, read_headers, read_npy, read_npz
from dovetail.data.columns import Missing, Table, Task, as_label
from dovetail.data.errors import DataError, listing
from dovetail.data.samples import Indices, LabelledSamples
from dovetail.data.table_files import read_csv, read_numbers
from dovetail.data.targets import make_targets
from dovetail.spec import AtLeast

_SUFFIXES: Final = (".npz", ".npy", ".csv")
_CACHE_BYTES: Final = 1 << 28


def folder(
    path: Path,
    target: str,
    *,
    metadata: str = "metadata.csv",
    file: str = "file",
    keys: Sequence[str] = (),
    length: Annotated[int | None, AtLeast(1)] = None,
    task: Task = "classification",
    meta: Sequence[str] = (),
    classes: Sequence[str] = (),
    missing: Missing = "error",
    max_bytes: Annotated[int, AtLeast(1)] = 1 << 30,
) -> FolderSamples:
    """Return the files that a metadata table lists as a dataset. A file is read when its sample is first used.

    An input is float32: the array of a ``.npy`` or ``.csv`` (numbers only, no header), or the arrays of a ``.npz``
    named in ``keys``, stacked to ``[keys, …]``. Every column of the table can be split by.

    Args:
        path: the folder.
        target: the metadata column to predict.
        metadata: the table, a CSV file in the folder.
        file: the column with each file's path relative to the folder. Files outside the folder are refused.
        keys: the arrays to take from each ``.npz``; a file with a single array needs none.
        length: the number of values of the last dimension to take, from the start; by default all, so inputs may
            differ in length.
        task: ``classification`` turns the target's distinct values into classes; ``regression`` takes them as numbers.
        meta: metadata columns that travel with each sample into the batch's ``meta``.
        classes: the classes in the order of their indices; by default the sorted labels.
        missing: what to do with a row without target or file: ``error``, or ``drop`` the row.
        max_bytes: the memory that one array may need once unpacked; 1 GiB by default.

    Raises:
        FileNotFoundError: the folder or the metadata does not exist.
        DataError: the metadata cannot be used, or names a file that does not exist; the message names file and line.
            A damaged file is reported, with its line in the metadata, when its sample is read.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder")
    table = read_csv(root / metadata)
    for option, names in {"target": (target,), "file": (file,), "meta": meta}.items():
        for name in names:
            table.column(name, option)
    table = table.complete((target, file), missing)
    files = tuple(_resolve(root, table, row, as_label(name)) for row, name in enumerate(table.labels(file).tolist()))
    values, class_names = make_targets(table.target(target, task), target, task, tuple(classes), table.row_error)
    return FolderSamples(
        files,
        table.lines,
        values,
        class_names,
        _fingerprint(root, table, files),
        table.path,
        keys=tuple(keys),
        length=length,
        max_bytes=max_bytes,
        columns=table.split_columns(meta),
        meta=tuple(meta),
    )


def _resolve(root: Path, table: Table, row: int, name: str) -> Path:
    """Return the path of a file named in the metadata; it must lie in the folder after following symbolic links."""
    path = root / name
    if "\0" in name or not path.resolve().is_relative_to(root.resolve()):
        raise table.row_error(row, f"file '{name}' lies outside the folder {root}")
    if not path.is_file():
        raise table.row_error(row, f"there is no file '{name}' in {root}")
    if path.suffix.lower() not in _SUFFIXES:
        raise table.row_error(row, f"file '{name}' is none of {listing(_SUFFIXES)}")
    return path


def _fingerprint(root: Path, table: Table, files: Sequence[Path]) -> str:
    """Digest the metadata and each file's name and size: fast, but blind to edits that keep a file's size."""
    digest = hashlib.sha256(table.digest.encode())
    for path in files:
        digest.update(f"\0{path.relative_to(root).as_posix()}\0{path.stat().st_size}".encode())
    return digest.hexdigest()


@define
class _Cache:
    """Inputs that were read, up to a limit of memory."""

    tensors: dict[Path, torch.Tensor] = field(factory=dict)
    nbytes: int = 0

    def add(self, path: Path, inputs: torch.Tensor) -> None:
        if self.nbytes + inputs.nbytes <= _CACHE_BYTES:
            self.tensors[path] = inputs
            self.nbytes += inputs.nbytes


def _only_array(path: Path) -> str:
    names = list(read_headers(path))
    if len(names) > 1:
        raise DataError.at(path, f"there are several arrays, {listing(names)}: choose with `keys`")
    return names[0]


@final
@frozen(eq=False, repr=False)
class FolderSamples(LabelledSamples):
    """The dataset that :func:`folder` returns. Inputs that were read stay in memory, up to 256 MiB."""

    files: tuple[Path, ...]
    #: The metadata's line of each file.
    lines: Array
    target_values: torch.Tensor
    class_names: tuple[str, ...] | None
    #: SHA-256 of the metadata and of each file's name and size.
    fingerprint: str
    #: The metadata file.
    metadata: Path
    keys: tuple[str, ...] = ()
    length: int | None = None
    max_bytes: int = 1 << 30
    columns: Mapping[str, Array] = field(factory=dict)
    meta: tuple[str, ...] = ()
    _cache: _Cache = field(factory=_Cache)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the first sample's input; others may be longer or shorter unless ``length`` is set."""
        return tuple(self._read(0).shape)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor] | dict[str, Any]:
        """Return a sample.

        Raises:
            DataError: its file cannot be read.
        """
        return self._sample(index, self._read(index))

    def subset(self, indices: Indices) -> Self:
        """Return a dataset of the samples at ``indices``, in that order, with the same cache."""
        files = tuple(self.files[index] for index in indices)
        return evolve(self, files=files, lines=self.lines[indices], **self._select(indices))

    def _read(self, index: int) -> torch.Tensor:
        path = self.files[index]
        cached = self._cache.tensors.get(path)
        if cached is not None:
            return cached
        try:
            inputs = self._cut(path, self._load(path))
        except (DataError, FileNotFoundError) as error:
            raise DataError.at(self.metadata, str(error), line=int(self.lines[index])) from error
        self._cache.add(path, inputs)
        return inputs

    def _load(self, path: Path) -> torch.Tensor:
        match path.suffix.lower():
            case ".npy":
                return as_inputs(path, None, read_npy(path, max_bytes=self.max_bytes))
            case ".csv":
                return as_inputs(path, None, read_numbers(path))
        keys, limit = self.keys or (_only_array(path),), self.max_bytes // max(1, len(self.keys))
        arrays = {key: as_inputs(path, key, read_npz(path, key, max_bytes=limit)) for key in keys}
        if len({array.shape for array in arrays.values()}) > 1:
            shapes = ", ".join(f"'{key}' {tuple(array.shape)}" for key, array in arrays.items())
            raise DataError.at(path, f"keys: the arrays must have the same shape, but they are {shapes}")
        return torch.stack(tuple(arrays.values())) if self.keys else next(iter(arrays.values()))

    def _cut(self, path: Path, inputs: torch.Tensor) -> torch.Tensor:
        if self.length is None:
            return inputs
        if inputs.ndim == 0 or inputs.shape[-1] < self.length:
            raise DataError.at(path, f"length = {self.length}, but the array has shape {tuple(inputs.shape)}")
        return inputs[..., : self.length].clone()
