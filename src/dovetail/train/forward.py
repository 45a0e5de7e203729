"""Calling a model with a batch, whatever the form of its inputs."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from dovetail.models.output import ModelOutput

if TYPE_CHECKING:
    from dovetail.data.batch import Batch


class Forward:
    """Calls a model with a batch and reads its outputs.

    Inputs that are a dict are passed as keywords. ``mask=`` is passed if the model's ``forward`` has such a parameter
    and the batch has a mask.
    """

    def __init__(self, model: nn.Module, *, compiled: bool = False) -> None:
        """Inspect the model once.

        Args:
            model: the model.
            compiled: call it through ``torch.compile``; the module and its ``state_dict`` stay unchanged.
        """
        self._call: Any = torch.compile(model) if compiled else model
        self._takes_mask = "mask" in inspect.signature(model.forward).parameters

    def __call__(self, batch: Batch) -> ModelOutput:
        """Return the model's outputs for ``batch``."""
        inputs = batch["inputs"]
        mask = {"mask": batch["mask"]} if self._takes_mask and "mask" in batch else {}
        raw = self._call(**inputs, **mask) if isinstance(inputs, dict) else self._call(inputs, **mask)
        return ModelOutput(raw) if isinstance(raw, torch.Tensor) else ModelOutput.from_raw(raw)
