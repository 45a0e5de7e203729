"""Sharding a model over processes with torch's FSDP2 (``fully_shard``).

Every parameter becomes a ``DTensor``: each process holds some of its rows, of its gradient and of the optimizer's
state. FSDP2 all-gathers the rows of a block for its forward and backward pass, and frees them afterwards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dovetail.checkpoint.sharded import local_shard
from dovetail.models.recompute import blocks
from dovetail.ops import GradNorms
from dovetail.ops._grad_norms import summarize

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


def shard(modules: Mapping[str, nn.Module], mesh: DeviceMesh) -> None:
    """Shard the parameters of ``modules`` in-place, starting from rank 0's values.

    Parameters are gathered block by block (elements of several layers in an ``nn.ModuleList`` or ``nn.Sequential``, the
    outermost ones, as :func:`~dovetail.models.recompute.blocks` finds them), and those outside of blocks together. A
    block that shares a parameter with the rest of the model is gathered with the rest, so that the parameter stays one.

    Args:
        modules: the modules by config path, on their device.
        mesh: the processes.

    Raises:
        ValueError: a parameter has no dimension to shard, or belongs to two modules; the message names it.
    """
    from torch.distributed.fsdp import fully_shard

    owners: dict[int, str] = {}
    for path, module in modules.items():
        for name, parameter in module.named_parameters():
            if parameter.ndim == 0:
                raise ValueError(
                    f"the parameter {path}.{name} has no dimension to shard: give it the shape [1], or set "
                    'strategy = "ddp"'
                )
            if owners.setdefault(id(parameter), path) != path:
                raise ValueError(
                    f"the parameter {path}.{name} also belongs to {owners[id(parameter)]}, and FSDP would shard each "
                    'on its own: set strategy = "ddp"'
                )
        with torch.no_grad():
            for tensor in (*module.parameters(), *module.buffers()):
                torch.distributed.broadcast(tensor, 0)
        if next(module.parameters(), None) is None:
            continue
        # Reshard the root too: otherwise the next update would reuse the weights that an evaluation gathered, whatever
        # has changed since.
        for block in (*_separate_blocks(module), module):
            if next(block.parameters(), None) is not None:
                fully_shard(block, mesh=mesh, reshard_after_forward=True)


def _separate_blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the blocks that share no parameter with the rest: FSDP2 would make two of a shared one."""
    everywhere = Counter(_occurrences(module))
    for block in blocks(module):
        inside = Counter(_occurrences(block))
        if all(everywhere[parameter] == count for parameter, count in inside.items()):
            yield block


def _occurrences(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters, each as often as it occurs."""
    return [parameter for _, parameter in module.named_parameters(remove_duplicate=False)]


def shard_like(value: Tensor, sharded: Any) -> Tensor:
    """Return a full ``value`` sharded like the DTensor ``sharded`` of the same shape, without communication."""
    from torch.distributed.tensor import distribute_tensor

    # Every process has the full value, so each takes its own shard.
    own = value.to(local_shard(sharded).device)
    return distribute_tensor(own, sharded.device_mesh, sharded.placements, src_data_rank=None)


def norms_over_ranks(own: GradNorms, max_norm: float) -> GradNorms:
    """Return the statistics of full gradients from those of each process's shards, bit-identical on all ranks.

    Args:
        own: the statistics of this process's shards.
        max_norm: the norm to clip to.
    """
    count = len(own)
    # Counts stay exact as float64 up to 2⁵³.
    rows = torch.cat([own.norms, own.max_abs, own.counts[: 3 * count].double()])
    size = torch.distributed.get_world_size()
    gathered = rows.new_empty(size * len(rows))
    torch.distributed.all_gather(list(gathered.view(size, -1)), rows)
    norms, max_abs, counts = torch.split(gathered.view(size, -1), [count, count, 3 * count], dim=1)
    return summarize(torch.linalg.vector_norm(norms, dim=0), max_abs.amax(0), counts.sum(0).to(torch.int64), max_norm)
