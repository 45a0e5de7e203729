"""Gradient checkpointing: activations are computed again on the way back instead of being kept."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recompute_activations(model: nn.Module) -> int:
    """Let the blocks of ``model`` compute their activations again on the way back: less memory, a third more time.

    Blocks are what the model keeps in a list and makes of several layers: elements of an ``nn.ModuleList`` or an
    ``nn.Sequential``, the outermost where lists are nested. A model with a method ``gradient_checkpointing_enable()``,
    as those of Hugging Face have, does it itself. The numbers stay the same, those of dropout and batch norms included.

    Returns:
        How many blocks there are; 1 for a model that does it itself.

    Raises:
        ValueError: there are none.
    """
    own: Any = getattr(model, "gradient_checkpointing_enable", None)
    if callable(own):
        own()
        return 1
    found = list(blocks(model))
    if not found:
        msg = (
            "the model keeps no blocks of several layers in an nn.ModuleList or nn.Sequential, whose activations could "
            "be computed again; a method gradient_checkpointing_enable() of its own would do it"
        )
        raise ValueError(msg)
    for block in found:
        block.forward = _recomputing(block, block.forward)
    return len(found)


def blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the outermost blocks in ``module``."""
    for child in module.children():
        listed = isinstance(module, nn.ModuleList | nn.Sequential)
        if listed and next(child.children(), None) is not None:
            yield child
        else:
            yield from blocks(child)


def _recomputing(block: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    norms = [norm for norm in block.modules() if isinstance(norm, _BatchNorm) and norm.track_running_stats]
    contexts = (lambda: (contextlib.nullcontext(), _kept(norms))) if norms else None
    more: dict[str, Any] = {} if contexts is None else {"context_fn": contexts}

    @wraps(forward)
    def again(*arguments: Any, **named: Any) -> Any:
        return checkpoint(forward, *arguments, use_reentrant=False, **more, **named)

    return again


@contextlib.contextmanager
def _kept(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Keep the running statistics of batch norms, which have seen this batch on the way forward."""
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, momentum, tracked in before:
            norm.momentum, norm.num_batches_tracked = momentum, tracked
