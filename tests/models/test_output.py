"""The outputs of a model in one form."""

from __future__ import annotations

import subprocess
import sys
from collections import OrderedDict
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch

from dovetail.models.output import ModelOutput

LOGITS = torch.randn(2, 3)


class Pair(NamedTuple):
    """A tuple with named fields."""

    hidden_states: str
    logits: torch.Tensor


@pytest.mark.parametrize(
    "raw",
    [
        LOGITS,
        (LOGITS,),
        [LOGITS, "more"],
        {"logits": LOGITS},
        {"output": LOGITS},
        {"loss": None, "predictions": LOGITS},
        OrderedDict(logits=LOGITS),
        SimpleNamespace(logits=LOGITS),
        Pair("deep", LOGITS),
        ModelOutput(LOGITS),
    ],
)
def test_every_usual_form_is_read(raw: Any) -> None:
    """A tensor, a sequence, a mapping and an object all give their logits."""
    assert ModelOutput.from_raw(raw).logits is LOGITS


def test_a_tuple_keeps_the_rest_by_position() -> None:
    """Everything after the logits is in extras, keyed by its position."""
    assert ModelOutput.from_raw((LOGITS, "a", "b")).extras == {"1": "a", "2": "b"}


def test_a_tuple_may_begin_with_a_loss() -> None:
    """Hugging Face models return (loss, logits, …) if they get labels: a scalar before the logits is the loss."""
    loss = torch.tensor(0.5)
    output = ModelOutput.from_raw((loss, LOGITS, "more"))

    assert output.loss is loss
    assert output.logits is LOGITS
    assert output.extras == {"2": "more"}
    assert ModelOutput.from_raw((loss,)).logits is loss


@pytest.mark.parametrize("hidden", ["hidden", "hidden_states"])
def test_a_mapping_keeps_everything_by_name(hidden: str) -> None:
    """Loss and hidden have their own fields, the rest is in extras, and the model's mapping does not change."""
    raw = {"logits": LOGITS, "loss": 1.0, hidden: "deep", "attentions": "wide"}

    output = ModelOutput.from_raw(raw)

    assert (output.loss, output.hidden, output.extras) == (1.0, "deep", {"attentions": "wide"})
    assert len(raw) == 4


def test_an_object_gives_its_loss_and_hidden_states() -> None:
    """Attributes are read like keys."""
    output = ModelOutput.from_raw(SimpleNamespace(logits=LOGITS, loss=2.0, hidden_states="deep"))

    assert (output.loss, output.hidden, output.extras) == (2.0, "deep", {})


def test_logits_is_the_first_choice() -> None:
    """If a mapping has several candidates, ``logits`` is used."""
    assert ModelOutput.from_raw({"output": torch.zeros(1), "logits": LOGITS}).logits is LOGITS


@pytest.mark.parametrize(
    "raw, message",
    [
        (None, "the model returned NoneType; a loss reads a tensor, a tuple with the logits first"),
        (3.0, "the model returned float"),
        ((), "the model returned an empty tuple"),
        ({}, "a mapping with nothing; it needs one of logits, output"),
        ({"scores": LOGITS}, "a mapping with scores; it needs one of logits, output"),
        (("a", LOGITS), "the model returned tuple whose logits are str, not a tensor"),
        ({"logits": {"a": LOGITS}}, "the model returned dict whose logits are dict, not a tensor"),
    ],
)
def test_other_outputs_raise(raw: Any, message: str) -> None:
    """The error names the type that the model returned."""
    with pytest.raises(TypeError, match=message):
        ModelOutput.from_raw(raw)


def test_it_is_frozen() -> None:
    """A model's outputs cannot change on their way to the loss."""
    with pytest.raises(AttributeError):
        ModelOutput(LOGITS).logits = LOGITS


@pytest.mark.parametrize("module", ["dovetail.models.output", "dovetail.losses.result"])
def test_the_plain_types_import_no_torch(module: str) -> None:
    """The types that hooks and kinds refer to can be imported without torch."""
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
