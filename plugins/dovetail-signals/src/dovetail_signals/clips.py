"""Windows of audio clips that lie end to end in one archive, as in the Free Spoken Digit Dataset."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch

from dovetail import AtLeast, Between
from dovetail_signals.recordings import Short, handle_short
from dovetail_signals.signal_files import MAX_BYTES, load_npz
from dovetail_signals.windows import Recording, WindowSamples, cut


def clips(
    path: Path,
    target: str,
    *,
    window: Annotated[int, AtLeast(2)],
    overlap: Annotated[float, Between(0, 0.99)] = 0.0,
    signal: str = "audio",
    offsets: str = "offsets",
    sample_rate: str = "sample_rate",
    longest: Annotated[int | None, AtLeast(2)] = None,
    task: Literal["classification", "regression"] = "classification",
    meta: Sequence[str] = (),
    classes: Sequence[str] = (),
    short: Short = "pad",
    max_bytes: Annotated[int, AtLeast(1)] = MAX_BYTES,
) -> WindowSamples:
    """Return windows of the clips in a NumPy archive.

    Args:
        path: a ``.npz`` with all clips end to end and their offsets. Every other array with one value for each clip is
            a column to predict, to split by, or to put into ``meta``.
        target: the array to predict.
        window: length of a window, in values.
        overlap: fraction of a window that the next one repeats.
        signal: the array with all clips end to end, [values]; integers are scaled to -1 … 1.
        offsets: the array with the start of each clip and the end of the last, [clips + 1].
        sample_rate: the array with the sampling rate of all clips, in Hz.
        longest: use at most this many values of each clip, from its start.
        task: ``classification`` or ``regression``.
        meta: arrays whose values go with each window into the batch's ``meta``.
        classes: the classes in the order of their indices; sorted by default.
        short: a clip shorter than a window is padded with zeros (``pad``), dropped (``drop``) or an error (``error``).
        max_bytes: limit on the memory of the unpacked arrays; 1 GiB by default.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file cannot be read, an array is missing, or the offsets do not fit the signal.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        arrays = load_npz(path, max_bytes)
    except (ValueError, OSError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: {error}") from error
    missing = [name for name in (signal, offsets, sample_rate) if name not in arrays]
    if missing:
        raise ValueError(f"{path}: no array '{missing[0]}'; it has {', '.join(arrays)}")
    sound, edges = arrays.pop(signal), arrays.pop(offsets)
    rate = float(arrays.pop(sample_rate).reshape(()))
    count = len(edges) - 1
    if count < 1 or edges[0] < 0 or edges[-1] > len(sound) or (np.diff(edges) <= 0).any():
        raise ValueError(f"{path}: '{offsets}' must rise from 0 to at most {len(sound)}, the length of '{signal}'")
    facts = {name: values.tolist() for name, values in arrays.items() if values.shape == (count,)}
    scale = float(2 ** (8 * sound.dtype.itemsize - 1)) if sound.dtype.kind == "i" else 1.0
    scaled = torch.from_numpy(sound.astype(np.float32) / np.float32(scale))[None]
    recordings = [
        Recording(f"clip {number}", scaled[:, begin : min(end, begin + (longest or end))], rate, _facts(facts, number))
        for number, (begin, end) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
    ]
    digest = hashlib.sha256(sound.tobytes() + edges.tobytes())
    for name in sorted(facts):
        digest.update(arrays[name].tobytes())
    return cut(
        handle_short(recordings, window, short),
        window=window,
        overlap=overlap,
        target=target,
        task=task,
        meta=meta,
        classes=classes,
        fingerprint=digest.hexdigest(),
    )


def _facts(columns: dict[str, list[Any]], number: int) -> dict[str, Any]:
    return {name: values[number] for name, values in columns.items()}
