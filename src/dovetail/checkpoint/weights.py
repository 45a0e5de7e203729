"""Weights by themselves: given to a model, and written for other programs."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from torch import nn

from dovetail.checkpoint.errors import CheckpointError
from dovetail.checkpoint.format import read_checkpoint, read_model
from dovetail.checkpoint.manifest import MALFORMED, PICKLED, read_manifest
from dovetail.checkpoint.pieces import hashers
from dovetail.checkpoint.tensor_file import NAMES, write_tensors
from dovetail.checkpoint.verify import read_tree
from dovetail.storage.atomic import make_folder, staged_file
from dovetail.storage.errors import storage_error

#: The key under which many programs put the weights in a file of torch.save.
_INSIDE = ("state_dict", "model_state_dict", "model")


def read_weights(checkpoint: Path, *, ema: bool | None = None) -> dict[str, Any]:
    """Return the model's state in a checkpoint, with the weights that its metrics are of unless told otherwise.

    Args:
        checkpoint: its folder; what is read of it is verified.
        ema: True for the moving average of the weights, False for those that were trained. None is the one that was
            validated: the average where the run kept one, unless ``training.ema_validate`` was off.

    Raises:
        CheckpointError: it is damaged, has no model, or no average though that is asked for.
    """
    if not is_average(checkpoint, ema=ema):
        return dict(read_model(checkpoint))
    state = read_checkpoint(checkpoint)
    try:
        for name, average in state["ema"]["weights"].items():
            state["model"][name].copy_(average)  # in place, for every name of a weight that is tied
        return dict(state["model"])
    except MALFORMED as error:
        raise CheckpointError(checkpoint, f"the average of weights does not fit the model: {error}") from error


def is_average(checkpoint: Path, *, ema: bool | None = None) -> bool:
    """Say whether :func:`read_weights` returns the moving average of the weights.

    Raises:
        CheckpointError: as there.
    """
    tree = read_tree(checkpoint, read_manifest(checkpoint))["tree"]
    kept = tree.get("ema") if isinstance(tree, dict) else None
    if not isinstance(kept, dict) or "validated" not in kept:  # a loop of somebody's own may keep another thing there
        if ema:
            raise CheckpointError(checkpoint, "there is no average of weights in it: the run had no training.ema_decay")
        return False
    return bool(kept["validated"] if ema is None else ema)


def load_weights(model: nn.Module, path: Path, *, allow_pt: bool = False) -> None:
    """Give ``model`` the weights at ``path``, every one of them.

    Args:
        model: of the architecture that the weights were saved from.
        path: a checkpoint of a run, which is a folder, or a ``.safetensors`` file. A checkpoint's are those that its
            run validated, as :func:`read_weights` tells.
        allow_pt: take a file of ``torch.save`` too. It is read with ``weights_only``, which runs no code that is not
            torch's own; but that is pickle, and has been broken before.

    Raises:
        CheckpointError: there is nothing, it is damaged, or its weights are not those of such a model.
    """
    fit(model, _read(path.expanduser(), allow_pt=allow_pt), path)


def fit(model: nn.Module, state: Mapping[str, Any], path: Path) -> None:
    """Give ``model`` the weights in ``state``, which was read from ``path``.

    Raises:
        CheckpointError: they are not those of such a model.
    """
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        why = " ".join(str(error).split())
        raise CheckpointError(path, f"these are not the weights of this {type(model).__name__}: {why}") from error


def _read(path: Path, *, allow_pt: bool) -> Mapping[str, Any]:
    if path.is_dir():
        return read_weights(path)
    if not path.exists():
        raise CheckpointError(path, "there is no such file")
    if path.suffix in PICKLED:
        if not allow_pt:
            raise CheckpointError(
                path, "this is a file of torch.save, which is pickle and may run code; see training.init_from_pt"
            )
        return _read_pickled(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(path, "this is neither a checkpoint's folder nor a .safetensors file")
    # Only here, as few runs begin from such a file: the import takes 2.6 MB of memory.
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(path, f"this file cannot be read ({error})") from error


def _read_pickled(path: Path) -> Mapping[str, Any]:
    try:
        # Only from torch 2.10 on, which Dovetail asks for, does weights_only keep what it promises (CVE-2026-24747).
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, pickle.UnpicklingError) as error:
        # Torch's message goes on to advise running the code, which is not for here.
        asks = re.search(r"GLOBAL ([\w.]+)", str(error))
        why = f"it asks for {asks[1]}" if asks else "it is damaged, or not one of torch.save"
        raise CheckpointError(path, f"this file cannot be read without running its code ({why})") from error
    if isinstance(found, Mapping):
        inner = next((found[key] for key in _INSIDE if isinstance(found.get(key), Mapping)), None)
        found = found if inner is None else inner
    if not isinstance(found, Mapping):
        raise CheckpointError(path, f"this file holds a {type(found).__name__}, not the weights of a model")
    return found


@frozen
class Exported:
    """What was written."""

    names: list[str]
    #: Whether it is the moving average of the weights.
    average: bool
    #: What a model's state has besides tensors, and tensors of dtypes that the format has no name for.
    left_out: list[str]


def export_weights(checkpoint: Path, path: Path, *, ema: bool | None = None) -> Exported:
    """Write the model's weights of a checkpoint as one ``.safetensors`` file, whole or not at all.

    Every tensor is there under its own name: weights that are tied in the model are written once for each.

    Args:
        checkpoint: its folder; what is read of it is verified.
        path: the file to write, replacing what is there.
        ema: as for :func:`read_weights`.

    Raises:
        CheckpointError: as :func:`read_weights`.
        StorageError: the file cannot be written.
    """
    state = read_weights(checkpoint, ema=ema)
    tensors = {
        name: value.detach().contiguous()
        for name, value in state.items()
        if isinstance(value, torch.Tensor) and value.dtype in NAMES
    }
    try:
        make_folder(path.absolute().parent)
        with hashers() as pool, staged_file(path) as file:
            write_tensors(file, tensors, pool)()
    except OSError as error:
        raise storage_error(path, error, "write", needed=sum(one.nbytes for one in tensors.values())) from error
    return Exported(sorted(tensors), is_average(checkpoint, ema=ema), sorted(set(state) - set(tensors)))
