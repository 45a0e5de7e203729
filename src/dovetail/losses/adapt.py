"""Adapters from any loss to ``(outputs, batch) -> LossResult``.

A loss is *native* if its second parameter is named ``batch`` or annotated ``Batch``; its adapter calls it unchanged.
Any other callable counts as a plain ``(input, target)`` loss, such as torch's own: its adapter passes the model's
logits and the batch's targets, and works out the exact weight of the mean.

============= ============================================ ======================================
loss          recognised by                                weight
============= ============================================ ======================================
elementwise   type: ``MSELoss``, ``HuberLoss``, ``BCE…`` … elements
labels        an attribute ``ignore_index``                class weight of the labels that count
anything else                                              its ``units(input, target)``, or samples
============= ============================================ ======================================
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dovetail.losses.result import LossResult
from dovetail.losses.targets import LabelGuard, read_targets, target_mask
from dovetail.spec import Loss

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.models.output import ModelOutput

_ELEMENTWISE_TYPES: Final = (
    nn.BCELoss,
    nn.BCEWithLogitsLoss,
    nn.HuberLoss,
    nn.KLDivLoss,
    nn.L1Loss,
    nn.MSELoss,
    nn.PoissonNLLLoss,
    nn.SmoothL1Loss,
    nn.SoftMarginLoss,
)
_ELEMENTWISE_FUNCTIONS: Final = (
    F.binary_cross_entropy,
    F.binary_cross_entropy_with_logits,
    F.huber_loss,
    F.l1_loss,
    F.mse_loss,
    F.poisson_nll_loss,
    F.smooth_l1_loss,
    F.soft_margin_loss,
)
_LABEL_FUNCTIONS: Final = (F.cross_entropy, F.nll_loss)
_TORCH_IGNORE_INDEX: Final = -100
_FEW: Final = 256  # Python scans this many labels faster than torch starts an operation


def as_loss(loss: Any) -> Loss:
    """Return ``loss`` as a callable ``(outputs, batch) -> LossResult``.

    Args:
        loss: a native loss, or a plain one that takes ``(input, target)`` and returns a tensor.

    Raises:
        TypeError: ``loss`` is a class, is not callable, or takes other arguments.
        ValueError: its ``reduction`` is ``"sum"``: only a mean can be averaged over an update.
    """
    if isinstance(loss, _Adapter):
        return loss
    if isinstance(loss, type):
        raise TypeError(f"{loss.__name__} is a class, not a loss; pass an instance: {loss.__name__}()")
    name = loss.__name__ if inspect.isroutine(loss) else type(loss).__name__
    if _is_native(loss, name):
        return _Native(loss, name)
    if getattr(loss, "reduction", "mean") == "sum":
        raise ValueError(
            f"{name}: reduction = 'sum' makes the step depend on the batch size; "
            "leave it at 'mean', and raise the learning rate or the loss's weight instead"
        )
    if isinstance(loss, _ELEMENTWISE_TYPES) or loss in _ELEMENTWISE_FUNCTIONS:
        return _Elementwise(loss, name)
    if hasattr(loss, "ignore_index") or loss in _LABEL_FUNCTIONS:
        return _Labels(loss, name)
    return _Plain(loss, name)


def _is_native(loss: Any, name: str) -> bool:
    if not callable(loss):
        raise TypeError(f"{name} is not callable, so it cannot be a loss")
    try:
        signature = inspect.signature(loss.forward if isinstance(loss, nn.Module) else loss)
    except ValueError:  # some functions written in C have no signature
        return False
    parameters = signature.parameters.values()
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return False
    positional = [
        parameter
        for parameter in parameters
        if parameter.kind in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}
    ]
    required = [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    ]
    first_two = {parameter.name for parameter in positional[:2]}
    if len(positional) < len(("input", "target")) or not {*required} <= first_two:
        raise TypeError(
            f"{name} takes ({', '.join(required)}); a loss takes (outputs, batch) and returns a LossResult, "
            "or (input, target) and returns a tensor"
        )
    second = positional[1]
    annotation = second.annotation
    written = annotation.strip("'\"") if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return second.name == "batch" or written.rpartition(".")[2] == "Batch"


class _Adapter(ABC):
    """A loss of any kind as ``(outputs, batch) -> LossResult``."""

    def __init__(self, loss: Callable[..., Any], name: str) -> None:
        self._loss = loss
        self._name = name

    @abstractmethod
    def __call__(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        """Compute the loss of one batch."""

    def __repr__(self) -> str:
        return f"as_loss({self._loss!r})"


class _Native(_Adapter):
    """Calls a native loss and checks the type of its result."""

    def __call__(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        result = self._loss(outputs, batch)
        if not isinstance(result, LossResult):
            raise TypeError(
                f"{self._name} returned {type(result).__name__}; "
                "a loss that takes a batch returns LossResult(total, parts, weight)"
            )
        return result


def _mean(loss: Tensor, logits: Tensor, weight: float) -> LossResult:
    """Return a loss, averaged if it is not a scalar yet; 0 for an empty batch, whose mean would be 0/0."""
    if not weight:
        return LossResult(logits.sum() * 0.0, {}, 0.0)
    return LossResult(loss.mean() if loss.ndim else loss, {}, weight)


class _Plain(_Adapter):
    """A mean over the units that the loss's ``units`` method counts, or else over samples."""

    def __init__(self, loss: Callable[..., Any], name: str) -> None:
        super().__init__(loss, name)
        units = getattr(loss, "units", None)
        self._units: Callable[[Tensor, Tensor], Tensor] | None = units if callable(units) else None

    def __call__(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        logits, targets = outputs.logits, read_targets(batch)
        loss = self._loss(logits, targets)
        if self._units is not None:
            return LossResult(loss, {}, self._units(logits, targets))
        return _mean(loss, logits, float(len(logits)))


class _Elementwise(_Adapter):
    """A mean over the elements of two tensors of the same shape."""

    def __call__(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        logits, targets = outputs.logits, read_targets(batch)
        if logits.shape != targets.shape:
            raise ValueError(
                f"{self._name}: outputs have shape {list(logits.shape)} but targets {list(targets.shape)}; "
                "it compares element by element and does not broadcast: give both the same shape"
            )
        if targets.dtype != logits.dtype:  # float64 columns, integer counts, half-precision outputs
            dtype = logits.dtype if logits.dtype.itemsize >= torch.float32.itemsize else torch.float32
            logits, targets = logits.to(dtype), targets.to(dtype)
        mask = target_mask(batch, targets)
        loss = self._loss(logits, targets)
        if mask is not None:
            if not loss.ndim:
                raise ValueError(
                    f"{self._name}: the batch's mask leaves some targets out, but the loss has already "
                    "averaged over all of them; set reduction = 'none' to average over the others only"
                )
            weight = mask.sum()
            return LossResult(loss.where(mask, 0.0).sum() / weight.clamp(min=1), {}, weight)
        batchmean = getattr(self._loss, "reduction", "mean") == "batchmean"
        return _mean(loss, logits, float(len(logits) if batchmean else targets.numel()))


def _is_simple(logits: Tensor, targets: Any) -> bool:
    """Return whether targets are a few non-negative int64 labels on the CPU, one for each row of scores."""
    return (
        isinstance(targets, Tensor)
        and targets.dtype is torch.int64
        and targets.is_cpu
        and targets.ndim == 1
        and logits.ndim == len(("batch", "classes"))
        and 0 < len(targets) <= _FEW
        and min(targets.tolist()) >= 0
    )


class _Counted(NamedTuple):
    """Labels, and which of them count: None for all."""

    targets: Tensor
    kept: Tensor | None


class _Labels(_Adapter):
    """A loss like cross-entropy: a mean over class weight, of integer labels or class probabilities."""

    def __init__(self, loss: Callable[..., Any], name: str) -> None:
        super().__init__(loss, name)
        self._ignore_index = int(getattr(loss, "ignore_index", _TORCH_IGNORE_INDEX))
        self._guard = LabelGuard(name, self._ignore_index)
        self._unweighted = getattr(loss, "weight", None) is None and self._ignore_index < 0

    def __call__(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        logits: Tensor = outputs.logits
        targets: Any = batch.get("targets")
        if self._unweighted and "mask" not in batch and _is_simple(logits, targets):
            # A small step spends most of its time in Python, so the loss runs without our checks. If torch raises, the
            # checks run and give a clearer message.
            try:
                loss = self._loss(logits, targets)
            except (IndexError, RuntimeError, ValueError):
                return self._checked(logits, batch)
            if not loss.ndim:
                return LossResult(loss, {}, float(len(targets)))
        return self._checked(logits, batch)

    def _checked(self, logits: Tensor, batch: Batch) -> LossResult:
        targets = read_targets(batch)
        soft = targets.is_floating_point()
        expected = logits.shape if soft else logits.shape[:1] + logits.shape[2:]
        if targets.shape != expected or logits.ndim < len(("batch", "classes")) or targets.is_complex():
            self._raise_misfit(logits, targets)
        if soft:
            loss = self._loss(logits, targets)
            return _mean(loss, logits, targets.numel() / logits.shape[1])
        targets, kept = self._count(batch, targets)
        loss = self._guard(lambda: self._loss(logits, targets), targets, logits.shape[1])
        class_weight = getattr(self._loss, "weight", None)
        if class_weight is not None:
            weights = class_weight[targets if kept is None else targets.where(kept, 0)]
            weight = weights.sum() if kept is None else weights.where(kept, 0.0).sum()
        elif kept is not None:
            weight = kept.sum()
        else:
            return _mean(loss, logits, float(targets.numel()))
        if loss.ndim:
            loss = loss.sum() / weight
        # A mean over nothing is 0/0; as 0 it adds nothing to the update's sum.
        return LossResult(loss.where(weight > 0, 0.0), {}, weight)

    def _count(self, batch: Batch, targets: Tensor) -> _Counted:
        """Return the labels, with ``ignore_index`` where the mask is false, and which of them count."""
        if targets.dtype != torch.int64:
            targets = targets.long()
        mask = target_mask(batch, targets)
        if mask is not None:
            targets = targets.where(mask, self._ignore_index)
        elif self._ignore_index < 0 and targets.is_cpu and targets.numel() and targets.min().item() >= 0:
            # Finding the smallest label costs a quarter of counting.
            return _Counted(targets, None)
        return _Counted(targets, targets != self._ignore_index)

    def _raise_misfit(self, logits: Tensor, targets: Tensor) -> NoReturn:
        """Raise ValueError saying how the targets do not fit the logits."""
        shape, wanted, got = list(logits.shape), list(logits.shape[:1] + logits.shape[2:]), list(targets.shape)
        if logits.ndim < len(("batch", "classes")):
            raise ValueError(
                f"{self._name}: outputs have shape {shape}; expected one score per class: [batch, classes, …]"
            )
        if targets.is_floating_point() or targets.is_complex():
            raise ValueError(
                f"{self._name}: targets are {targets.dtype} of shape {got}; it takes class labels, integers of shape "
                f"{wanted}, or class probabilities of shape {shape} (for regression use mse or huber)"
            )
        last = targets.shape == logits.shape[:-1]
        hint = " (classes go on dimension 1, before time or space)" if last else ""
        raise ValueError(
            f"{self._name}: outputs have shape {shape}, so labels must have shape {wanted}{hint}, not {got}"
        )
