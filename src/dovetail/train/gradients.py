"""The gradients of one update: cleared, computed, averaged, clipped, applied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

if TYPE_CHECKING:
    from dovetail.losses.result import LossResult

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
    ) -> None:
        """Gather the optimizer's parameters.

        Args:
            optimizer: what updates them.
            max_norm: their global 2-norm is clipped to this; None leaves them.
            scaler: scales the loss of half-precision training.
        """
        self._optimizer, self._max_norm, self._scaler = optimizer, max_norm, scaler
        self._parameters = [one for group in optimizer.param_groups for one in group["params"]]
        #: The norm before the last clipping, a 0-d tensor on the device; None where nothing is clipped.
        self.norm: Tensor | None = None

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
        """Clip to the global norm, which is kept as :attr:`norm` and not waited for."""
        if self._max_norm is None:
            return
        if self._scaler is not None:
            self._scaler.unscale_(self._optimizer)
        grads = self._present()
        if grads:
            norms = torch._foreach_norm(grads)  # noqa: SLF001 (torch's own clipping is made of it)
            self.norm = torch.linalg.vector_norm(torch.stack(norms))
            torch._foreach_mul_(grads, (self._max_norm / (self.norm + _EPSILON)).clamp(max=1.0))

    def apply(self) -> None:
        """Let the optimizer update its parameters."""
        if self._scaler is None:
            self._optimizer.step()
        else:
            self._scaler.step(self._optimizer)
            self._scaler.update()

    def _present(self) -> list[Tensor]:
        return [one.grad for one in self._parameters if one.grad is not None]
