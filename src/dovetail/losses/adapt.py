"""From any loss to ``(outputs, batch) -> LossResult``.

A loss is *native* when its second parameter is named ``batch`` or annotated ``Batch``: it is called as it is.
Any other callable is taken for a plain ``(input, target)`` loss, such as torch's own, and adapted: it gets
the model's logits and the batch's targets, and what its mean is a mean over is worked out exactly.

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
from dovetail.spec.protocols import Loss

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
_FEW: Final = 256  # labels that Python looks at faster than torch starts an operation


def as_loss(loss: Any) -> Loss:
    """Return ``loss`` as a callable ``(outputs, batch) -> LossResult``.

    Args:
        loss: a native loss, or a plain one that takes ``(input, target)`` and returns a tensor.

    Raises:
        TypeError: it takes neither, nothing can be called, or it is a class.
        ValueError: its ``reduction`` is ``"sum"``: only a mean can be averaged over an update.
    """
    if isinstance(loss, _Face):
        return loss
    if isinstance(loss, type):
        msg = f"{loss.__name__} is a class: a loss is made of it, {loss.__name__}()"
        raise TypeError(msg)
    name = _name(loss)
    if _is_native(loss, name):
        return _Native(loss, name)
    reduction = getattr(loss, "reduction", "mean")
    if reduction == "sum":
        msg = (
            f"{name}: reduction = 'sum' makes the step depend on the batch size; "
            "leave it at 'mean', and raise the learning rate or the loss's weight instead"
        )
        raise ValueError(msg)
    if isinstance(loss, _ELEMENTWISE_TYPES) or loss in _ELEMENTWISE_FUNCTIONS:
        return _Elementwise(loss, name)
    if hasattr(loss, "ignore_index") or loss in _LABEL_FUNCTIONS:
        return _Labels(loss, name)
    return _Plain(loss, name)


def _name(loss: Any) -> str:
    return loss.__name__ if inspect.isroutine(loss) else type(loss).__name__


def _is_native(loss: Any, name: str) -> bool:
    if not callable(loss):
        msg = f"{name} cannot be called, so it is no loss"
        raise TypeError(msg)
    try:
        signature = inspect.signature(loss.forward if isinstance(loss, nn.Module) else loss)
    except ValueError:  # a function written in C may not tell
        return False
    parameters = signature.parameters.values()
    if any(one.kind is one.VAR_POSITIONAL for one in parameters):
        return False
    positional = [one for one in parameters if one.kind in {one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD}]
    needed = [one for one in parameters if one.default is one.empty and one.kind is not one.VAR_KEYWORD]
    required = [one.name for one in needed]
    if len(positional) < len(("input", "target")) or not {*required} <= {one.name for one in positional[:2]}:
        msg = (
            f"{name} takes ({', '.join(required)}); a loss takes (outputs, batch) and returns a LossResult, "
            "or (input, target) and returns a tensor"
        )
        raise TypeError(msg)
    second = positional[1]
    annotation = second.annotation
    written = annotation.strip("'\"") if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return second.name == "batch" or written.rpartition(".")[2] == "Batch"


class _Face(ABC):
    """A loss behind its adapter."""

    def __init__(self, loss: Callable[..., Any], name: str) -> None:
        self._loss = loss
        self._name = name

    @abstractmethod
    def __call__(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        """Compute the loss of one batch."""

    def __repr__(self) -> str:
        return f"as_loss({self._loss!r})"


class _Native(_Face):
    """Calls a native loss, and says so when it does not return what it should."""

    def __call__(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        result = self._loss(outputs, batch)
        if not isinstance(result, LossResult):
            msg = (
                f"{self._name} returned {type(result).__name__}; "
                "a loss that takes a batch returns LossResult(total, parts, weight)"
            )
            raise TypeError(msg)
        return result


def _mean(found: Tensor, logits: Tensor, weight: float) -> LossResult:
    """Return what a loss found, averaged if it has not been; 0 for an empty batch, whose mean is 0/0."""
    if not weight:
        return LossResult(logits.sum() * 0.0, {}, 0.0)
    return LossResult(found.mean() if found.ndim else found, {}, weight)


class _Plain(_Face):
    """A mean over the units that it counts itself, or over samples, as far as anyone can tell."""

    def __init__(self, loss: Callable[..., Any], name: str) -> None:
        super().__init__(loss, name)
        units = getattr(loss, "units", None)
        self._units: Callable[[Tensor, Tensor], Tensor] | None = units if callable(units) else None

    def __call__(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        logits, targets = outputs.logits, read_targets(batch)
        found = self._loss(logits, targets)
        if self._units is not None:
            return LossResult(found, {}, self._units(logits, targets))
        return _mean(found, logits, float(len(logits)))


class _Elementwise(_Face):
    """A mean over elements, of two tensors of one shape."""

    def __call__(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        logits, targets = outputs.logits, read_targets(batch)
        if logits.shape != targets.shape:
            msg = (
                f"{self._name}: outputs have shape {list(logits.shape)} but targets {list(targets.shape)}; "
                "it compares element by element and does not broadcast: give both one shape"
            )
            raise ValueError(msg)
        if targets.dtype != logits.dtype:  # float64 columns, integer counts, half-precision outputs
            dtype = logits.dtype if logits.dtype.itemsize >= torch.float32.itemsize else torch.float32
            logits, targets = logits.to(dtype), targets.to(dtype)
        mask = target_mask(batch, targets)
        found = self._loss(logits, targets)
        if mask is not None:
            if not found.ndim:
                msg = (
                    f"{self._name}: the batch's mask leaves some targets out, but the loss has already "
                    "averaged over all of them; set reduction = 'none', and the mean is taken over those that count"
                )
                raise ValueError(msg)
            weight = mask.sum()
            return LossResult(found.where(mask, 0.0).sum() / weight.clamp(min=1), {}, weight)
        batchmean = getattr(self._loss, "reduction", "mean") == "batchmean"
        return _mean(found, logits, float(len(logits) if batchmean else targets.numel()))


def _is_common(logits: Tensor, targets: Any) -> bool:
    """Say whether targets are a few plain labels on the CPU, one for each row of scores, none of them negative."""
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
    """Which labels count: None for all of them."""

    targets: Tensor
    kept: Tensor | None


class _Labels(_Face):
    """Cross-entropy and its kin: a mean over class weight, of integer labels or class probabilities."""

    def __init__(self, loss: Callable[..., Any], name: str) -> None:
        super().__init__(loss, name)
        self._ignore_index = int(getattr(loss, "ignore_index", _TORCH_IGNORE_INDEX))
        self._guard = LabelGuard(name, self._ignore_index)
        self._unweighted = getattr(loss, "weight", None) is None and self._ignore_index < 0

    def __call__(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        logits: Tensor = outputs.logits
        targets: Any = batch.get("targets")
        if self._unweighted and "mask" not in batch and _is_common(logits, targets):
            # What a small step pays for most is Python: here torch's own refusals stand in for our checks, which say
            # more and come after them.
            try:
                found = self._loss(logits, targets)
            except (IndexError, RuntimeError, ValueError):
                return self._checked(logits, batch)
            if not found.ndim:
                return LossResult(found, {}, float(len(targets)))
        return self._checked(logits, batch)

    def _checked(self, logits: Tensor, batch: Batch) -> LossResult:
        targets = read_targets(batch)
        soft = targets.is_floating_point()
        fitting = logits.shape if soft else logits.shape[:1] + logits.shape[2:]
        if targets.shape != fitting or logits.ndim < len(("batch", "classes")) or targets.is_complex():
            self._refuse(logits, targets)
        if soft:
            found = self._loss(logits, targets)
            return _mean(found, logits, targets.numel() / logits.shape[1])
        targets, kept = self._count(batch, targets)
        found = self._guard(lambda: self._loss(logits, targets), targets, logits.shape[1])
        class_weight = getattr(self._loss, "weight", None)
        if class_weight is not None:
            weights = class_weight[targets if kept is None else targets.where(kept, 0)]
            weight = weights.sum() if kept is None else weights.where(kept, 0.0).sum()
        elif kept is not None:
            weight = kept.sum()
        else:
            return _mean(found, logits, float(targets.numel()))
        if found.ndim:
            found = found.sum() / weight
        # The mean over nothing is 0/0: it must not spoil the update's sum, to which it adds nothing.
        return LossResult(found.where(weight > 0, 0.0), {}, weight)

    def _count(self, batch: Batch, targets: Tensor) -> _Counted:
        """Return the labels, ``ignore_index`` where the mask hides one, and which of them count."""
        if targets.dtype != torch.int64:
            targets = targets.long()
        mask = target_mask(batch, targets)
        if mask is not None:
            targets = targets.where(mask, self._ignore_index)
        elif self._ignore_index < 0 and targets.is_cpu and targets.numel() and targets.min().item() >= 0:
            # A look at the smallest label is a quarter of the cost of counting.
            return _Counted(targets, None)
        return _Counted(targets, targets != self._ignore_index)

    def _refuse(self, logits: Tensor, targets: Tensor) -> NoReturn:
        """Say how targets do not fit the logits."""
        shape, wanted, got = list(logits.shape), list(logits.shape[:1] + logits.shape[2:]), list(targets.shape)
        if logits.ndim < len(("batch", "classes")):
            msg = f"{self._name}: outputs have shape {shape}; it needs one per class: [batch, classes, …]"
        elif targets.is_floating_point() or targets.is_complex():
            msg = (
                f"{self._name}: targets are {targets.dtype} of shape {got}; it takes class labels, integers of shape "
                f"{wanted}, or class probabilities of shape {shape} (for regression use mse or huber)"
            )
        else:
            last = targets.shape == logits.shape[:-1]
            hint = " (classes go on dimension 1, before time or space)" if last else ""
            msg = f"{self._name}: outputs have shape {shape}, so labels must have shape {wanted}{hint}, not {got}"
        raise ValueError(msg)
