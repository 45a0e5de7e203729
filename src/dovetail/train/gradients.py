"""The gradients of one update: cleared, computed, averaged, clipped, applied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from dovetail.distributed.group import ALONE, Group
from dovetail.kernel.renamed import renamed
from dovetail.losses.result import LossResult
from dovetail.optimizers.fused import init_momentum
from dovetail.optimizers.stepping import Stepper, needs_closure_reevaluation
from dovetail.train.clipping import ClipBy, Clipping, Observer

if TYPE_CHECKING:
    from dovetail.data.batch import Batch

_TINY: Final = 1e-30


class Gradients:
    """The gradients of the parameters that an optimizer updates."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        max_norm: float | None = None,
        clip_by: ClipBy = "norm",
        scaler: torch.amp.GradScaler | None = None,
        skip_nonfinite: bool = False,
    ) -> None:
        """Collect the optimizer's parameters.

        Args:
            optimizer: the optimizer that applies the gradients.
            max_norm: the limit that they are clipped to; None does not clip.
            clip_by: what ``max_norm`` limits: ``"norm"`` the 2-norm of all gradients together, ``"parameter"`` the norm
                of each parameter's, ``"value"`` the absolute value of each number.
            scaler: the loss scaler of fp16 training.
            skip_nonfinite: skip an update with a NaN or infinite gradient. Unless the optimizer can skip on the device
                (``_step_supports_amp_scaling``), this waits for the device at every update.
        """
        self._optimizer, self._scaler, self._skip_nonfinite = optimizer, scaler, skip_nonfinite
        init_momentum(optimizer)  # a user may have made the optimizer with torch alone
        self._stepper = Stepper(optimizer, scaler, skip_nonfinite=skip_nonfinite)
        self._parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self.clipping = Clipping(self._parameters, max_norm, clip_by)
        self.measured = self.clipping.measured
        #: Whether the optimizer evaluates the loss itself, several times per update, as L-BFGS does.
        self.needs_closure_reevaluation = needs_closure_reevaluation(optimizer)

    @property
    def norm(self) -> Tensor | float | None:
        """The norm of the last gradients before clipping: on the CPU a number, else a 0-d tensor; or None."""
        return self.clipping.norm

    @property
    def norms(self) -> Tensor | None:
        """The norm of each parameter's last gradient before clipping; None if unmeasured."""
        return self.clipping.norms

    def observe(self, observer: Observer) -> None:
        """Call ``observer`` with the gradients of every update from now on, before they are clipped."""
        if observer not in self.clipping.observers:
            self.clipping.observers.append(observer)

    def share_observers(self, other: Gradients) -> None:
        """Make ``other``, the gradients of another optimizer, call the same observers."""
        other.clipping.observers = self.clipping.observers

    def update(self, closure: Callable[[], Tensor]) -> Tensor:
        """Make one update, and return the loss that it started from.

        Args:
            closure: clears the gradients, computes new ones and returns the loss. It is called once, and its gradients
                are clipped. An optimizer with :attr:`needs_closure_reevaluation` calls it as often as it needs, and
                nothing is clipped, because such an optimizer compares gradients with losses; observers see the first.
        """
        if not self.needs_closure_reevaluation:
            loss = closure()
            self.clip()
            self.apply()
            return loss
        observed = False

        def observed_closure() -> Tensor:
            nonlocal observed
            loss = closure()
            if self.clipping.observers and not observed:
                observed = True
                self.clipping.measure()
            return loss

        started_from: Tensor = self._optimizer.step(observed_closure)  # type: ignore[assignment, arg-type]  # torch says float
        return started_from

    def clear(self) -> None:
        """Drop all gradients and free their memory."""
        for parameter in self._parameters:
            parameter.grad = None

    def compute(
        self, compute_loss: Callable[[Batch], LossResult], batches: Sequence[Batch], group: Group = ALONE
    ) -> tuple[Tensor, list[LossResult]]:
        """Compute new gradients of the mean loss of ``batches``; return that mean, and each batch's loss.

        The mean is over the units that the losses count, however many each batch has. The gradients are those of one
        large batch, also where several processes hold a part of it each.
        """
        self.clear()
        results: list[LossResult] = []
        plain = len(batches) == 1 and group.size == 1
        unit: Tensor | float | None = None
        for batch in batches:
            total, parts, weight = compute_loss(batch)
            if self._scaler is not None and not results and not plain and group.size == 1:
                # Multiplied by thousands of tokens, the scaled loss would overflow until its scale had adapted.
                unit = weight.clamp(min=1) if isinstance(weight, Tensor) else max(weight, 1.0)
            self.backward(total, None if plain else weight if unit is None else weight / unit)
            results.append(LossResult(total.detach(), parts, weight))
        return (results[0].total if plain else self.average(results, group, unit)), results

    def backward(self, total: Tensor, weight: Tensor | float | None = None) -> None:
        """Add the gradients of ``total``, times ``weight`` if given; fp16 scales the loss first."""
        if weight is not None:
            total = total * weight
        if self._scaler is not None:
            total = self._scaler.scale(total)
        total.backward()  # type: ignore[no-untyped-call]  # torch has not typed it

    def average(
        self, results: Sequence[LossResult], group: Group = ALONE, unit: Tensor | float | None = None
    ) -> Tensor:
        """Divide gradients of ``Σ total·weight`` by ``Σ weight``, and return the mean loss of all batches.

        Args:
            results: the losses of this process's batches.
            group: the processes of the update, which have averaged their gradients with equal weights.
            unit: what the weights were divided by before the backward passes; None for 1.
        """
        weight: Any = sum(result.weight for result in results)
        total: Any = sum(result.total * result.weight for result in results)
        if group.size > 1:
            total, weight = group.all_reduce(torch.stack([total, torch.as_tensor(weight).to(total)])).unbind()
            total, weight = total / group.size, weight / group.size
        # Batches in which nothing counts have weight 0, and gradients of 0, which stay 0.
        weight = weight.clamp(min=_TINY) if isinstance(weight, Tensor) else max(weight, _TINY)
        grads = self.clipping.present()
        if grads:
            torch._foreach_div_(grads, weight if unit is None else weight / unit)
        mean: Tensor = total / weight
        return mean

    def clip(self) -> None:
        """Measure the gradients if anything needs that, and clip them, without waiting for the device."""
        if self.clipping.max_norm is None and not self.clipping.observers and not self._skip_nonfinite:
            return
        if self._scaler is not None:
            self._scaler.unscale_(self._optimizer)
        self.clipping.clip()

    def apply(self) -> None:
        """Let the optimizer update its parameters."""
        self._stepper.step(self.norm)

    __getattr__ = renamed({"asks_again": "needs_closure_reevaluation", "hand_on": "share_observers"})
