"""The batch: what collators return and models are fed. A plain dict, so that any collator can build one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, cast

if TYPE_CHECKING:
    import torch


class Batch(TypedDict, total=False):
    """A batch of samples. The first dimension of every tensor is the batch dimension."""

    #: ``[batch, …]``, or a dict of such tensors, which the model receives as keyword arguments.
    inputs: torch.Tensor | dict[str, torch.Tensor]
    #: ``[batch]`` int64 class indices, ``[batch, …]`` float values, or whatever the loss reads.
    targets: torch.Tensor
    #: ``[batch, length]`` bool, True where an input position is real, False where it is padding.
    mask: torch.Tensor
    #: Everything else about each sample, by name: a tensor ``[batch, …]`` or a list of ``batch`` values.
    meta: dict[str, torch.Tensor | list[Any]]


def batch_size(batch: Batch) -> int:
    """Return the number of samples in ``batch``.

    Raises:
        ValueError: no entry of the batch has a batch dimension.
    """
    for key in ("targets", "inputs", "mask", "meta"):
        size = _size(batch.get(key))
        if size is not None:
            return size
    raise ValueError(f"a batch with the keys {sorted(batch)} has no tensor that gives its number of samples")


def _size(value: Any) -> int | None:
    if isinstance(value, Mapping):
        return next((size for size in map(_size, value.values()) if size is not None), None)
    if isinstance(value, list):
        return len(value)
    shape: tuple[int, ...] = getattr(value, "shape", ())
    return shape[0] if shape else None


def as_batch(raw: Any) -> Batch:
    """Return what a loader yields as a :class:`Batch`.

    Args:
        raw: a :class:`Batch`; a pair of inputs and targets; or a dict with ``labels``, as Hugging Face's collators
            return it, whose other entries the model receives as keyword arguments.

    Raises:
        TypeError: ``raw`` has another form.
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
    """Return ``batch`` with ``change`` applied to every tensor, also inside dicts, lists and tuples."""
    return cast("Batch", _mapped(batch, change))


def _mapped(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    # Tensors are recognised by an attribute, so that this module need not import torch.
    if hasattr(value, "untyped_storage"):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _mapped(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple) and value and not isinstance(value[0], str | int | float):
        return type(value)(_mapped(item, change) for item in value)
    return value
