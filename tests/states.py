"""States for tests of checkpoints: any tree, how to compare two, and how to forge a checkpoint."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, OrderedDict, deque
from pathlib import Path

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dovetail.checkpoint.format import encode
from dovetail.checkpoint.manifest import FILES, MANIFEST, manifest_json
from dovetail.checkpoint.references import resolve_reference, with_strides
from dovetail.checkpoint.tree import decode


def there_and_back(state):
    """Encode a state to JSON text and tensors, and decode it, without a disk."""
    encoded = encode({"state": state})
    tree = json.loads(json.dumps(encoded.tree, allow_nan=False))
    stored = {
        file: {
            key: with_strides(tensor, encoded.strides[file][key]) if key in encoded.strides[file] else tensor
            for key, tensor in tensors.items()
        }
        for file, tensors in encoded.tensors.items()
    }
    return decode(tree, lambda reference: resolve_reference(reference, stored))["state"]


def equal(first, second) -> bool:  # noqa: PLR0911 (a kind of value a line)
    """Return whether two states are the same: types, order of keys, and bits, even of NaN."""
    if type(first) is not type(second):
        return False
    match first:
        case torch.Tensor():
            return (
                first.dtype is second.dtype
                and first.shape == second.shape
                and (first.numel() == 0 or bits(first) == bits(second))
            )
        case np.ndarray():
            return first.dtype == second.dtype and first.shape == second.shape and first.tobytes() == second.tobytes()
        case np.generic():
            return first.dtype == second.dtype and first.tobytes() == second.tobytes()
        case float():
            return (math.isnan(first) and math.isnan(second)) or first.hex() == second.hex()
        case complex():
            return equal(first.real, second.real) and equal(first.imag, second.imag)
        case dict():
            return (
                len(first) == len(second)
                and all(map(equal, first, second))
                and all(map(equal, first.values(), second.values()))
            )
        case list() | tuple() | deque():
            return len(first) == len(second) and all(map(equal, first, second))
        case _:
            return first == second


def bits(tensor: torch.Tensor) -> bytes:
    """Return a tensor's bytes in row-major order."""
    rows = torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor)
    return rows.reshape(-1).view(torch.uint8).numpy().tobytes()


def memory(tensor: torch.Tensor) -> int:
    """Return the address of a tensor's memory."""
    return tensor.untyped_storage().data_ptr()


DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.bool, torch.complex64, torch.complex128,
    torch.float8_e4m3fn, torch.float8_e5m2,
]  # fmt: skip


@st.composite
def tensors(draw):
    """Draw a tensor of any dtype and layout."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    raw = torch.from_numpy(np.frombuffer(draw(st.binary(min_size=16 * 64, max_size=16 * 64)), dtype=np.uint8).copy())
    if dtype is torch.bool:
        raw %= 2
    tensor = raw.view(dtype)[: math.prod(shape)].reshape(shape)
    if tensor.ndim > 1 and draw(st.booleans()):
        tensor = tensor.transpose(0, -1)
    if tensor.ndim and tensor.shape[0] > 1 and draw(st.booleans()):
        tensor = tensor[::2]
    return torch.nn.Parameter(tensor, requires_grad=False).data if draw(st.booleans()) else tensor


numbers = st.one_of(st.integers(), st.floats(), st.booleans(), st.complex_numbers(), st.just(-0.0))
plain = st.one_of(
    st.none(),
    numbers,
    st.text(max_size=5),
    st.sampled_from(["$", "$tuple", "$tensor", "\ud800", "__metadata__"]),
    st.binary(max_size=5),
    st.sampled_from([torch.float32, torch.bfloat16, torch.device("cpu"), torch.device("cuda:1"), torch.Size([2, 3])]),
)
arrays = hnp.arrays(
    st.one_of(hnp.scalar_dtypes(), hnp.unicode_string_dtypes(max_len=4), hnp.byte_string_dtypes(max_len=4)),
    hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3),
)
leaves = st.one_of(
    plain, tensors(), arrays, hnp.scalar_dtypes().flatmap(hnp.from_dtype).filter(lambda x: isinstance(x, np.generic))
)
names = st.one_of(
    st.text(max_size=4),
    st.sampled_from(["$", "$tuple", "a/b", "__metadata__"]),
    st.integers(),
    st.tuples(st.text(max_size=2), st.integers()),
)


def containers(children):
    """Draw a container of any kind that a state may have."""
    items = st.lists(children, max_size=3)
    tables = st.dictionaries(names, children, max_size=3)
    return st.one_of(
        items,
        items.map(tuple),
        tables,
        tables.map(OrderedDict),
        st.dictionaries(st.text(max_size=3), children, max_size=3),
        st.builds(deque, items, st.one_of(st.none(), st.integers(3, 9))),
        st.sets(st.one_of(st.integers(), st.text(max_size=3)), max_size=3),
        st.frozensets(st.integers(), max_size=3),
        st.builds(Counter, st.lists(st.text(max_size=2), max_size=4)),
    )


def reseal(path: Path, **files: bytes | dict) -> None:
    """Change files of a checkpoint and fix its digests, as an attacker would; a dict changes keys of state.json."""
    tree = json.loads((path / "state.json").read_bytes())
    for name, content in files.items():
        if isinstance(content, dict):
            tree |= content
        elif name != "state_json":
            (path / name.replace("_", ".")).write_bytes(content)
            tree["pieces"][name.partition("_")[0]] = pieces_of(content)
    (path / "state.json").write_bytes(
        files["state_json"] if isinstance(files.get("state_json"), bytes) else json.dumps(tree).encode()
    )
    manifest = json.loads((path / MANIFEST).read_bytes())
    del manifest["digest"]
    for name in FILES:
        content = (path / name).read_bytes()
        hashed = content
        if name != "state.json":
            hashed = b"".join(bytes.fromhex(digest) for _, digest in tree["pieces"][name.partition(".")[0]])
        manifest["files"][name] = {"size": len(content), "sha256": hashlib.sha256(hashed).hexdigest()}
    manifest["digest"] = hashlib.sha256(manifest_json(manifest)).hexdigest()
    (path / MANIFEST).write_bytes(manifest_json(manifest))


def pieces_of(content: bytes) -> list:
    """Return the pieces of a file with one tensor."""
    head = min(len(content), 8 + int.from_bytes(content[:8], "little"))
    ends = [end for end in dict.fromkeys((head, len(content))) if end]
    starts = [0, *ends]
    return [[end, hashlib.sha256(content[start:end]).hexdigest()] for start, end in zip(starts, ends, strict=False)]


def header(tensors: dict, data: bytes = b"") -> bytes:
    """Return a safetensors file with any header."""
    text = json.dumps(tensors).encode()
    return len(text).to_bytes(8, "little") + text + data


W = {"file": "model", "key": "w"}
VIEW = {**W, "dtype": "float32", "shape": [2], "stride": [1], "offset": 0}
