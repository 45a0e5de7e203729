"""Calling an optimizer's ``step``: without overhead, skipping non-finite gradients, with a closure."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import optimizer as torch_optimizer

from dovetail.optimizers.adam_step import AdamStep


def plain_step(optimizer: torch.optim.Optimizer) -> Callable[[], object]:
    """Return a function that does ``optimizer.step()`` without torch's profiler annotation around every step.

    The annotation takes 2 % of a small step; Adam and AdamW on the CPU also make fewer calls. A step with a hook (the
    optimizer's own or a global one), under a running profiler, or that was replaced, is torch's own.
    """
    decorated: Any = type(optimizer).step
    undecorated = getattr(decorated, "__wrapped__", None)
    if undecorated is None or not getattr(decorated, "hooked", False):
        return optimizer.step
    listened: tuple[Any, ...] = (
        optimizer._optimizer_step_pre_hooks,  # noqa: SLF001 (where torch keeps them; looked at and not changed)
        optimizer._optimizer_step_post_hooks,  # noqa: SLF001 (as above)
        torch_optimizer._global_optimizer_pre_hooks,  # noqa: SLF001 (as above)
        torch_optimizer._global_optimizer_post_hooks,  # noqa: SLF001 (as above)
    )
    before, after, before_all, after_all = listened
    profiling: Any = torch.autograd._profiler_enabled  # type: ignore[attr-defined]  # noqa: SLF001 (no public name)
    own, ours = vars(optimizer), AdamStep.of(optimizer)

    def step() -> object:
        replaced = own.get("step")
        if (
            before or after or before_all or after_all or profiling()
            or not (replaced is None or hasattr(replaced, "_wrapped_by_lr_sched"))
        ):  # fmt: skip
            return optimizer.step()
        # As a scheduler's wrapper does; otherwise the scheduler warns about steps in the wrong order.
        own["_opt_called"] = True
        return None if ours is not None and ours() else undecorated(optimizer)

    return step


class Stepper:
    """Steps an optimizer, skipping updates with non-finite gradients if asked to."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler | None, *, skip_nonfinite: bool
    ) -> None:
        """Step ``optimizer``, through ``scaler`` if fp16 training has one."""
        self._optimizer, self._scaler, self._skip_nonfinite = optimizer, scaler, skip_nonfinite
        self._step = plain_step(optimizer)

    def step(self, norm: Tensor | float | None) -> None:
        """Let the optimizer update its parameters.

        Args:
            norm: the norm of the gradients, which is non-finite if one of them is; None if it was not measured.
        """
        if self._scaler is not None or self._skip_nonfinite:
            # torch does not count a skipped update, and a scheduler would warn that it steps before the first one.
            self._optimizer._opt_called = True  # type: ignore[attr-defined]  # noqa: SLF001 (where torch notes it)
        if self._scaler is not None:
            self._scaler.step(self._optimizer)  # skips non-finite gradients, whatever the policy
            self._scaler.update()
        elif not self._skip_nonfinite or norm is None:
            self._step()
        elif isinstance(norm, float):
            if math.isfinite(norm):
                self._step()
        else:
            self._step_unless(~torch.isfinite(norm))

    def _step_unless(self, broken: Tensor) -> None:
        """Step unless ``broken``, a 0-d boolean on the device."""
        optimizer: Any = self._optimizer
        if getattr(optimizer, "_step_supports_amp_scaling", False):
            optimizer.found_inf = broken.float()
            try:
                optimizer.step()
            finally:
                del optimizer.found_inf
        elif not broken:
            optimizer.step()


def needs_closure_reevaluation(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether ``optimizer.step`` requires a closure, because it evaluates the loss several times."""
    # The class's own step: a scheduler wraps the instance's, and the wrapper's signature includes self.
    parameters = list(inspect.signature(type(optimizer).step).parameters.values())[1:]
    return any(
        parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        for parameter in parameters
    )
