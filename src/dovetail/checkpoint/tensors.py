"""Where tensors are kept, and how they refer to each other.

safetensors keeps named, contiguous tensors that share no memory. State has more: tied weights, views of one another,
transposed and channels-last layouts, dtypes without a name there. So each tensor is either *kept* under a name or a
*view* of what is kept:

- ``{"file": "model", "key": "encoder.weight"}``: as it is; a layout that is not row by row is in a table of strides;
- the same with ``dtype``, ``shape``, ``stride`` and ``offset`` (in elements): a window on the memory of what is kept.

Tensors that shared memory before share it after. A view whose base is not part of the state keeps only its own
elements, not the memory it is cut from; if there are gaps between them, they come back row by row.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

import torch
from attrs import define, field, frozen

from dovetail.checkpoint.dtypes import DTYPES
from dovetail.checkpoint.manifest import MODEL, STATE
from dovetail.checkpoint.shares import Share, is_sharded, local
from dovetail.checkpoint.tensor_file import NAMES

Kept = dict[str, Any]
Names = Mapping[str, Mapping[str, torch.Tensor]]

_ALIGNMENT: Final = 16  # bytes: the largest element, complex128


def tensor_problem(tensor: torch.Tensor) -> str | None:
    """Say why a tensor cannot be kept, or return None."""
    if is_sharded(tensor):
        odd = [one for one in tensor.placements if type(one).__name__ not in {"Shard", "Replicate"}]  # type: ignore[attr-defined]  # a DTensor's
        return f"a DTensor that is placed as {odd[0]}" if odd else None
    if type(tensor) not in {torch.Tensor, torch.nn.Parameter, torch.nn.Buffer}:
        return f"a {type(tensor).__name__}: only plain tensors can be kept"
    if tensor.is_meta:
        return "a tensor on the meta device: it has no values"
    if tensor.layout is not torch.strided or tensor.is_nested:
        return f"a {'nested' if tensor.is_nested else str(tensor.layout).removeprefix('torch.')} tensor"
    return "a quantized tensor" if tensor.is_quantized else None


@frozen
class _Geometry:
    """How a tensor lies in its memory, in bytes from the memory's start."""

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


def span(shape: Sequence[int], stride: Sequence[int]) -> int:
    """Return how many elements of memory a tensor reaches over; 0 if it is empty."""
    return 0 if 0 in shape else 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))


def dense(shape: Sequence[int], stride: Sequence[int]) -> bool:
    """Say whether a tensor's elements fill their memory, each place once, in whatever order of dimensions."""
    expected = 1
    for step, size in sorted((step, size) for size, step in zip(shape, stride, strict=True) if size != 1):
        if step != expected:
            return False
        expected *= size
    return True


def _row_by_row(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(math.prod(max(1, size) for size in shape[place + 1 :]) for place in range(len(shape)))


@define
class Keeper:
    """Gathers tensors one after the other; :meth:`place` then decides what is kept and fills in the references."""

    _met: list[tuple[str, str, torch.Tensor, Kept]] = field(factory=list, init=False)
    #: What each process has a share of, by file and key.
    shared: dict[str, dict[str, torch.Tensor]] = field(factory=lambda: {MODEL: {}, STATE: {}}, init=False)
    _tied: dict[Any, Kept] = field(factory=dict, init=False)

    def keep(self, tensor: torch.Tensor, path: tuple[Any, ...]) -> Kept:
        """Take in the tensor at ``path`` of the state and return its reference, which :meth:`place` fills."""
        in_model = len(path) > 1 and path[0] == MODEL
        file, name = MODEL if in_model else STATE, "/".join(map(str, path[1:] if in_model else path))
        if is_sharded(tensor):
            # Not by address: a share may be empty in one process, and all are to find the same ties.
            own, memory = local(tensor), local(tensor).untyped_storage()._cdata  # noqa: SLF001 (no public name)
            tie = (memory, own.storage_offset(), own.stride(), tensor.shape, tensor.dtype)
            if tie not in self._tied:
                key = _unique(name, self.shared[file])
                self.shared[file][key] = tensor
                self._tied[tie] = Share.of(tensor, file, key).reference()
            return self._tied[tie]
        reference: Kept = {}
        self._met.append((file, name, tensor, reference))
        return reference

    def place(self) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, dict[str, list[int]]]]:
        """Fill in the references, and return by file and key the tensors to keep, and the strides of some.

        The tensors are row by row and share no memory; they may be on any device, and be the caller's own. Strides are
        given of those that were not row by row.
        """
        kept: dict[str, dict[str, torch.Tensor]] = {MODEL: {}, STATE: {}}
        strides: dict[str, dict[str, list[int]]] = {MODEL: {}, STATE: {}}
        sharing: defaultdict[Any, list[int]] = defaultdict(list)
        for number, (_, _, tensor, _) in enumerate(self._met):
            address = tensor.untyped_storage().data_ptr()
            # Empty tensors all have address 0; they share nothing.
            sharing[(tensor.device, address) if address and tensor.numel() else number].append(number)
        for numbers in sharing.values():
            for cluster in self._overlapping(numbers):
                self._place_cluster(cluster, kept, strides)
        return kept, strides

    def _overlapping(self, numbers: list[int]) -> list[list[int]]:
        """Part the tensors of one memory into those that overlap, each in the order they were met."""
        if len(numbers) == 1:
            return [numbers]
        lying = [(_Geometry.of(self._met[number][2]), number) for number in numbers]
        lying.sort(key=lambda one: one[0].start)
        clusters: list[list[int]] = []
        reach = -1
        for geometry, number in lying:
            if geometry.start >= reach:
                clusters.append([])
            clusters[-1].append(number)
            reach = max(reach, geometry.end)
        return [sorted(cluster) for cluster in clusters]

    def _place_cluster(
        self, cluster: list[int], kept: dict[str, dict[str, torch.Tensor]], strides: dict[str, dict[str, list[int]]]
    ) -> None:
        members = [self._met[number] for number in cluster]
        lying = [_Geometry.of(tensor) for _, _, tensor, _ in members]
        file = MODEL if any(member[0] == MODEL for member in members) else STATE
        in_file = [place for place, member in enumerate(members) if member[0] == file]
        start, end = min(one.start for one in lying), max(one.end for one in lying)
        base = next((place for place in in_file if _can_hold(lying[place], lying)), None)
        if base is None:
            start -= start % _ALIGNMENT
            tensor = _memory(members[0][2], start, end)
            key = _unique(f"{members[in_file[0]][1]}~memory", kept[file])
        else:
            tensor = members[base][2]
            key = _unique(members[base][1], kept[file])
            if dense(tensor.shape, tensor.stride()) and tensor.stride() != _row_by_row(tensor.shape) and tensor.numel():
                strides[file][key] = list(tensor.stride())
        kept[file][key] = tensor.contiguous()
        for (_, _, _, reference), geometry in zip(members, lying, strict=True):
            reference |= {"file": file, "key": key}
            if base is None or geometry != lying[base]:
                reference |= {
                    "dtype": str(geometry.dtype).removeprefix("torch."),
                    "shape": list(geometry.shape),
                    "stride": list(geometry.stride),
                    "offset": (geometry.start - start) // geometry.dtype.itemsize,
                }


def _can_hold(one: _Geometry, cluster: Sequence[_Geometry]) -> bool:
    """Say whether keeping the elements of one tensor keeps the whole cluster."""
    if one.dtype not in NAMES:
        return False
    if all(other == one for other in cluster):
        # Gaps are nobody's; only elements that lie in one place several times need their memory kept.
        return math.prod(one.shape) <= span(one.shape, one.stride)
    inside = all(one.start <= other.start and other.end <= one.end and other.dtype is one.dtype for other in cluster)
    return inside and dense(one.shape, one.stride)


def _memory(tensor: torch.Tensor, start: int, end: int) -> torch.Tensor:
    """Return a copy of the bytes from ``start`` to ``end`` of the memory that ``tensor`` lies in."""
    window = torch.empty(0, dtype=torch.uint8, device=tensor.device)
    return window.set_(tensor.untyped_storage(), start, (end - start,), (1,)).clone()


def _unique(name: str, taken: Mapping[str, Any]) -> str:
    # safetensors keeps one name to itself and writes UTF-8 only.
    name = name.encode("utf-8", "backslashreplace").decode()
    candidate, number = name, 2
    while candidate in taken or candidate == "__metadata__":
        candidate, number = f"{name}~{number}", number + 1
    return candidate


def laid_out(tensor: torch.Tensor, stride: Sequence[int]) -> torch.Tensor:
    """Return a copy of ``tensor`` with the given strides.

    Raises:
        ValueError: they do not fill the memory, so that a small file could ask for a lot.
    """
    if len(stride) != tensor.ndim or not dense(tensor.shape, stride) or min(stride, default=0) < 0:
        raise ValueError(f"strides {list(stride)} do not fit the shape {list(tensor.shape)}")
    return torch.empty_strided(tensor.shape, tuple(stride), dtype=tensor.dtype).copy_(tensor)


def resolve(reference: Kept, kept: Names) -> torch.Tensor:
    """Return the tensor that a reference means.

    Raises:
        ValueError, KeyError, TypeError: the reference is malformed, or reaches beyond what is kept.
    """
    tensor = kept[reference["file"]][reference["key"]]
    if "dtype" not in reference:
        return tensor
    dtype = DTYPES[reference["dtype"]]
    shape, stride = [int(size) for size in reference["shape"]], [int(step) for step in reference["stride"]]
    start = tensor.storage_offset() * tensor.itemsize + int(reference["offset"]) * dtype.itemsize
    reach = start + span(shape, stride) * dtype.itemsize
    storage = tensor.untyped_storage()
    if min((0, *shape, *stride, start)) < 0 or start % dtype.itemsize or reach > storage.nbytes():
        raise ValueError(f"a view of '{reference['key']}' reaches beyond it")
    # set_ would enlarge a memory that is too small, hence the check above.
    return torch.empty(0, dtype=dtype).set_(storage, start // dtype.itemsize, shape, stride)
