"""How the state refers to tensors, and which tensors a checkpoint stores.

safetensors stores named, contiguous tensors that share no memory. State has more: tied weights, views of each other,
transposed and channels-last layouts, dtypes that safetensors has no name for. So each tensor is either *stored* under a
key, or a *view* of a stored tensor:

- ``{"file": "model", "key": "encoder.weight"}``: the stored tensor; if it was not row-major, a table has its strides;
- the same with ``dtype``, ``shape``, ``stride`` and ``offset`` (in elements): a view of the stored tensor's memory.

Tensors that shared memory before a checkpoint share memory after it. A view whose base is not part of the state stores
only its own elements, not its base; if there are gaps between them, it comes back row-major.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

import torch
from attrs import define, field, frozen

from dovetail.checkpoint.manifest import MODEL, STATE
from dovetail.checkpoint.sharded import ShardedSpec, is_sharded, local_shard
from dovetail.checkpoint.tensor_file import DTYPES, SAFETENSORS_NAMES

Reference = dict[str, Any]
#: Stored tensors by file and key.
StoredTensors = Mapping[str, Mapping[str, torch.Tensor]]

_ALIGNMENT: Final = 16  # bytes: the largest element, complex128


def tensor_problem(tensor: torch.Tensor) -> str | None:
    """Return what keeps a tensor out of a checkpoint, or None if it can be stored."""
    if is_sharded(tensor):
        unsupported = [item for item in tensor.placements if type(item).__name__ not in {"Shard", "Replicate"}]  # type: ignore[attr-defined]  # a DTensor's
        return f"a DTensor with the placement {unsupported[0]}" if unsupported else None
    if type(tensor) not in {torch.Tensor, torch.nn.Parameter, torch.nn.Buffer}:
        return f"a {type(tensor).__name__}: only plain tensors can be stored"
    if tensor.is_meta:
        return "a tensor on the meta device: it has no values"
    if tensor.layout is not torch.strided or tensor.is_nested:
        return f"a {'nested' if tensor.is_nested else str(tensor.layout).removeprefix('torch.')} tensor"
    return "a quantized tensor" if tensor.is_quantized else None


def span(shape: Sequence[int], stride: Sequence[int]) -> int:
    """Return the number of elements from a tensor's first to its last element in memory; 0 if it is empty."""
    return 0 if 0 in shape else 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))


def is_dense(shape: Sequence[int], stride: Sequence[int]) -> bool:
    """Return whether a tensor's elements fill their memory without gaps or overlaps, in any order of dimensions."""
    expected = 1
    for step, size in sorted((step, size) for size, step in zip(shape, stride, strict=True) if size != 1):
        if step != expected:
            return False
        expected *= size
    return True


def _row_major(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(math.prod(max(1, size) for size in shape[dim + 1 :]) for dim in range(len(shape)))


@frozen
class _Extent:
    """Where a tensor lies in its memory, in bytes from the memory's start."""

    start: int
    end: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Self:
        start = int(tensor.storage_offset()) * tensor.itemsize
        shape, stride = tuple(tensor.shape), tuple(tensor.stride())
        return cls(start, start + span(shape, stride) * tensor.itemsize, tensor.dtype, shape, stride)

    def covers(self, others: Sequence[_Extent]) -> bool:
        """Return whether storing this tensor's elements stores all tensors in ``others``, which includes it."""
        if self.dtype not in SAFETENSORS_NAMES:
            return False
        if all(other == self for other in others):
            # Gaps belong to no tensor; only elements that overlap need their memory stored.
            return math.prod(self.shape) <= span(self.shape, self.stride)
        inside = all(
            self.start <= other.start and other.end <= self.end and other.dtype is self.dtype for other in others
        )
        return inside and is_dense(self.shape, self.stride)


@define
class TensorCollector:
    """Collects the tensors of a state with :meth:`add`; :meth:`store` then decides which of them are stored."""

    _added: list[tuple[str, str, torch.Tensor, Reference]] = field(factory=list, init=False)
    #: Sharded tensors by file and key.
    sharded: dict[str, dict[str, torch.Tensor]] = field(factory=lambda: {MODEL: {}, STATE: {}}, init=False)
    _tied: dict[Any, Reference] = field(factory=dict, init=False)

    def add(self, tensor: torch.Tensor, path: tuple[Any, ...]) -> Reference:
        """Add the tensor at ``path`` of the state and return its reference, which :meth:`store` completes."""
        in_model = len(path) > 1 and path[0] == MODEL
        file, name = MODEL if in_model else STATE, "/".join(map(str, path[1:] if in_model else path))
        if is_sharded(tensor):
            # Not by address: a shard may be empty on one rank, and all ranks must find the same ties.
            shard = local_shard(tensor)
            memory = shard.untyped_storage()._cdata  # noqa: SLF001 (no public name)
            tie = (memory, shard.storage_offset(), shard.stride(), tensor.shape, tensor.dtype)
            if tie not in self._tied:
                key = _unique_key(name, self.sharded[file])
                self.sharded[file][key] = tensor
                self._tied[tie] = ShardedSpec.of(tensor, file, key).to_reference()
            return self._tied[tie]
        reference: Reference = {}
        self._added.append((file, name, tensor, reference))
        return reference

    def store(self) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, dict[str, list[int]]]]:
        """Complete the references; return the tensors to store, and the strides of some, by file and key.

        The tensors are row-major and share no memory; they may be on any device, and may be the caller's own. The
        strides are those of tensors that were not row-major.
        """
        stored: dict[str, dict[str, torch.Tensor]] = {MODEL: {}, STATE: {}}
        strides: dict[str, dict[str, list[int]]] = {MODEL: {}, STATE: {}}
        by_memory: defaultdict[Any, list[int]] = defaultdict(list)
        for index, (_, _, tensor, _) in enumerate(self._added):
            address = tensor.untyped_storage().data_ptr()
            # Empty tensors all have address 0, and share nothing.
            by_memory[(tensor.device, address) if address and tensor.numel() else index].append(index)
        for indices in by_memory.values():
            for cluster in self._overlapping(indices):
                self._store_cluster(cluster, stored, strides)
        return stored, strides

    def _overlapping(self, indices: list[int]) -> list[list[int]]:
        """Split the tensors of one memory into clusters that overlap, each in the order in which they were added."""
        if len(indices) == 1:
            return [indices]
        extents = [(_Extent.of(self._added[index][2]), index) for index in indices]
        extents.sort(key=lambda pair: pair[0].start)
        clusters: list[list[int]] = []
        end = -1
        for extent, index in extents:
            if extent.start >= end:
                clusters.append([])
            clusters[-1].append(index)
            end = max(end, extent.end)
        return [sorted(cluster) for cluster in clusters]

    def _store_cluster(
        self, cluster: list[int], stored: dict[str, dict[str, torch.Tensor]], strides: dict[str, dict[str, list[int]]]
    ) -> None:
        """Store one tensor, or a copy of the memory, that holds all tensors of a cluster; complete their references."""
        members = [self._added[index] for index in cluster]
        extents = [_Extent.of(tensor) for _, _, tensor, _ in members]
        file = MODEL if any(member[0] == MODEL for member in members) else STATE
        in_file = [position for position, member in enumerate(members) if member[0] == file]
        start, end = min(extent.start for extent in extents), max(extent.end for extent in extents)
        base = next((position for position in in_file if extents[position].covers(extents)), None)
        if base is None:
            start -= start % _ALIGNMENT
            tensor = _copy_memory(members[0][2], start, end)
            key = _unique_key(f"{members[in_file[0]][1]}~memory", stored[file])
        else:
            tensor = members[base][2]
            key = _unique_key(members[base][1], stored[file])
            shape, stride = tensor.shape, tensor.stride()
            if is_dense(shape, stride) and stride != _row_major(shape) and tensor.numel():
                strides[file][key] = list(stride)
        stored[file][key] = tensor.contiguous()
        for (_, _, _, reference), extent in zip(members, extents, strict=True):
            reference |= {"file": file, "key": key}
            if base is None or extent != extents[base]:
                reference |= {
                    "dtype": str(extent.dtype).removeprefix("torch."),
                    "shape": list(extent.shape),
                    "stride": list(extent.stride),
                    "offset": (extent.start - start) // extent.dtype.itemsize,
                }


def _copy_memory(tensor: torch.Tensor, start: int, end: int) -> torch.Tensor:
    """Return a copy of the bytes from ``start`` to ``end`` of the memory that ``tensor`` lies in."""
    window = torch.empty(0, dtype=torch.uint8, device=tensor.device)
    return window.set_(tensor.untyped_storage(), start, (end - start,), (1,)).clone()


def _unique_key(name: str, taken: Mapping[str, Any]) -> str:
    # safetensors reserves one name, and writes only UTF-8.
    name = name.encode("utf-8", "backslashreplace").decode()
    candidate, number = name, 2
    while candidate in taken or candidate == "__metadata__":
        candidate, number = f"{name}~{number}", number + 1
    return candidate


def with_strides(tensor: torch.Tensor, stride: Sequence[int]) -> torch.Tensor:
    """Return a copy of ``tensor`` with the given strides.

    Raises:
        ValueError: the strides leave gaps or overlaps, so that a small file could ask for much memory.
    """
    if len(stride) != tensor.ndim or not is_dense(tensor.shape, stride) or min(stride, default=0) < 0:
        raise ValueError(f"strides {list(stride)} do not fit the shape {list(tensor.shape)}")
    return torch.empty_strided(tensor.shape, tuple(stride), dtype=tensor.dtype).copy_(tensor)


def resolve_reference(reference: Reference, stored: StoredTensors) -> torch.Tensor:
    """Return the tensor that a reference means.

    Raises:
        ValueError, KeyError, TypeError: the reference is malformed, or reaches beyond the stored tensor.
    """
    tensor = stored[reference["file"]][reference["key"]]
    if "dtype" not in reference:
        return tensor
    dtype = DTYPES[reference["dtype"]]
    shape, stride = [int(size) for size in reference["shape"]], [int(step) for step in reference["stride"]]
    start = tensor.storage_offset() * tensor.itemsize + int(reference["offset"]) * dtype.itemsize
    end = start + span(shape, stride) * dtype.itemsize
    storage = tensor.untyped_storage()
    if min((0, *shape, *stride, start)) < 0 or start % dtype.itemsize or end > storage.nbytes():
        raise ValueError(f"a view of '{reference['key']}' reaches beyond it")
    # set_ would enlarge a storage that is too small, hence the check above.
    return torch.empty(0, dtype=dtype).set_(storage, start // dtype.itemsize, shape, stride)
