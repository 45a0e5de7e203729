"""A folder of recordings as a dataset: a metadata table names each file and its label."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Self, final

import torch
from attrs import define, evolve, field, frozen

from dovetail.data.arrays import Array, as_inputs, read_headers, read_npy, read_npz
from dovetail.data.errors import DataError, listing
from dovetail.data.rows import Table, read_csv, read_numbers
from dovetail.data.samples import Indices, plain
from dovetail.data.strata import label
from dovetail.data.table import Missing, splittable, without_missing
from dovetail.data.targets import Task, make_targets
from dovetail.spec.limits import AtLeast

_SUFFIXES: Final = (".npz", ".npy", ".csv")
_CACHED: Final = 1 << 28  # bytes of inputs that are kept in memory once read


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
    """Return the files that a metadata table lists as a dataset. They are read when asked for.

    An input is float32: the array of a ``.npy`` or ``.csv`` (numbers only, no header) as it is, or the arrays of a
    ``.npz`` named in ``keys``, stacked to ``[keys, …]``. Every column of the table can be split by.

    Args:
        path: the folder.
        target: the metadata column to predict.
        metadata: the table, a CSV file in the folder.
        file: the column with each file's path from the folder. Files outside of it are refused.
        keys: the arrays to take from each ``.npz``; a file with a single array needs none.
        length: how many values of the last dimension to take, from the start; by default all, so that inputs may
            differ in length.
        task: ``classification`` makes classes of the target's different values; ``regression`` takes them as numbers.
        meta: metadata columns that travel with each sample into the batch's ``meta``.
        classes: the classes in the order of their indices, where sorted labels are not right.
        missing: what to do about a row without target or file: ``error``, or ``drop`` the row.
        max_bytes: the memory that one array may need once unpacked; 1 GiB by default.

    Raises:
        FileNotFoundError: there is no such folder or metadata.
        DataError: the metadata cannot be used, or names a file that is not there; the message names file and line. A
            file that cannot be read is named, with its line, when it is asked for.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder")
    table = read_csv(root / metadata)
    for option, names in {"target": (target,), "file": (file,), "meta": meta}.items():
        for name in names:
            table.column(name, option)
    table = without_missing(table, (target, file), missing)
    files = tuple(_inside(root, table, row, label(name)) for row, name in enumerate(table.columns[file].tolist()))
    values, class_names = make_targets(table.columns[target], target, task, tuple(classes), table.fail)
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
        columns={name: splittable(column) for name, column in table.columns.items()},
        meta=tuple(meta),
    )


def _inside(root: Path, table: Table, row: int, name: str) -> Path:
    """Return the path of a file named in the metadata, if it is one and lies in the folder, links followed."""
    path = root / name
    if "\0" in name or not path.resolve().is_relative_to(root.resolve()):
        raise table.fail(row, f"file '{name}' lies outside of the folder {root}")
    if not path.is_file():
        raise table.fail(row, f"there is no file '{name}' in {root}")
    if path.suffix.lower() not in _SUFFIXES:
        raise table.fail(row, f"file '{name}' is none of {listing(_SUFFIXES)}")
    return path


def _fingerprint(root: Path, table: Table, files: Sequence[Path]) -> str:
    """Digest the metadata and each file's name and size: quick for many files, though blind to some edits in place."""
    digest = hashlib.sha256(table.digest.encode())
    for path in files:
        digest.update(f"\0{path.relative_to(root).as_posix()}\0{path.stat().st_size}".encode())
    return digest.hexdigest()


@define
class _Cache:
    """What has been read, until it takes too much memory."""

    tensors: dict[Path, torch.Tensor] = field(factory=dict)
    nbytes: int = 0

    def keep(self, path: Path, read: torch.Tensor) -> None:
        if self.nbytes + read.nbytes <= _CACHED:
            self.tensors[path] = read
            self.nbytes += read.nbytes


def _only_array(path: Path) -> str:
    names = list(read_headers(path))
    if len(names) > 1:
        raise DataError.at(path, f"there are the arrays {listing(names)}; say in `keys` which to take")
    return names[0]


@final
@frozen(eq=False, repr=False)
class FolderSamples:
    """The dataset that :func:`folder` returns. What is read is kept in memory, up to 256 MiB."""

    #: Reading draws no random numbers.
    deterministic: ClassVar[bool] = True

    files: tuple[Path, ...]
    #: The metadata's line of each file.
    lines: Array
    target_values: torch.Tensor
    class_names: tuple[str, ...] | None
    fingerprint: str
    metadata: Path
    keys: tuple[str, ...] = ()
    length: int | None = None
    max_bytes: int = 1 << 30
    columns: Mapping[str, Array] = field(factory=dict)
    meta: tuple[str, ...] = ()
    _cache: _Cache = field(factory=_Cache)

    @property
    def num_classes(self) -> int | None:
        """Number of classes; None for a regression."""
        return None if self.class_names is None else len(self.class_names)

    @property
    def num_outputs(self) -> int | None:
        """Numbers to predict for a sample of a regression; None where there are classes."""
        return self.target_values.shape[-1] if self.class_names is None else None

    @property
    def targets(self) -> Array:
        """The targets as a 1-d array."""
        return self.target_values.reshape(len(self)).numpy()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the first sample's input; others may be longer or shorter unless ``length`` is set."""
        return tuple(self._read(0).shape)

    def column(self, name: str) -> Array:
        """Return a metadata column; KeyError where there is none of that name."""
        if name not in self.columns:
            raise KeyError(f"no column '{name}'; there are {listing(sorted(self.columns))}")
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor] | dict[str, Any]:
        """Return a sample; DataError where its file cannot be read."""
        inputs = self._read(index)
        if not self.meta:
            return inputs, self.target_values[index]
        values = {name: plain(self.columns[name][index]) for name in self.meta}
        return {"inputs": inputs, "targets": self.target_values[index], **values}

    def subset(self, indices: Indices) -> Self:
        """Return a dataset of the samples at ``indices``, in that order, which shares what has been read."""
        return evolve(
            self,
            files=tuple(self.files[index] for index in indices),
            lines=self.lines[indices],
            target_values=torch.index_select(self.target_values, 0, torch.from_numpy(indices)),
            columns={name: values[indices] for name, values in self.columns.items()},
        )

    def _read(self, index: int) -> torch.Tensor:
        path = self.files[index]
        kept = self._cache.tensors.get(path)
        if kept is not None:
            return kept
        try:
            read = self._cut(path, self._array(path))
        except (DataError, FileNotFoundError) as error:
            raise DataError.at(self.metadata, str(error), line=int(self.lines[index])) from error
        self._cache.keep(path, read)
        return read

    def _array(self, path: Path) -> torch.Tensor:
        match path.suffix.lower():
            case ".npy":
                return as_inputs(path, None, read_npy(path, largest=self.max_bytes))
            case ".csv":
                return as_inputs(path, None, read_numbers(path))
        arrays = {}
        for key in self.keys or (_only_array(path),):
            arrays[key] = as_inputs(path, key, read_npz(path, key, largest=self.max_bytes // max(1, len(self.keys))))
        shapes = {tuple(one.shape) for one in arrays.values()}
        if len(shapes) > 1:
            shown = ", ".join(f"'{key}' {tuple(one.shape)}" for key, one in arrays.items())
            raise DataError.at(path, f"keys: arrays of one shape are needed, there are {shown}")
        return torch.stack(tuple(arrays.values())) if self.keys else next(iter(arrays.values()))

    def _cut(self, path: Path, read: torch.Tensor) -> torch.Tensor:
        if self.length is None:
            return read
        if read.ndim == 0 or read.shape[-1] < self.length:
            raise DataError.at(path, f"length = {self.length}, but the array has shape {tuple(read.shape)}")
        return read[..., : self.length].clone()
