"""The gradients of one update: cleared, computed, averaged, clipped, applied."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import torch
from torch import Tensor

from dovetail.checkpoint.shares import is_sharded, local
from dovetail.losses.result import LossResult
from dovetail.ops._loader import is_native
from dovetail.optimizers.fused import begin_momentum
from dovetail.train.group import ALONE, Group
from dovetail.train.stepping import plain_step

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.ops import GradNorms, GradNormsPlan

#: Is told of the gradients of an update, before they are clipped: their statistics, and the parameters that they are
#: of, in the same order.
Observer: TypeAlias = "Callable[[GradNorms, Sequence[Tensor]], None]"

#: What a limit on gradients is a limit of.
ClipBy = Literal["norm", "parameter", "value"]

_TINY: Final = 1e-30
_EPSILON: Final = 1e-6  # as torch.nn.utils.clip_grad_norm_ has it


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
        """Gather the optimizer's parameters.

        Args:
            optimizer: what updates them.
            max_norm: what they are clipped to; None leaves them.
            clip_by: what ``max_norm`` limits: ``"norm"`` the 2-norm of all of them together, ``"parameter"`` that of
                each parameter's, ``"value"`` the size of each single number.
            scaler: scales the loss of half-precision training.
            skip_nonfinite: make no update from gradients of which one is NaN or infinite. Where the optimizer cannot
                be told so on the device (``_step_supports_amp_scaling``), this waits for the device at every update.
        """
        self._optimizer, self._max_norm, self._clip_by, self._scaler = optimizer, max_norm, clip_by, scaler
        begin_momentum(optimizer)  # which may be one made elsewhere
        self._step = plain_step(optimizer)
        self._parameters = [one for group in optimizer.param_groups for one in group["params"]]
        self._skip_nonfinite = skip_nonfinite
        # Of shares of gradients, this process's part is worked on.
        self._sharded = any(map(is_sharded, self._parameters))
        self._observers: list[Observer] = []
        #: Whether the optimizer asks for the loss itself, as L-BFGS does, and not once an update.
        self.asks_again = asks_again(optimizer)
        #: The norm of the last gradients before clipping: a number on the CPU, else a 0-d tensor on the device; None
        #: where nobody needs it.
        self.norm: Tensor | float | None = None
        self._norms: Tensor | GradNorms | None = None

    @cached_property
    def _plan(self) -> GradNormsPlan:
        # Made for the first who wants to know, since with it comes the object of the native ops.
        from dovetail.ops import GradNormsPlan

        return GradNormsPlan(map(local, self._parameters))

    @property
    def norms(self) -> Tensor | None:
        """The norm of each parameter's last gradient before clipping; None where nobody needs it."""
        return self._norms if self._norms is None or isinstance(self._norms, Tensor) else self._norms.norms

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
                compares gradients with losses. Observers are then told of the first, with which the update began.
        """
        if self.asks_again:
            told = False

            def first_observed() -> Tensor:
                nonlocal told
                found = closure()
                if self._observers and not told:
                    told = True
                    self._look()
                return found

            loss: Tensor = self._optimizer.step(first_observed)  # type: ignore[assignment, arg-type]  # torch says float
            return loss
        loss = closure()
        self.clip()
        self.apply()
        return loss

    def clear(self) -> None:
        """Drop all gradients; the memory goes back rather than being filled with zeros."""
        for one in self._parameters:
            one.grad = None

    def backward(self, total: Tensor, weight: Tensor | float | None = None) -> None:
        """Add the gradients of ``total``, times ``weight`` if given, scaled where half precision needs it."""
        if weight is not None:
            total = total * weight
        if self._scaler is not None:
            total = self._scaler.scale(total)
        total.backward()  # type: ignore[no-untyped-call]  # torch has not typed it

    def compute(
        self, compute_loss: Callable[[Batch], LossResult], batches: Sequence[Batch], group: Group = ALONE
    ) -> tuple[Tensor, list[LossResult]]:
        """Compute the gradients of the mean loss of ``batches`` anew; return that mean, and each batch's loss.

        It is the mean over the units that the losses count, however many each batch has: the gradient of one large
        batch, also where several processes have some of them each.
        """
        self.clear()
        results: list[LossResult] = []
        plain = len(batches) == 1 and group.size == 1
        unit: Tensor | float | None = None
        for batch in batches:
            total, parts, weight = compute_loss(batch)
            if self._scaler is not None and not results and not plain and group.size == 1:
                # Times thousands of tokens the scaled loss would be too large, until its scale were as much less.
                unit = weight.clamp(min=1) if isinstance(weight, Tensor) else max(weight, 1.0)
            self.backward(total, None if plain else weight if unit is None else weight / unit)
            results.append(LossResult(total.detach(), parts, weight))
        return (results[0].total if plain else self.average(results, group, unit)), results

    def average(
        self, results: Sequence[LossResult], group: Group = ALONE, unit: Tensor | float | None = None
    ) -> Tensor:
        """Divide gradients of ``Σ total·weight`` by ``Σ weight``, and return the mean loss of the batches together.

        Args:
            results: the losses of this process's batches.
            group: the processes of the update; their gradients have been averaged, every process counting the same.
            unit: what the weights were divided by before their gradients were computed; None for nothing.
        """
        weight: Any = sum(result.weight for result in results)
        total: Any = sum(result.total * result.weight for result in results)
        if group.size > 1:
            total, weight = group.add_up(torch.stack([total, torch.as_tensor(weight).to(total)])).unbind()
            total, weight = total / group.size, weight / group.size
        # Batches in which nothing counts weigh nothing: their gradients are zero, and stay so.
        weight = weight.clamp(min=_TINY) if isinstance(weight, Tensor) else max(weight, _TINY)
        grads = self._present()
        if grads:
            torch._foreach_div_(grads, weight if unit is None else weight / unit)
        mean: Tensor = total / weight
        return mean

    def clip(self) -> None:
        """Measure the gradients for whoever wants that, and clip them; no device is waited for."""
        if self._max_norm is None and not self._observers and not self._skip_nonfinite:
            return
        if self._scaler is not None:
            self._scaler.unscale_(self._optimizer)
        grads = self._present()
        if not grads:
            return
        coefficient = self._measure(grads)
        if self._max_norm is None:
            return
        if self._clip_by == "value":
            torch._foreach_clamp_min_(grads, -self._max_norm)
            torch._foreach_clamp_max_(grads, self._max_norm)
        elif self._clip_by == "parameter":
            norms: Any = self.norms
            factors = (self._max_norm / (norms + _EPSILON)).clamp_(max=1.0)
            torch._foreach_mul_(grads, list(factors.to(grads[0].dtype).unbind()))
        elif coefficient != 1.0 or isinstance(coefficient, Tensor):
            torch._foreach_mul_(grads, coefficient)

    def _look(self) -> None:
        """Measure the gradients for the observers alone."""
        grads = self._present()
        if grads:
            self._measure(grads)

    def _measure(self, grads: list[Tensor]) -> Tensor | float:
        """Measure the gradients, tell the observers, and return what clipping to the global norm multiplies with.

        On the CPU that is a number: looking waits for nothing there, and most of the time there is nothing to clip.
        """
        if not (self._observers or self._sharded or is_native(grads[0])):
            norms = torch.stack(torch._foreach_norm(grads))  # noqa: SLF001 (torch's own clipping is made of it)
            total = torch.linalg.vector_norm(norms)
            self._norms, self.norm = norms, total
            coefficient: Tensor = ((self._max_norm or math.inf) / (total + _EPSILON)).clamp_(max=1.0)
            return coefficient
        limit = self._max_norm or math.inf
        found = self._plan(grads, limit)
        if self._sharded:
            from dovetail.train.shards import norms_over_ranks

            found = norms_over_ranks(found, limit)
        self._norms = found
        if self._observers:
            # Where all have one, the same list every time, so that an observer sees at a glance that nothing changed.
            parameters = self._parameters if len(grads) == len(self._parameters) else self.measured()
            for observer in self._observers:
                observer(found, parameters)
        if found.values.is_cpu:
            self.norm, by, *_ = found.summary()
            return by
        self.norm = found.total
        # In the gradients' own precision: mixing two is slow.
        return found.clip_coef.to(grads[0].dtype)

    def apply(self) -> None:
        """Let the optimizer update its parameters."""
        if self._scaler is not None or self._skip_nonfinite:
            # An update that is left out is none to torch, and a scheduler would warn that it steps before the first.
            self._optimizer._opt_called = True  # type: ignore[attr-defined]  # noqa: SLF001 (where torch notes it)
        if self._scaler is not None:
            self._scaler.step(self._optimizer)  # which leaves out what is not finite, whatever the policy
            self._scaler.update()
        elif not self._skip_nonfinite or self.norm is None:
            self._step()
        elif isinstance(self.norm, float):
            if math.isfinite(self.norm):
                self._step()
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
        grads = [grad for one in self._parameters if (grad := one.grad) is not None]
        return [local(one) for one in grads] if self._sharded else grads


def asks_again(optimizer: torch.optim.Optimizer) -> bool:
    """Say whether ``optimizer.step`` must be given a closure, because it evaluates the loss several times."""
    # The class's own: on an optimizer that has a scheduler, torch puts a wrapper in its place whose signature has self.
    parameters = list(inspect.signature(type(optimizer).step).parameters.values())[1:]
    return any(one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD for one in parameters)
