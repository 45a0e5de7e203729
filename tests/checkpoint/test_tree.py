"""Tests of state as JSON: any tree comes back the same, and what cannot be saved is refused."""

from __future__ import annotations

from collections import defaultdict, namedtuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dovetail.checkpoint.format import encode, write_checkpoint
from states import containers, equal, leaves, there_and_back


@settings(max_examples=150)
@given(st.recursive(leaves, containers, max_leaves=12))
def test_any_state_decodes_to_itself(state):
    """With types, order and bits; NaN and infinities; keys that are not strings, or look like tags."""
    assert equal(there_and_back(state), state)


Point = namedtuple("Point", "x y")  # noqa: PYI024 (third parties may use it)
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
def test_a_value_that_cannot_be_saved_is_refused_with_its_path(tmp_path, state, message):
    """Nothing is written."""
    with pytest.raises(TypeError, match=message):
        encode(state)
    with pytest.raises(TypeError, match=message):
        write_checkpoint(tmp_path / "a", state)
    assert list(tmp_path.iterdir()) == []
