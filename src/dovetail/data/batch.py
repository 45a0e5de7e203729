"""What a collator makes and a model is fed: a plain dict, so that any collator can make one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, cast

if TYPE_CHECKING:
    import torch


class Batch(TypedDict, total=False):
    """Samples put together. Every tensor's first dimension counts samples."""

    #: ``[batch, …]``, or a dict of such tensors, which reach the model as keywords.
    inputs: torch.Tensor | dict[str, torch.Tensor]
    #: ``[batch]`` int64 class indices, ``[batch, …]`` float values, or whatever the loss reads.
    targets: torch.Tensor
    #: ``[batch, length]`` bool, True where an input position is real and not padding.
    mask: torch.Tensor
    #: Anything else about each sample, by name: a tensor ``[batch, …]`` or a list of ``batch`` values.
    meta: dict[str, torch.Tensor | list[Any]]


def batch_size(batch: Batch) -> int:
    """Return the number of samples in ``batch``.

    Raises:
        ValueError: nothing in the batch tells.
    """
    for key in ("targets", "inputs", "mask", "meta"):
        size = _size(batch.get(key))
        if size is not None:
            return size
    raise ValueError(f"a batch with the keys {sorted(batch)} has no tensor that tells its number of samples")


def _size(value: Any) -> int | None:
    if isinstance(value, Mapping):
        return next((size for size in map(_size, value.values()) if size is not None), None)
    if isinstance(value, list):
        return len(value)
    shape: tuple[int, ...] = getattr(value, "shape", ())
    return shape[0] if shape else None


def as_batch(raw: Any) -> Batch:
    """Return a batch of whatever a loader gives.

    Args:
        raw: a batch as a run has them; a pair of inputs and targets; or a dict with ``labels``, as Hugging Face's
            collators make it, whose other entries reach the model as keywords.

    Raises:
        TypeError: it is none of these.
    """
    if isinstance(raw, Mapping):
        if "inputs" in raw:
            return cast("Batch", raw)
        if "labels" in raw:
            inputs = {name: value for name, value in raw.items() if name != "labels"}
            batch: Batch = {"inputs": inputs, "targets": raw["labels"]}
            if "attention_mask" in inputs:
                batch["mask"] = inputs["attention_mask"]
            return batch
        raise TypeError(f"a batch has 'inputs' or 'labels'; this one has {', '.join(map(str, raw)) or 'nothing'}")
    if isinstance(raw, Sequence) and len(raw) == len(("inputs", "targets")):
        return {"inputs": raw[0], "targets": raw[1]}
    raise TypeError(f"a batch is a dict, or a pair of inputs and targets, not {type(raw).__name__}")


def map_tensors(batch: Batch, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
    """Return ``batch`` with ``change`` applied to every tensor, through dicts and lists."""
    return cast("Batch", _mapped(batch, change))


def _mapped(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    # A tensor is told by what it can do, so that this module needs no torch.
    if hasattr(value, "untyped_storage"):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _mapped(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple) and value and not isinstance(value[0], str | int | float):
        return type(value)(_mapped(item, change) for item in value)
    return value
