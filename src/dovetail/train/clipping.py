"""Measuring and clipping the gradients of an update."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import torch
from torch import Tensor

from dovetail.checkpoint.sharded import is_sharded, local_shard
from dovetail.ops._loader import is_native

if TYPE_CHECKING:
    from dovetail.ops import GradNorms, GradNormsPlan

#: Called with the gradients of an update before they are clipped: their statistics, and their parameters in the same
#: order.
Observer: TypeAlias = "Callable[[GradNorms, Sequence[Tensor]], None]"

#: What the limit applies to: the norm of all gradients together, of each parameter's, or each single value.
ClipBy = Literal["norm", "parameter", "value"]

_EPSILON: Final = 1e-6  # as in torch.nn.utils.clip_grad_norm_


class Clipping:
    """Clips gradients to a limit, and measures them for observers in the same pass."""

    def __init__(self, parameters: Sequence[Tensor], max_norm: float | None, clip_by: ClipBy) -> None:
        """Clip the gradients of ``parameters`` to ``max_norm``; None only measures them."""
        self._parameters, self.max_norm, self._clip_by = parameters, max_norm, clip_by
        # Of a sharded gradient, this process handles its own shard.
        self._sharded = any(map(is_sharded, parameters))
        self.observers: list[Observer] = []
        #: The norm of the last gradients before clipping: a number on the CPU, else a 0-d tensor on the device; None
        #: if nothing needs it.
        self.norm: Tensor | float | None = None
        self._norms: Tensor | GradNorms | None = None

    @cached_property
    def _plan(self) -> GradNormsPlan:
        # Loads the native ops, so only once something needs the statistics.
        from dovetail.ops import GradNormsPlan

        return GradNormsPlan(map(local_shard, self._parameters))

    @property
    def norms(self) -> Tensor | None:
        """The norm of each parameter's last gradient before clipping; None if nothing needs it."""
        return self._norms if self._norms is None or isinstance(self._norms, Tensor) else self._norms.norms

    def present(self) -> list[Tensor]:
        """Return the gradients that there are; of a sharded one, this process's shard."""
        grads = [grad for parameter in self._parameters if (grad := parameter.grad) is not None]
        return [local_shard(grad) for grad in grads] if self._sharded else grads

    def measured(self) -> list[Tensor]:
        """Return the parameters that have a gradient, in the order of :attr:`norms`."""
        return [parameter for parameter in self._parameters if parameter.grad is not None]

    def clip(self) -> None:
        """Measure and clip the gradients, without waiting for the device."""
        grads = self.present()
        if not grads:
            return
        coefficient = self._measure(grads)
        if self.max_norm is None:
            return
        if self._clip_by == "value":
            torch._foreach_clamp_min_(grads, -self.max_norm)
            torch._foreach_clamp_max_(grads, self.max_norm)
        elif self._clip_by == "parameter":
            norms: Any = self.norms
            factors = (self.max_norm / (norms + _EPSILON)).clamp_(max=1.0)
            torch._foreach_mul_(grads, list(factors.to(grads[0].dtype).unbind()))
        elif coefficient != 1.0 or isinstance(coefficient, Tensor):
            torch._foreach_mul_(grads, coefficient)

    def measure(self) -> None:
        """Measure the gradients for the observers, without clipping."""
        grads = self.present()
        if grads:
            self._measure(grads)

    def _measure(self, grads: list[Tensor]) -> Tensor | float:
        """Measure the gradients, call the observers, and return the factor that clips to the global norm.

        On the CPU the factor is a number: reading it waits for nothing, and it is usually 1.
        """
        if not (self.observers or self._sharded or is_native(grads[0])):
            norms = torch.stack(torch._foreach_norm(grads))  # noqa: SLF001 (torch's own clipping is made of it)
            total = torch.linalg.vector_norm(norms)
            self._norms, self.norm = norms, total
            factor: Tensor = ((self.max_norm or math.inf) / (total + _EPSILON)).clamp_(max=1.0)
            return factor
        limit = self.max_norm or math.inf
        found = self._plan(grads, limit)
        if self._sharded:
            from dovetail.distributed.sharding import norms_over_ranks

            found = norms_over_ranks(found, limit)
        self._norms = found
        if self.observers:
            # The same list object while all parameters have gradients, so that an observer can tell that nothing
            # changed.
            parameters = self._parameters if len(grads) == len(self._parameters) else self.measured()
            for observer in self.observers:
                observer(found, parameters)
        if found.values.is_cpu:
            self.norm, by, *_ = found.summary()
            return by
        self.norm = found.total
        # In the gradients' own dtype: mixing two is slow.
        return found.clip_coef.to(grads[0].dtype)
