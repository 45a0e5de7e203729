"""Tests of the checkpoint format: what goes in comes out, and nothing that is damaged does."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tracemalloc
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.torch import load_file, save

from dovetail.checkpoint import format as checkpoint_format
from dovetail.checkpoint.errors import CheckpointError
from dovetail.checkpoint.format import encode, read_checkpoint, read_model, write_checkpoint
from dovetail.checkpoint.manifest import FILES, MANIFEST, canonical, read_manifest
from dovetail.checkpoint.pieces import hashers
from dovetail.checkpoint.tensor_file import NAMES, read_tensors, write_tensors
from dovetail.checkpoint.tensors import dense, resolve, span
from dovetail.checkpoint.tree import decode
from dovetail.checkpoint.verify import problems, verify
from dovetail.storage.atomic import PREFIX
from dovetail.storage.errors import StorageError
from small_disks import small_disk


def there_and_back(state):
    """Encode a state and decode it, without a disk, through JSON text."""
    encoded = encode({"state": state})
    tree = json.loads(json.dumps(encoded.tree, allow_nan=False))
    kept = {
        file: {
            key: checkpoint_format.laid_out(tensor, encoded.strides[file][key])
            if key in encoded.strides[file]
            else tensor
            for key, tensor in tensors.items()
        }
        for file, tensors in encoded.tensors.items()
    }
    return decode(tree, lambda reference: resolve(reference, kept))["state"]


def equal(first, second) -> bool:  # noqa: PLR0911 (a kind of value a line)
    """Say whether two states are the same: types, order of keys, bits, NaN included."""
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
    """Return a tensor's bytes, row by row."""
    rows = torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor)
    return rows.reshape(-1).view(torch.uint8).numpy().tobytes()


def memory(tensor: torch.Tensor) -> int:
    """Return the address of the memory that a tensor lies in."""
    return tensor.untyped_storage().data_ptr()


# --- any tree -------------------------------------------------------------------------------------------------------

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
    """Draw a container of any kind that state has."""
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


@settings(max_examples=150)
@given(st.recursive(leaves, containers, max_leaves=12))
def test_whatever_is_encoded_is_decoded_to_the_same(state):
    """Types, order, bits; NaN and infinities; keys that are no strings, or that look like our tags."""
    assert equal(there_and_back(state), state)


@pytest.mark.slow
@settings(max_examples=20)
@given(st.recursive(leaves, containers, max_leaves=8), st.dictionaries(st.text(max_size=5), tensors(), max_size=3))
def test_whatever_is_written_is_read_back(tmp_path_factory, state, model):
    """Through files, the model too by itself."""
    path = tmp_path_factory.mktemp("checkpoint") / "step"
    write_checkpoint(path, {"model": model, "rest": state})

    assert equal(read_checkpoint(path), {"model": model, "rest": state})
    assert equal(read_model(path), model)


def test_a_real_training_state_resumes(tmp_path):
    """Model, fused optimizer, scheduler, generators: what comes after is the same to the last bit."""

    def build():
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(), torch.nn.Linear(8, 2)
        )
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, betas=(0.8, 0.9), fused=True)
        scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5, 5])
        return model, optimizer, scheduler

    def step(model, optimizer, scheduler):
        optimizer.zero_grad()
        model(torch.rand(6, 4)).square().sum().backward()
        optimizer.step()
        scheduler.step()

    parts = build()
    for _ in range(4):
        step(*parts)
    state = dict(zip(("model", "optimizer", "scheduler"), (part.state_dict() for part in parts), strict=True))
    state["random"] = {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state()}  # noqa: NPY002 (as saved)
    write_checkpoint(tmp_path / "step", state)
    for _ in range(3):
        step(*parts)

    resumed = build()
    saved = read_checkpoint(tmp_path / "step")
    for part, name in zip(resumed, ("model", "optimizer", "scheduler"), strict=True):
        part.load_state_dict(saved[name])
    random.setstate(saved["random"]["python"])
    np.random.set_state(saved["random"]["numpy"])  # noqa: NPY002 (as saved)
    torch.set_rng_state(saved["random"]["torch"])
    for _ in range(3):
        step(*resumed)

    assert equal(resumed[0].state_dict(), parts[0].state_dict())
    assert equal(resumed[1].state_dict(), parts[1].state_dict())
    assert equal(resumed[2].state_dict(), parts[2].state_dict())
    assert saved["model"]._metadata == state["model"]._metadata


# --- tensors that share, or lie otherwise ---------------------------------------------------------------------------


def test_tied_weights_are_kept_once_and_stay_tied(tmp_path):
    """Also across the model's file and the other one."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    model[1].weight = model[0].weight
    write_checkpoint(tmp_path / "a", {"average": {"w": model[0].weight}, "model": model.state_dict()})

    state = read_checkpoint(tmp_path / "a")

    assert set(load_file(tmp_path / "a" / "model.safetensors")) == {"0.weight", "0.bias", "1.bias"}
    assert load_file(tmp_path / "a" / "state.safetensors") == {}
    assert memory(state["model"]["0.weight"]) == memory(state["model"]["1.weight"]) == memory(state["average"]["w"])
    assert list(state["model"]) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_a_model_tied_by_transposition(tmp_path):
    """An autoencoder: the file has the weight under its own name, the other is a view of it."""
    weight = torch.rand(3, 5)
    write_checkpoint(tmp_path / "a", {"model": {"encoder": weight, "decoder": weight.T}})

    model = read_model(tmp_path / "a")

    assert list(load_file(tmp_path / "a" / "model.safetensors")) == ["encoder"]
    assert torch.equal(model["decoder"], weight.T)
    model["encoder"][0, 1] = 7
    assert model["decoder"][1, 0] == 7


@pytest.mark.parametrize(
    "make",
    [
        lambda base: [base[1:3], base[2:5]],
        lambda base: [base[::2], base],
        lambda base: [base.view(torch.int32)[1:], base[0]],
        lambda base: [base[:1].view(torch.uint8)[2:3], base[0]],
        lambda base: [base[1].expand(3, 2), base[1]],
        lambda base: [base.reshape(-1).as_strided((3, 3), (1, 1))],
        lambda base: [torch.view_as_complex(base), base],
        lambda base: [base[0], base[0:0]],
    ],
)
def test_views_of_one_memory_share_it_afterwards(make):
    """Overlapping, one inside the other, of other dtypes, or of themselves."""
    views = make(torch.arange(12.0).reshape(6, 2))

    again = there_and_back(views)

    assert equal(again, views)
    assert [one.shape for one in again] == [one.shape for one in views]
    full = [one for one in again if one.numel()]
    assert len({memory(one) for one in full}) == 1
    assert [one.stride() for one in full] == [one.stride() for one in views if one.numel()]


def test_parts_of_one_memory_that_do_not_overlap_are_kept_apart():
    """As the parameters of a fused layer are."""
    whole = torch.arange(10.0)

    encoded = encode({"a": whole[:4], "b": whole[4:6], "c": whole[8:]})

    assert {key: tensor.tolist() for key, tensor in encoded.tensors["state"].items()} == {
        "a": [0, 1, 2, 3],
        "b": [4, 5],
        "c": [8, 9],
    }


def test_a_small_view_does_not_drag_its_base_along(tmp_path):
    """One row of a large matrix takes one row."""
    write_checkpoint(
        tmp_path / "a", {"model": {}, "row": torch.rand(1000, 1000)[3], "column": torch.rand(1000, 1000)[:, 3]}
    )

    assert (tmp_path / "a" / "state.safetensors").stat().st_size < 10_000


@pytest.mark.parametrize(
    "tensor",
    [
        torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.rand(2, 3).T,
        torch.rand(4, 1, 3).transpose(0, 1),
        torch.rand(2, 3, 4).permute(2, 0, 1),
    ],
)
def test_layouts_are_kept(tmp_path, tensor):
    """Kernels are chosen by them, and with the kernel the last bit; the file holds logical order for other readers."""
    write_checkpoint(tmp_path / "a", {"model": {"w": tensor}})

    assert read_model(tmp_path / "a")["w"].stride() == tensor.stride()
    assert torch.equal(read_model(tmp_path / "a")["w"], tensor)
    assert torch.equal(load_file(tmp_path / "a" / "model.safetensors")["w"], tensor)


def test_conjugates_are_kept_as_what_they_show():
    """Not as the bits they lie in."""
    value = torch.tensor([1 + 2j])

    again = there_and_back([value, value.conj(), value.conj().imag])

    assert [one.tolist() for one in again] == [[1 + 2j], [1 - 2j], [-2]]


def test_the_model_file_is_plain_safetensors(tmp_path):
    """Under the model's own names, for any program, readable by colleagues."""
    model = torch.nn.Linear(3, 2)
    write_checkpoint(tmp_path / "a", {"model": model.state_dict(), "optimizer": {}})

    assert equal(load_file(tmp_path / "a" / "model.safetensors"), dict(sorted(model.state_dict().items())))
    modes = {(tmp_path / "a" / name).stat().st_mode & 0o777 for name in (*FILES, MANIFEST)}
    umask = os.umask(0)
    os.umask(umask)
    assert modes == {0o666 & ~umask}


@pytest.mark.slow
@given(
    st.dictionaries(
        st.text(max_size=4).filter(lambda name: name != "__metadata__"),
        st.tuples(st.sampled_from(sorted(NAMES, key=str)), st.lists(st.integers(0, 3), max_size=3)),
        max_size=6,
    )
)
def test_the_files_are_those_of_the_safetensors_library(tmp_path_factory, kinds):
    """Byte for byte, whatever the dtypes, shapes and names."""
    tensors = {name: torch.arange(math.prod(shape)).reshape(shape).to(dtype) for name, (dtype, shape) in kinds.items()}
    path = tmp_path_factory.mktemp("file") / "model.safetensors"

    with hashers() as pool:
        with path.open("xb", buffering=0) as file:
            pieces = write_tensors(file, tensors, pool)()
        found = read_tensors(path, pieces, pool)
        assert equal({name: found[name] for name in tensors}, tensors)

    assert path.read_bytes() == save(tensors, {"format": "pt"})


def test_a_large_tensor_is_many_pieces(tmp_path):
    """Each is hashed by itself, and damage anywhere in it is its own."""
    large = torch.arange(10_000_000, dtype=torch.int32)
    write_checkpoint(tmp_path / "a", {"model": {"large": large, "small": torch.ones(3)}})
    path = tmp_path / "a" / "model.safetensors"

    pieces = json.loads((tmp_path / "a" / "state.json").read_bytes())["pieces"]["model"]
    head = pieces[0][0]

    assert [end - head for end, _ in pieces] == [0, 12, 12 + (1 << 24), 12 + (2 << 24), 40_000_012]
    assert torch.equal(read_model(tmp_path / "a")["large"], large)
    for place in (30_000_000, head, 39_999_999):
        with path.open("r+b") as file:
            file.seek(place)
            byte = file.read(1)
            file.seek(place)
            file.write(bytes([byte[0] ^ 1]))
    assert [one.tensor for one in problems(tmp_path / "a")] == ["small", "large"]
    with pytest.raises(CheckpointError, match=r"model.safetensors: this file is damaged: tensor 'small' does not"):
        read_model(tmp_path / "a")


def test_verifying_tells_how_far_it_is(saved):
    """Every byte is counted once, but for the headers."""
    told: list[int] = []

    assert list(problems(saved, told=told.append)) == []
    heads = [json.loads((saved / "state.json").read_bytes())["pieces"][file][0][0] for file in ("model", "state")]
    assert sum(told) == sum(size for size, _ in read_manifest(saved).files.values()) - sum(heads)


@pytest.mark.slow
def test_verifying_needs_no_torch(saved):
    """It is quick to start, also on a machine that cannot train."""
    code = f"""
import sys
from pathlib import Path
sys.modules["torch"] = sys.modules["numpy"] = None
from dovetail.checkpoint.verify import verify
print(verify(Path({str(saved)!r})).info["step"])
"""

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"12\n"


def test_shape_arithmetic():
    """Reach and density of strided tensors."""
    assert (span((2, 3), (3, 1)), span((2, 0), (3, 1)), span((), ()), span((2, 3), (0, 1))) == (6, 0, 1, 3)
    assert dense((2, 3), (1, 2))
    assert dense((2, 1, 3), (3, 99, 1))
    assert not dense((2, 3), (4, 1))
    assert not dense((2,), (0,))


# --- what cannot be kept --------------------------------------------------------------------------------------------

Point = namedtuple("Point", "x y")  # noqa: PYI024 (what third parties may use)
CYCLE: list = []
CYCLE.append(CYCLE)
DEEP: list = []
for _ in range(150):
    DEEP = [DEEP]

REFUSED = {
    "function": (
        {"optimizer": {"lr": len}},
        r"^optimizer.lr: a checkpoint cannot hold the function or class builtins.len;",
    ),
    "lambda": ({"scheduler": {"lr_lambdas": [lambda x: x]}}, r"^scheduler.lr_lambdas\[0\]: .*<lambda>"),
    "object": ({"callbacks": {"x": object()}}, r"^callbacks.x: .* a builtins.object object"),
    "module": (
        {"model": {"extra": torch.nn.Linear(1, 1)}},
        r"^model.extra: .* a torch.nn.modules.linear.Linear object",
    ),
    "named tuple": ({"a": Point(1, 2)}, r"^a: .*Point \(a subclass of tuple, which would be lost\)"),
    "default dict": ({"a": defaultdict(list)}, r"^a: .*defaultdict \(a subclass of dict"),
    "object array": ({"a": np.asarray([{}])}, r"^a: .* a ndarray of dtype object"),
    "records": ({"a": np.zeros(2, dtype=[("x", "f4")])}, r"^a: .* a ndarray of dtype"),
    "meta": ({"model": {"w": torch.zeros(2, device="meta")}}, r"^model.w: .* a tensor on the meta device"),
    "sparse": ({"a": torch.eye(2).to_sparse()}, r"^a: .* a sparse_coo tensor"),
    "nested": ({"a": torch.nested.nested_tensor([torch.zeros(1)], layout=torch.jagged)}, r"^a: .*only plain tensors"),
    "key": ({"optimizer": {"state": {torch.zeros(1): 1}}}, r"^optimizer.state: .* as the key of a dict"),
    "cycle": ({"a": CYCLE}, r"^a\[0\]: this refers to something that contains it"),
    "depth": ({"a": DEEP}, r"^a\[0\].*: nested more than 100 deep"),
    "tuple key": ({"optimizer": {"state": {0: {"hook": print}}}}, r"^optimizer.state\[0\].hook: "),
}


@pytest.mark.parametrize("state, message", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_kept_is_named_by_its_path(tmp_path, state, message):
    """And nothing is written."""
    with pytest.raises(TypeError, match=message):
        encode(state)
    with pytest.raises(TypeError, match=message):
        write_checkpoint(tmp_path / "a", state)
    assert list(tmp_path.iterdir()) == []


# --- damage ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return the path of a small checkpoint, not to be changed."""
    path = tmp_path_factory.mktemp("saved") / "step"
    state = {"model": {"w": torch.arange(6.0)}, "optimizer": {"state": {0: {"m": torch.ones(3)}}, "lr": 0.1}}
    write_checkpoint(path, state, {"step": 12, "metrics": {"val_loss": math.nan, "val_accuracy": 0.5}})
    return path


@pytest.fixture
def damaged(saved, tmp_path):
    """Return a copy of it to damage."""
    return Path(shutil.copytree(saved, tmp_path / "step"))


def test_facts_are_read_from_the_manifest(saved):
    """Without opening the tensors."""
    manifest = read_manifest(saved)

    assert manifest.info["step"] == 12
    assert math.isnan(manifest.info["metrics"]["val_loss"])
    assert {name: length for name, (length, _) in manifest.files.items()} == {
        name: (saved / name).stat().st_size for name in FILES
    }
    assert verify(saved).files == manifest.files


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_truncation_at_any_byte_is_found(damaged, name):
    """Reliability 5: and the file is named."""
    path = damaged / name
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError) as caught:
            read_checkpoint(damaged)
        assert caught.value.path == path
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_any_flipped_bit_is_found(damaged, name):
    """Reliability 5: in every byte, and the file is named; a damaged manifest may accuse a file of its own."""
    path = damaged / name
    whole = path.read_bytes()
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        with pytest.raises(CheckpointError) as caught:
            read_checkpoint(damaged)
        assert caught.value.path == path


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_missing_file_is_named(damaged, name):
    """Whichever it is."""
    (damaged / name).unlink()

    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(damaged)
    assert caught.value.path == damaged / name


def test_no_checkpoint_at_all(tmp_path):
    """A folder without a manifest, and nothing."""
    with pytest.raises(CheckpointError, match="there is no such checkpoint"):
        read_checkpoint(tmp_path / "absent")
    with pytest.raises(CheckpointError, match=r"manifest.json: there is no manifest: this is no checkpoint"):
        read_checkpoint(tmp_path)


def test_the_model_can_be_read_without_the_rest(damaged):
    """Even where the rest is damaged."""
    (damaged / "state.safetensors").write_bytes((damaged / "state.safetensors").read_bytes()[:-1] + b"x")

    assert read_model(damaged)["w"].tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(CheckpointError, match=r"state.safetensors: this file is damaged"):
        read_checkpoint(damaged)


def test_a_checkpoint_without_a_model(tmp_path):
    """Says so."""
    write_checkpoint(tmp_path / "a", {"optimizer": {}})

    with pytest.raises(CheckpointError, match="there is no model"):
        read_model(tmp_path / "a")


# --- strangers' checkpoints, whose digests are right ------------------------------------------------------------------


def reseal(path: Path, **files: bytes | dict) -> None:
    """Change files of a checkpoint and make its digests fit, as somebody hostile would; a dict changes state.json."""
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
    manifest["digest"] = hashlib.sha256(canonical(manifest)).hexdigest()
    (path / MANIFEST).write_bytes(canonical(manifest))


def pieces_of(content: bytes) -> list:
    """Return the pieces of a file of one tensor."""
    head = min(len(content), 8 + int.from_bytes(content[:8], "little"))
    ends = [end for end in dict.fromkeys((head, len(content))) if end]
    starts = [0, *ends]
    return [[end, hashlib.sha256(content[start:end]).hexdigest()] for start, end in zip(starts, ends, strict=False)]


def header(tensors: dict, data: bytes = b"") -> bytes:
    """Return a safetensors file whose header says what it likes."""
    text = json.dumps(tensors).encode()
    return len(text).to_bytes(8, "little") + text + data


LYING = {
    "length of the header": (1 << 62).to_bytes(8, "little") + b"{}",
    "length a little too much": (100).to_bytes(8, "little") + b"{}",
    "offsets beyond the end": header({"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}),
    "shape and offsets": header({"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4]}}, bytes(4)),
    "overflow": header({"w": {"dtype": "F32", "shape": [1 << 62, 1 << 62], "data_offsets": [0, 4]}}, bytes(4)),
    "negative": header({"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, bytes(4)),
    "no JSON": (2).to_bytes(8, "little") + b"xx",
    "pickle": b"\x80\x04\x95cposix\nsystem\n",
    "nothing": b"",
}


@pytest.mark.parametrize("content", LYING.values(), ids=LYING)
def test_a_lying_header_takes_no_memory(damaged, content):
    """Reliability 7: refused, and the file named."""
    reseal(damaged, model_safetensors=content)
    tracemalloc.start()

    with pytest.raises(CheckpointError, match=r"model.safetensors: the tensors cannot be read"):
        read_checkpoint(damaged)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2e6


W = {"file": "model", "key": "w"}
VIEW = {**W, "dtype": "float32", "shape": [2], "stride": [1], "offset": 0}
HOSTILE = {
    "a view beyond the end": {"$tensor": {**VIEW, "shape": [1 << 40]}},
    "a view before the start": {"$tensor": {**VIEW, "offset": -1}},
    "a view with a huge step": {"$tensor": {**VIEW, "stride": [1 << 40]}},
    "a view with a negative step": {"$tensor": {**VIEW, "stride": [-1], "offset": 3}},
    "a view of larger elements": {"$tensor": {**VIEW, "dtype": "float64", "shape": [4]}},
    "a view with other numbers of sizes and strides": {"$tensor": {**VIEW, "shape": [2, 2]}},
    "an unknown dtype": {"$tensor": {**VIEW, "dtype": "object"}},
    "an unknown file": {"$tensor": {"file": "../etc/passwd", "key": "w"}},
    "an unknown key": {"$tensor": {"file": "model", "key": "x"}},
    "a reference that is a list": {"$tensor": [1]},
    "an array of objects": {"$array": {"dtype": "O", "shape": [1], "bytes": W}},
    "an array of records": {"$array": {"dtype": "f4,f4", "shape": [1], "bytes": W}},
    "an array larger than its bytes": {"$array": {"dtype": "<f4", "shape": [1 << 40], "bytes": W}},
    "an unknown tag": {"$pickle": "gASV"},
    "two tags": {"$tuple": [], "$list": []},
    "a dtype that is a function": {"$dtype": "load"},
    "a device that is none": {"$device": "toaster"},
    "a float that is none": {"$float": "1.0"},
    "a dict as a key": {"$dict": [[{}, 1]]},
    "a pair of three": {"$dict": [[1, 2, 3]]},
    "a set of lists": {"$set": [[1]]},
    "a negative deque": {"$deque": {"items": [], "maxlen": -1}},
    "bytes that are none": {"$bytes": "%%"},
}


@pytest.mark.parametrize("node", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_tree_is_refused(damaged, node):
    """One clear error, whatever it says."""
    reseal(damaged, state_json={"tree": {"model": node}})

    with pytest.raises(CheckpointError, match=r"state.json: the state cannot be read"):
        read_checkpoint(damaged)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"tree": 1, "strides": 2}',
        b"[" * 100_000,
        b'{"tree": ' + b"9" * 5000 + b', "strides": {}}',
        b'{"tree": {}, "strides": {"model": 3}}',
        b'{"tree": [], "strides": {}}',
        b"\xff",
    ],
)
def test_a_tree_that_is_none_is_refused(damaged, content):
    """Empty, deep, endless, no text."""
    reseal(damaged, state_json=content)

    with pytest.raises(CheckpointError, match=r"state.json: "):
        read_checkpoint(damaged)


@pytest.mark.parametrize("strides", [[1 << 40], [-1], [1, 1], [2], "x", [None]])
def test_hostile_strides_take_no_memory(damaged, strides):
    """Only those that fill the memory are taken."""
    reseal(damaged, state_json={"tree": {"w": {"$tensor": W}}, "strides": {"model": {"w": strides}}})

    with pytest.raises(CheckpointError, match=r"model.safetensors: the tensors cannot be read"):
        read_checkpoint(damaged)


def manifest_with(**changes):
    """Return a manifest with a right digest and other content."""

    def change(path: Path) -> None:
        manifest = json.loads((path / MANIFEST).read_bytes())
        del manifest["digest"]
        manifest |= changes
        manifest["digest"] = hashlib.sha256(canonical(manifest)).hexdigest()
        (path / MANIFEST).write_bytes(canonical(manifest))

    return change


MANIFESTS = {
    "a later version": (manifest_with(version=2), "format version 2; this Dovetail reads 1"),
    "another format": (manifest_with(format="x"), "no manifest of a checkpoint"),
    "no files": (manifest_with(files={}), "damaged"),
    "a file elsewhere": (manifest_with(files={"../x": {"size": 1, "sha256": ""}}), "damaged"),
    "info that is no dict": (manifest_with(info=[]), "damaged"),
    "info with a tensor": (manifest_with(info={"x": {"$tensor": W}}), "damaged"),
    "no JSON": (lambda path: (path / MANIFEST).write_bytes(b"x"), "no manifest of a checkpoint"),
    "too large": (lambda path: (path / MANIFEST).write_bytes(bytes(1 << 21)), "larger than 1.05 MB"),
    "deep": (lambda path: (path / MANIFEST).write_bytes(b"[" * 100_000), "no manifest of a checkpoint"),
    "a folder": (lambda path: ((path / MANIFEST).unlink(), (path / MANIFEST).mkdir()), "cannot be read"),
}


@pytest.mark.parametrize("change, message", MANIFESTS.values(), ids=MANIFESTS)
def test_hostile_manifests(damaged, change, message):
    """Refused before anything else is looked at."""
    change(damaged)

    with pytest.raises(CheckpointError, match=rf"manifest.json: .*{message}"):
        read_checkpoint(damaged)


@pytest.mark.slow
def test_no_pickle_is_used_anywhere(saved):
    """Reading works where it cannot be called."""
    code = f"""
import pickle
pickle.loads = pickle.load = pickle.Unpickler = None
from pathlib import Path
from dovetail.checkpoint.format import read_checkpoint
read_checkpoint(Path({str(saved)!r}))
"""

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- writing --------------------------------------------------------------------------------------------------------


def test_checkpoints_are_never_overwritten(saved):
    """Not even an empty folder is."""
    with pytest.raises(StorageError, match="something with this name already exists"):
        write_checkpoint(saved, {"model": {}})
    assert read_checkpoint(saved)["optimizer"]["lr"] == 0.1


@pytest.mark.parametrize("name", ["write", "fsync", "replace", "rename"])
def test_whichever_call_fails_there_is_no_half_checkpoint(tmp_path, monkeypatch, name):
    """Reliability 2: a typed error, and either no folder or a whole one."""
    real = getattr(os, name)
    for nth in range(1, 40):
        left = nth

        def call(*args, _real=real, **kwargs):
            nonlocal left
            left -= 1
            if left == 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return _real(*args, **kwargs)

        path = tmp_path / str(nth)
        with monkeypatch.context() as patch:
            patch.setattr(os, name, call)
            try:
                write_checkpoint(path, {"model": {"w": torch.zeros(3)}})
            except StorageError as error:
                said = str(error)
            else:
                break
        assert str(path) in said
        if path.exists():  # only the very last flush may fail after the rename
            assert name == "fsync"
            assert read_checkpoint(path)["model"]["w"].tolist() == [0, 0, 0]
    else:
        pytest.fail("the calls never ended")
    assert nth > 1
    assert not list(tmp_path.glob(f"{PREFIX}*"))


def test_a_full_disk_names_what_was_needed(tmp_path):
    """Reliability 3: also where it is the tensors' library that runs into it."""
    with small_disk(tmp_path, "1m") as disk:
        write_checkpoint(disk / "first", {"model": {"w": torch.zeros(10)}})
        with pytest.raises(
            StorageError,
            match=r"second: cannot write this: there is no space left on the disk: 4 MB needed, [\d.]+ [kM]B free",
        ):
            write_checkpoint(disk / "second", {"model": {"w": torch.zeros(1_000_000)}})
        assert [path.name for path in disk.iterdir()] == ["first"]
        read_checkpoint(disk / "first")
