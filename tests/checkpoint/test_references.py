"""Tests of tensors that share memory or are not row-major."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.tensor import DTensor, Partial, Shard

from dovetail.checkpoint.format import encode, read_checkpoint, read_model, write_checkpoint
from dovetail.checkpoint.references import is_dense, resolve_reference, span, tensor_problem, with_strides
from states import equal, memory, there_and_back


def test_tied_weights_are_stored_once_and_stay_tied(tmp_path):
    """Even between the model and other state."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    model[1].weight = model[0].weight
    write_checkpoint(tmp_path / "a", {"average": {"w": model[0].weight}, "model": model.state_dict()})

    state = read_checkpoint(tmp_path / "a")

    assert set(load_file(tmp_path / "a" / "model.safetensors")) == {"0.weight", "0.bias", "1.bias"}
    assert load_file(tmp_path / "a" / "state.safetensors") == {}
    assert memory(state["model"]["0.weight"]) == memory(state["model"]["1.weight"]) == memory(state["average"]["w"])
    assert list(state["model"]) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_a_transposed_tied_weight_stays_tied(tmp_path):
    """In an autoencoder, the file holds the encoder's weight, and the decoder's is a view of it."""
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
def test_views_share_memory_again(make):
    """They may overlap, contain each other, have other dtypes, or overlap themselves."""
    views = make(torch.arange(12.0).reshape(6, 2))

    decoded = there_and_back(views)

    assert equal(decoded, views)
    assert [view.shape for view in decoded] == [view.shape for view in views]
    nonempty = [view for view in decoded if view.numel()]
    assert len({memory(view) for view in nonempty}) == 1
    assert [view.stride() for view in nonempty] == [view.stride() for view in views if view.numel()]


def test_parts_of_one_memory_without_overlap_are_stored_separately():
    """The parameters of a fused layer are such parts."""
    whole = torch.arange(10.0)

    encoded = encode({"a": whole[:4], "b": whole[4:6], "c": whole[8:]})

    assert {key: tensor.tolist() for key, tensor in encoded.tensors["state"].items()} == {
        "a": [0, 1, 2, 3],
        "b": [4, 5],
        "c": [8, 9],
    }


def test_a_small_view_does_not_store_its_base(tmp_path):
    """A row of a large matrix takes the space of a row."""
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
def test_strides_are_restored(tmp_path, tensor):
    """They select kernels, and so the last bit; the file itself is row-major for other readers."""
    write_checkpoint(tmp_path / "a", {"model": {"w": tensor}})

    assert read_model(tmp_path / "a")["w"].stride() == tensor.stride()
    assert torch.equal(read_model(tmp_path / "a")["w"], tensor)
    assert torch.equal(load_file(tmp_path / "a" / "model.safetensors")["w"], tensor)


def test_conjugate_views_are_stored_with_their_values():
    """Their memory holds the values without the conjugation."""
    value = torch.tensor([1 + 2j])

    decoded = there_and_back([value, value.conj(), value.conj().imag])

    assert [tensor.tolist() for tensor in decoded] == [[1 + 2j], [1 - 2j], [-2]]


def test_span_and_density_of_strided_tensors():
    """Empty tensors, scalars, expanded and transposed ones too."""
    assert (span((2, 3), (3, 1)), span((2, 0), (3, 1)), span((), ()), span((2, 3), (0, 1))) == (6, 0, 1, 3)
    assert is_dense((2, 3), (1, 2))
    assert is_dense((2, 1, 3), (3, 99, 1))
    assert not is_dense((2, 3), (4, 1))
    assert not is_dense((2,), (0,))


class Tagged(torch.Tensor):
    """A tensor subclass."""


@pytest.mark.parametrize(
    "make,problem",
    [
        (lambda: torch.ones(2), None),
        (lambda: torch.nn.Parameter(torch.ones(2)), None),
        (lambda: torch.ones(2).as_subclass(Tagged), "a Tagged: only plain tensors can be stored"),
        (lambda: torch.ones(2, device="meta"), "a tensor on the meta device: it has no values"),
        (lambda: torch.eye(2).to_sparse(), "a sparse_coo tensor"),
        (lambda: torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]), "a nested tensor"),
        (lambda: torch._empty_affine_quantized([2], scale=1.0, zero_point=0, dtype=torch.qint8), "a quantized tensor"),
    ],
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_what_keeps_a_tensor_out_of_a_checkpoint(make, problem):
    """The message says what it is."""
    assert tensor_problem(make()) == problem


def test_shards_of_one_tensor_are_stored_once(mesh):
    """Tied sharded weights have one key and stay tied; a partial sum cannot be stored."""
    weight = DTensor.from_local(torch.arange(4.0), mesh, [Shard(0)])
    other = DTensor.from_local(torch.arange(4.0), mesh, [Shard(0)])
    encoded = encode({"model": {"a": weight, "b": weight, "c": other}})

    assert list(encoded.sharded["model"]) == ["a", "c"]
    partial = DTensor.from_local(torch.ones(2), mesh, [Partial()])
    assert tensor_problem(weight) is None
    assert tensor_problem(partial) == f"a DTensor with the placement {Partial()}"


def test_keys_that_look_alike_are_told_apart():
    """``a/b`` may be a key or a path, and safetensors reserves one name."""
    first, second, third = torch.zeros(1), torch.ones(1), torch.full((1,), 2.0)
    state = {"a": {"b": {"c": first}, "b/c": second}, "a/b": {"c": third}}
    encoded = encode({"state": state, "model": {"__metadata__": torch.ones(2)}})

    assert {key: float(value) for key, value in encoded.tensors["state"].items()} == {
        "state/a/b/c": 0.0, "state/a/b/c~2": 1.0, "state/a/b/c~3": 2.0,
    }  # fmt: skip
    assert list(encoded.tensors["model"]) == ["__metadata__~2"]
    assert equal(there_and_back(state), state)


@pytest.mark.parametrize("stride", [[1], [-1, 3], [3, 3], [4, 1], [0, 1]])
def test_strides_with_gaps_or_overlaps_are_refused(stride):
    """A forged file must not ask for more memory than it fills."""
    with pytest.raises(ValueError, match="do not fit the shape"):
        with_strides(torch.ones(2, 3), stride)
    assert with_strides(torch.ones(2, 3), [1, 2]).stride() == (1, 2)


@pytest.mark.parametrize(
    "changed,fits",
    [
        ({}, True),
        ({"offset": 3, "shape": [3]}, True),
        ({"offset": 4, "shape": [3]}, False),
        ({"offset": -1}, False),
        ({"stride": [-1]}, False),
        ({"shape": [-2]}, False),
        ({"dtype": "int64", "offset": 1, "shape": [1]}, True),
        ({"dtype": "float64", "offset": 2, "shape": [2]}, False),
    ],
)
def test_a_view_never_reaches_beyond_its_tensor(changed, fits):
    """Its last byte may be the tensor's last, and no more."""
    reference = {"file": "state", "key": "k", "dtype": "float32", "shape": [2], "stride": [1], "offset": 0, **changed}
    stored = {"state": {"k": torch.arange(6, dtype=torch.float32)}}
    if fits:
        assert resolve_reference(reference, stored).shape == tuple(reference["shape"])
        return
    with pytest.raises(ValueError, match="a view of 'k' reaches beyond it"):
        resolve_reference(reference, stored)


def test_a_misaligned_view_is_refused():
    """A stored tensor that starts in the middle of its memory may give one."""
    stored = {"state": {"k": torch.arange(7, dtype=torch.float32)[1:]}}
    reference = {"file": "state", "key": "k", "dtype": "float64", "shape": [1], "stride": [1], "offset": 0}
    with pytest.raises(ValueError, match="reaches beyond it"):
        resolve_reference(reference, stored)
