"""The gradients of one update: cleared, computed, averaged, clipped, applied."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from dovetail.ops import GradNorms, grad_norms

if TYPE_CHECKING:
    from dovetail.losses.result import LossResult

#: Is told of the gradients of an update, before they are clipped: their statistics, and the parameters that they are
#: of, in the same order.
Observer = Callable[[GradNorms, Sequence[Tensor]], None]

_TINY: Final = 1e-30
_EPSILON: Final = 1e-6  # as torch.nn.utils.clip_grad_norm_ has it


class Gradients:
    """The gradients of the parameters that an optimizer updates."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        max_norm: float | None = None,
        scaler: torch.amp.GradScaler | None = None,
        skip_nonfinite: bool = False,
    ) -> None:
        """Gather the optimizer's parameters.

        Args:
            optimizer: what updates them.
            max_norm: their global 2-norm is clipped to this; None leaves them.
            scaler: scales the loss of half-precision training.
            skip_nonfinite: make no update from gradients of which one is NaN or infinite. Where the optimizer cannot
                be told so on the device (``_step_supports_amp_scaling``), this waits for the device at every update.
        """
        self._optimizer, self._max_norm, self._scaler = optimizer, max_norm, scaler
        self._parameters = [one for group in optimizer.param_groups for one in group["params"]]
        self._skip_nonfinite = skip_nonfinite
        self._observers: list[Observer] = []
        #: Whether the optimizer asks for the loss itself, as L-BFGS does, and not once an update.
        self.asks_again = asks_again(optimizer)
        #: The norm of the last gradients before clipping, a 0-d tensor on the device, and that of each parameter that
        #: had one; None where nobody needs them.
        self.norm: Tensor | None = None
        self.norms: Tensor | None = None

    def observe(self, observer: Observer) -> None:
        """Tell ``observer`` of the gradients of every update from now on. What clips measures them, in one pass."""
        if observer not in self._observers:
            self._observers.append(observer)

    def hand_on(self, other: Gradients) -> None:
        """Let ``other``, of another optimizer, tell the same observers."""
        other._observers = self._observers

    def measured(self) -> list[Tensor]:
        """Return the parameters that have a gradient, in the order of :attr:`norms`."""
        return [one for one in self._parameters if one.grad is not None]

    def update(self, closure: Callable[[], Tensor]) -> Tensor:
        """Make one update, and return the loss that it began with.

        Args:
            closure: clears the gradients, computes them anew and returns the loss. It is called once and its gradients
                are clipped; or as often as an optimizer asks that :attr:`asks_again`, and they are not, because it
                compares gradients with losses.
        """
        if self.asks_again:
            loss: Tensor = self._optimizer.step(closure)  # type: ignore[assignment, arg-type]  # torch says float
            return loss
        loss = closure()
        self.clip()
        self.apply()
        return loss

    def clear(self) -> None:
        """Drop all gradients; the memory goes back rather than being filled with zeros."""
        for one in self._parameters:
            one.grad = None

    def backward(self, total: Tensor) -> None:
        """Add the gradients of ``total``, scaled where half precision needs it."""
        if self._scaler is not None:
            total = self._scaler.scale(total)
        total.backward()  # type: ignore[no-untyped-call]  # torch has not typed it

    def average(self, results: Sequence[LossResult]) -> Tensor:
        """Divide gradients of ``Σ total·weight`` by ``Σ weight``, and return the mean loss of the batches together."""
        weight: Any = sum(result.weight for result in results)
        total: Any = sum(result.total * result.weight for result in results)
        # Batches in which nothing counts weigh nothing: their gradients are zero, and stay so.
        weight = weight.clamp(min=_TINY) if isinstance(weight, Tensor) else max(weight, _TINY)
        grads = self._present()
        if grads:
            torch._foreach_div_(grads, weight)
        mean: Tensor = total / weight
        return mean

    def clip(self) -> None:
        """Measure the gradients for whoever wants that, and clip them to the global norm; nothing is waited for."""
        clips = self._max_norm is not None
        if not (clips or self._observers or self._skip_nonfinite):
            return
        if self._scaler is not None:
            self._scaler.unscale_(self._optimizer)
        grads = self._present()
        if not grads:
            return
        if self._observers:
            found = grad_norms(grads, self._max_norm or math.inf)
            self.norms, self.norm, coefficient = found.norms, found.total, found.clip_coef
            parameters = self.measured()
            for observer in self._observers:
                observer(found, parameters)
        else:
            self.norms = torch.stack(torch._foreach_norm(grads))  # noqa: SLF001 (torch's own clipping is made of it)
            self.norm = torch.linalg.vector_norm(self.norms)
            coefficient = ((self._max_norm or math.inf) / (self.norm + _EPSILON)).clamp(max=1.0)
        if clips:
            torch._foreach_mul_(grads, coefficient)

    def apply(self) -> None:
        """Let the optimizer update its parameters."""
        if self._scaler is not None:
            self._scaler.step(self._optimizer)  # which leaves out what is not finite, whatever the policy
            self._scaler.update()
        elif not self._skip_nonfinite or self.norm is None:
            self._optimizer.step()
        else:
            self._apply_finite(~torch.isfinite(self.norm))

    def _apply_finite(self, broken: Tensor) -> None:
        """Let the optimizer update its parameters unless ``broken``, a 0-d boolean on the device."""
        optimizer: Any = self._optimizer
        if getattr(optimizer, "_step_supports_amp_scaling", False):
            optimizer.found_inf = broken.float()
            try:
                optimizer.step()
            finally:
                del optimizer.found_inf
        elif not broken:
            optimizer.step()

    def _present(self) -> list[Tensor]:
        return [one.grad for one in self._parameters if one.grad is not None]


def asks_again(optimizer: torch.optim.Optimizer) -> bool:
    """Say whether ``optimizer.step`` must be given a closure, because it evaluates the loss several times."""
    parameters = list(inspect.signature(optimizer.step).parameters.values())
    return any(one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD for one in parameters)
