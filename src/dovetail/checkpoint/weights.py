"""Giving a model weights that were saved before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from dovetail.checkpoint.errors import CheckpointError
from dovetail.checkpoint.format import read_model


def load_weights(model: nn.Module, path: Path) -> None:
    """Give ``model`` the weights at ``path``, every one of them.

    Args:
        model: of the architecture that the weights were saved from.
        path: a checkpoint of a run, which is a folder, or a ``.safetensors`` file.

    Raises:
        CheckpointError: there is nothing, it is damaged, or its weights are not those of such a model.
    """
    state = _read(path.expanduser())
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        why = " ".join(str(error).split())
        raise CheckpointError(path, f"these are not the weights of this {type(model).__name__}: {why}") from error


def _read(path: Path) -> Mapping[str, Any]:
    if path.is_dir():
        state: Mapping[str, Any] = read_model(path)
        return state
    if path.suffix != ".safetensors":
        if not path.exists():
            raise CheckpointError(path, "there is no such file")
        raise CheckpointError(path, "this is neither a checkpoint's folder nor a .safetensors file")
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise CheckpointError(path, "there is no such file") from error
    except (OSError, SafetensorError) as error:
        raise CheckpointError(path, f"this file cannot be read ({error})") from error
