"""An optimizer's step without what nobody asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import optimizer as torch_optimizer

from dovetail.optimizers.adam_step import AdamStep


def plain_step(optimizer: torch.optim.Optimizer) -> Callable[[], object]:
    """Return what does ``optimizer.step()``, without the note that torch leaves for a profiler around every step.

    That note is 2 % of a small step; an Adam or AdamW on the CPU also makes fewer calls. A step that somebody listens
    to (a hook of the optimizer's, a hook for all optimizers, a profiler that runs) or that somebody has replaced is
    torch's own, whole.
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
        # What a learning-rate scheduler's own wrapper would note, or it warns of steps in the wrong order.
        own["_opt_called"] = True
        return None if ours is not None and ours() else undecorated(optimizer)

    return step
