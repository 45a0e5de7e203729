"""A .npz archive as a dataset: one array of inputs, one of targets, others as columns."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from dovetail.config.diagnostics import suggest
from dovetail.data.arrays import Array, Header, as_inputs, read_headers, read_npz
from dovetail.data.errors import DataError, count
from dovetail.data.samples import TensorSamples
from dovetail.data.targets import Task, make_targets
from dovetail.spec.limits import AtLeast


def npz_arrays(
    path: Path,
    *,
    inputs: str = "inputs",
    targets: str = "targets",
    task: Task = "classification",
    meta: Sequence[str] = (),
    classes: Sequence[str] = (),
    dtype: Literal["float32", "int64"] = "float32",
    max_bytes: Annotated[int, AtLeast(1)] = 1 << 30,
) -> TensorSamples:
    """Return the arrays of a .npz file as a dataset held in memory.

    Every other array of one dimension and the same length is a column, for ``split.by``, ``split.stratify`` and
    ``meta``.

    Args:
        path: the file. Arrays of Python objects are refused: reading them would run code.
        inputs: the name of the inputs, ``[samples, …]``.
        targets: the name of the targets, ``[samples]``.
        task: ``classification`` makes classes of the different targets; ``regression`` takes them as numbers.
        meta: columns that travel with each sample into the batch's ``meta``.
        classes: the classes in the order of their indices, where sorted targets are not right.
        dtype: of the inputs; ``int64`` for token ids.
        max_bytes: the memory that the arrays together may need once unpacked; 1 GiB by default.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: an array is missing, damaged, too large, or of another length; the message names file and array.
    """
    path = Path(path).expanduser()
    headers = read_headers(path)
    columns = _checked(path, headers, inputs, targets, meta)
    arrays: dict[str, Array] = {}
    left = max_bytes
    for name in dict.fromkeys((inputs, targets, *columns)):
        arrays[name] = read_npz(path, name, largest=left)
        left -= arrays[name].nbytes

    def fail(row: int, message: str) -> DataError:
        return DataError.at(path, f"sample {row}: {message}")

    labels = _plain(arrays[targets].reshape(-1))
    target_values, class_names = make_targets(labels, targets, task, tuple(classes), fail)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return TensorSamples(
        as_inputs(path, inputs, arrays[inputs], dtype),
        target_values,
        class_names,
        digest,
        {name: _plain(arrays[name]) for name in columns},
        tuple(meta),
    )


def _checked(path: Path, headers: Mapping[str, Header], inputs: str, targets: str, meta: Sequence[str]) -> list[str]:
    """Check that the arrays asked for are there and fit, and return the names of those that are columns."""
    for option, name in (("inputs", inputs), ("targets", targets), *(("meta", name) for name in meta)):
        if name not in headers:
            shapes = ", ".join(f"'{one}' {header.shape}" for one, header in headers.items())
            hint = suggest(name, headers)
            raise DataError.at(path, f"{option}: there is no array '{name}'{hint} (there are {shapes})")
    shape = headers[inputs].shape
    if not shape or not shape[0]:
        raise DataError.at(path, f"inputs: array '{inputs}' of shape {shape} has no samples")
    samples = shape[0]
    if headers[targets].shape not in {(samples,), (samples, 1)}:
        found = f"shape {headers[targets].shape} for {count(samples, 'sample')} in '{inputs}'"
        raise DataError.at(path, f"targets: '{targets}' has {found}")
    columns = [name for name, header in headers.items() if header.shape == (samples,) and name != inputs]
    for name in meta:
        if name not in columns:
            raise DataError.at(path, f"meta: '{name}' has shape {headers[name].shape}, where a column has ({samples},)")
    return columns


def _plain(values: Array) -> Array:
    """Return text as objects, and numbers as they are."""
    if values.dtype.kind == "S":
        return np.asarray([value.decode("utf-8", "replace") for value in values.tolist()], dtype=object)
    return values.astype(object) if values.dtype.kind == "U" else values
