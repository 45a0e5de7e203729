"""A model of which each process holds a share: torch's FSDP2 (``fully_shard``).

Every parameter is a ``DTensor``: each process has some of its rows, and of its gradient and the optimizer's state. For
the forward and the backward pass of a block they are gathered, and dropped again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dovetail.checkpoint.shares import local
from dovetail.ops import GradNorms
from dovetail.ops._grad_norms import summarize
from dovetail.train.recompute import blocks

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


def shard(modules: Mapping[str, nn.Module], mesh: DeviceMesh) -> None:
    """Share out the parameters of ``modules``, in place, beginning with those that the first process has.

    What is gathered at a time is a block, as :func:`~dovetail.train.recompute.blocks` finds them (elements of several
    layers in an ``nn.ModuleList`` or ``nn.Sequential``, the outermost), and what is outside of blocks, together. A
    block that has a parameter in common with what is outside of it is gathered with that, so that they stay one.

    Args:
        modules: by their config path, on their device.
        mesh: the processes.

    Raises:
        ValueError: a parameter has no rows to share out, or two modules have it in common; the message names it.
    """
    from torch.distributed.fsdp import fully_shard

    owners: dict[int, str] = {}
    for path, module in modules.items():
        for name, parameter in module.named_parameters():
            if parameter.ndim == 0:
                msg = (
                    f"the parameter {path}.{name} is a single number without dimensions, which cannot be shared out: "
                    'give it the shape [1], or take strategy = "ddp"'
                )
                raise ValueError(msg)
            if owners.setdefault(id(parameter), path) != path:
                msg = (
                    f"the parameter {path}.{name} is one of {owners[id(parameter)]} too, and each would get shares of "
                    'its own: take strategy = "ddp"'
                )
                raise ValueError(msg)
        with torch.no_grad():
            for tensor in (*module.parameters(), *module.buffers()):
                torch.distributed.broadcast(tensor, 0)
        if next(module.parameters(), None) is None:
            continue
        # Gathered anew for the backward pass, also the root: what an evaluation gathered would else serve the next
        # update too, whatever has become of the weights since.
        for block in (*_blocks_apart(module), module):
            if next(block.parameters(), None) is not None:
                fully_shard(block, mesh=mesh, reshard_after_forward=True)


def _blocks_apart(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the blocks that have no parameter in common with what is outside: FSDP2 would make two of it."""
    everywhere = Counter(_each(module))
    for block in blocks(module):
        inside = Counter(_each(block))
        if all(everywhere[one] == count for one, count in inside.items()):
            yield block


def _each(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters, one that is in several places as often."""
    return [one for _, one in module.named_parameters(remove_duplicate=False)]


def like(value: Tensor, model: Tensor) -> Tensor:
    """Return a whole ``value`` shared out as ``model`` is, of the same shape; nothing is sent."""
    from torch.distributed.tensor import distribute_tensor

    shared: Any = model
    # Every process has the whole, so each takes its own part.
    return distribute_tensor(value.to(local(model).device), shared.device_mesh, shared.placements, src_data_rank=None)


def norms_over_ranks(own: GradNorms, max_norm: float) -> GradNorms:
    """Return the statistics of whole gradients from those of each process's part, the same bits in all.

    Args:
        own: of the parts that this process has.
        max_norm: what they are clipped to.
    """
    count = len(own)
    # Counts stay exact as float64 up to 2⁵³.
    rows = torch.cat([own.norms, own.max_abs, own.counts[: 3 * count].double()])
    size = torch.distributed.get_world_size()
    gathered = rows.new_empty(size * len(rows))
    torch.distributed.all_gather(list(gathered.view(size, -1)), rows)
    norms, max_abs, counts = torch.split(gathered.view(size, -1), [count, count, 3 * count], dim=1)
    return summarize(torch.linalg.vector_norm(norms, dim=0), max_abs.amax(0), counts.sum(0).to(torch.int64), max_norm)
