"""Datasets built from arrays in memory: a .npz archive, and scikit-learn's handwritten digits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch

from dovetail.config.diagnostics import suggest
from dovetail.data.arrays import Array, Header, as_inputs, read_headers, read_npz
from dovetail.data.columns import Task
from dovetail.data.errors import DataError, count
from dovetail.data.samples import TensorSamples
from dovetail.data.targets import make_targets
from dovetail.spec import AtLeast


def digits(*, flat: bool = False) -> TensorSamples:
    """Return 1,797 images of handwritten digits in 10 classes: 8 × 8 pixels, values 0 to 1.

    The images need no download: scikit-learn contains them.

    Args:
        flat: inputs of shape ``[64]`` instead of ``[1, 8, 8]``.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.

    Source:
        The test set of E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI (1998).
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the dataset 'digits' needs scikit-learn: pip install 'dovetail[digits]'", name=error.name
        ) from error
    pixels, labels = load_digits(return_X_y=True)
    images = (np.asarray(pixels) / 16).astype(np.float32)
    classes = np.asarray(labels).astype(np.int64)
    return TensorSamples(
        torch.from_numpy(images).reshape(-1, *((64,) if flat else (1, 8, 8))),
        torch.from_numpy(classes),
        class_names=tuple(map(str, range(10))),
        fingerprint=hashlib.sha256(images.tobytes() + classes.tobytes()).hexdigest(),
        columns={"label": classes},
    )


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
        path: the file. Arrays of Python objects are refused, because reading them would run code.
        inputs: the name of the inputs, ``[samples, …]``.
        targets: the name of the targets, ``[samples]``.
        task: ``classification`` turns the distinct targets into classes; ``regression`` takes them as numbers.
        meta: columns that travel with each sample into the batch's ``meta``.
        classes: the classes in the order of their indices; by default the sorted targets.
        dtype: dtype of the inputs; ``int64`` for token ids.
        max_bytes: the memory that all arrays together may need once unpacked; 1 GiB by default.

    Raises:
        FileNotFoundError: the file does not exist.
        DataError: an array is missing, damaged, too large, or of another length; the message names file and array.
    """
    path = Path(path).expanduser()
    columns = _check_arrays(path, read_headers(path), inputs, targets, meta)
    arrays: dict[str, Array] = {}
    left = max_bytes
    for name in dict.fromkeys((inputs, targets, *columns)):
        arrays[name] = read_npz(path, name, max_bytes=left)
        left -= arrays[name].nbytes

    def row_error(row: int, message: str) -> DataError:
        return DataError.at(path, f"sample {row}: {message}")

    labels = _decode(arrays[targets].reshape(-1))
    target_values, class_names = make_targets(labels, targets, task, tuple(classes), row_error)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return TensorSamples(
        as_inputs(path, inputs, arrays[inputs], dtype),
        target_values,
        class_names,
        digest,
        {name: _decode(arrays[name]) for name in columns},
        tuple(meta),
    )


def _check_arrays(
    path: Path, headers: Mapping[str, Header], inputs: str, targets: str, meta: Sequence[str]
) -> list[str]:
    """Check that the arrays exist and fit together, and return the names of the columns."""
    for option, name in (("inputs", inputs), ("targets", targets), *(("meta", name) for name in meta)):
        if name not in headers:
            shapes = ", ".join(f"'{known}' {header.shape}" for known, header in headers.items())
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
            raise DataError.at(
                path, f"meta: '{name}' has shape {headers[name].shape}; a column must have shape ({samples},)"
            )
    return columns


def _decode(values: Array) -> Array:
    """Return text as an object array of str, and numbers unchanged."""
    if values.dtype.kind == "S":
        return np.asarray([value.decode("utf-8", "replace") for value in values.tolist()], dtype=object)
    return values.astype(object) if values.dtype.kind == "U" else values
