"""From a batch to columns of features that a profile can be made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy.typing as npt
import torch
from torch import Tensor


class Features(NamedTuple):
    """The features of some samples."""

    #: By name: ``[samples]``, ``[samples, …]`` where each number of a sample is a feature, or ``[tokens]``.
    columns: dict[str, npt.NDArray[Any]]
    #: The names of those whose numbers stand for something: classes, tokens.
    categorical: frozenset[str]


def features_of(batch: Mapping[str, Any], most: int) -> Features:
    """Return the features of a batch, named after where they are in it.

    Numbers of a sample are each a feature (``inputs[3]``, ``inputs[0,2]``) where there are at most ``most``; where
    there are more, their mean, standard deviation, least and largest value are (``inputs.mean``), for each index of the
    first dimension if there are several (``inputs[1].mean``). Whole numbers are taken for names: of classes, or of
    tokens, all of a sample's in one feature, without those that a mask of their shape leaves out.

    Args:
        batch: a batch with ``inputs`` and ``targets``.
        most: so many numbers of a sample are features themselves.
    """
    columns: dict[str, npt.NDArray[Any]] = {}
    categorical = set()
    given = batch.get("inputs")
    inputs = {f"inputs.{name}": one for name, one in given.items()} if isinstance(given, Mapping) else {"inputs": given}
    for name, value in {**inputs, "targets": batch.get("targets")}.items():
        if not isinstance(value, Tensor) or not value.ndim or value.is_complex():
            continue
        if value.is_floating_point():
            columns |= _numbers(name, value.detach().cpu(), most)
        else:
            mask = batch.get("mask")
            kept = value[mask] if isinstance(mask, Tensor) and mask.shape == value.shape else value
            columns[name] = kept.flatten().cpu().numpy()
            categorical.add(name)
    return Features(columns, frozenset(categorical))


def _numbers(name: str, value: Tensor, most: int) -> dict[str, npt.NDArray[Any]]:
    value = value if value.dtype in {torch.float32, torch.float64} else value.float()
    shape = value.shape[1:]
    if shape.numel() == 1:
        return {name: value.reshape(-1).numpy()}
    if shape.numel() <= most:
        return {name: value.numpy()}
    channels = value.flatten(2) if len(shape) > 1 and shape[0] * 4 <= most else value.flatten(1)[:, None]
    found: dict[str, npt.NDArray[Any]] = {}
    for number, one in enumerate(channels.unbind(1)):
        stem = f"{name}[{number}]" if channels.shape[1] > 1 else name
        statistics = {"mean": one.mean(1), "std": one.std(1, correction=0), "min": one.amin(1), "max": one.amax(1)}
        found |= {f"{stem}.{kind}": each.numpy() for kind, each in statistics.items()}
    return found
