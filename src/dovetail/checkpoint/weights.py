"""Model weights: loaded from checkpoints and weight files, and exported for other programs."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from torch import nn

from dovetail.checkpoint.format import read_checkpoint, read_model
from dovetail.checkpoint.layout import hash_pool
from dovetail.checkpoint.manifest import MALFORMED, PICKLE_SUFFIXES, CheckpointError, read_manifest
from dovetail.checkpoint.tensor_file import SAFETENSORS_NAMES, write_tensors
from dovetail.checkpoint.verify import read_tree
from dovetail.storage.atomic import make_folder, staged_file
from dovetail.storage.errors import storage_error

#: The keys under which programs put the weights in a file written by torch.save.
_WEIGHT_KEYS = ("state_dict", "model_state_dict", "model")


def read_weights(checkpoint: Path, *, ema: bool | None = None) -> dict[str, Any]:
    """Return the model's state in a checkpoint, by default with the weights that its metrics were measured with.

    Args:
        checkpoint: its folder; the files read are verified.
        ema: True for the moving average of the weights, False for the trained weights. None for the validated weights:
            the average if the run kept one, unless ``training.ema_validate`` was off.

    Raises:
        CheckpointError: the checkpoint is damaged, has no model, or has no average and ``ema`` is true.
    """
    if not is_average(checkpoint, ema=ema):
        return dict(read_model(checkpoint))
    state = read_checkpoint(checkpoint)
    try:
        for name, average in state["ema"]["weights"].items():
            state["model"][name].copy_(average)  # in place, so that tied weights change under every name
        return dict(state["model"])
    except MALFORMED as error:
        raise CheckpointError(checkpoint, f"the average of the weights does not fit the model: {error}") from error


def is_average(checkpoint: Path, *, ema: bool | None = None) -> bool:
    """Return whether :func:`read_weights` returns the moving average of the weights.

    Raises:
        CheckpointError: the checkpoint is damaged, or has no average and ``ema`` is true.
    """
    tree = read_tree(checkpoint, read_manifest(checkpoint))["tree"]
    state = tree.get("ema") if isinstance(tree, dict) else None
    if not isinstance(state, dict) or "validated" not in state:  # a custom loop may save something else under "ema"
        if ema:
            raise CheckpointError(
                checkpoint, "there is no moving average of the weights in it: the run had no training.ema_decay"
            )
        return False
    return bool(state["validated"] if ema is None else ema)


def load_weights(model: nn.Module, path: Path, *, allow_pt: bool = False) -> None:
    """Load all weights at ``path`` into ``model``.

    Args:
        model: a model with the architecture that the weights were saved from.
        path: a checkpoint's folder, or a ``.safetensors`` file. From a checkpoint, the validated weights are loaded;
            see :func:`read_weights`.
        allow_pt: whether to accept a file written by ``torch.save``. It is read with ``weights_only``, which runs no
            code except torch's own; but the format is pickle, and this protection has been broken before.

    Raises:
        CheckpointError: there is no such file, it is damaged, or its weights do not fit the model.
    """
    load_state(model, _read(path.expanduser(), allow_pt=allow_pt), path)


def load_state(model: nn.Module, state: Mapping[str, Any], path: Path) -> None:
    """Load ``state``, which was read from ``path``, into ``model``.

    Raises:
        CheckpointError: the weights do not fit the model.
    """
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(path, f"these weights do not fit this {type(model).__name__}: {reason}") from error


def _read(path: Path, *, allow_pt: bool) -> Mapping[str, Any]:
    if path.is_dir():
        return read_weights(path)
    if not path.exists():
        raise CheckpointError(path, "there is no such file")
    if path.suffix in PICKLE_SUFFIXES:
        if not allow_pt:
            raise CheckpointError(
                path, "torch.save wrote this file as pickle, which may run code; see training.init_from_pt"
            )
        return _read_pickled(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(path, "this is neither a checkpoint's folder nor a .safetensors file")
    # Imported here because it takes 2.6 MB of memory, and few runs start from such a file.
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(path, f"this file cannot be read ({error})") from error


def _read_pickled(path: Path) -> Mapping[str, Any]:
    try:
        # weights_only is safe from torch 2.10 on, which Dovetail requires (CVE-2026-24747).
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, pickle.UnpicklingError) as error:
        # Leave out torch's message: it advises running the code.
        needs = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f"it needs {needs[1]}" if needs else "it is damaged, or torch.save did not write it"
        raise CheckpointError(path, f"this file cannot be read without running its code ({reason})") from error
    if isinstance(content, Mapping):
        inner = next((content[key] for key in _WEIGHT_KEYS if isinstance(content.get(key), Mapping)), None)
        content = content if inner is None else inner
    if not isinstance(content, Mapping):
        raise CheckpointError(path, f"this file holds a {type(content).__name__}, not the weights of a model")
    return content


@frozen
class Exported:
    """The result of :func:`export_weights`."""

    #: Names of the exported tensors.
    names: list[str]
    #: Whether the tensors are the moving average of the weights.
    average: bool
    #: Names in the model's state that are not tensors, or have a dtype without a safetensors name.
    left_out: list[str]


def export_weights(checkpoint: Path, path: Path, *, ema: bool | None = None) -> Exported:
    """Write the model's weights in a checkpoint to one ``.safetensors`` file, atomically.

    Every tensor is stored under its own name, so a tied weight is written once per name.

    Args:
        checkpoint: its folder; the files read are verified.
        path: the file to write; an existing file is replaced.
        ema: as for :func:`read_weights`.

    Raises:
        CheckpointError: as for :func:`read_weights`.
        StorageError: the file cannot be written.
    """
    state = read_weights(checkpoint, ema=ema)
    tensors = {
        name: value.detach().contiguous()
        for name, value in state.items()
        if isinstance(value, torch.Tensor) and value.dtype in SAFETENSORS_NAMES
    }
    try:
        make_folder(path.absolute().parent)
        with hash_pool() as pool, staged_file(path) as file:
            write_tensors(file, tensors, pool)()
    except OSError as error:
        raise storage_error(path, error, "write", needed=sum(tensor.nbytes for tensor in tensors.values())) from error
    return Exported(sorted(tensors), is_average(checkpoint, ema=ema), sorted(set(state) - set(tensors)))
