"""Gradient checkpointing: less is kept, and the numbers stay the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dovetail.config.diagnostics import ConfigError
from dovetail.main import run
from dovetail.models.recompute import recompute_activations
from dovetail.models.transformer import CausalTransformer
from small_runs import small


def transformer() -> CausalTransformer:
    """Return a small transformer with dropout."""
    torch.manual_seed(0)
    return CausalTransformer(vocab_size=11, d_model=16, num_layers=3, num_heads=2, d_ff=32, max_seq_len=8, dropout=0.3)


def residual() -> nn.Sequential:
    """Return blocks with batch norms."""
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8)) for _ in range(3)]
    return nn.Sequential(*blocks)


def step(model: nn.Module, inputs: torch.Tensor) -> tuple[list[torch.Tensor], dict[str, torch.Tensor], int]:
    """Return the gradients of one batch, the buffers after it, and the bytes kept for the way back."""
    torch.manual_seed(1)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(inputs).square().sum()
    loss.backward()
    return [item.grad for item in model.parameters()], dict(model.named_buffers()), sum(kept.values())


@pytest.mark.parametrize(
    "make, inputs", [(transformer, torch.arange(32).reshape(4, 8) % 11), (residual, torch.randn(64, 8))]
)
def test_the_numbers_stay_and_less_is_kept(make: Any, inputs: torch.Tensor) -> None:
    """Gradients with dropout, and running statistics of batch norms, have the same bits."""
    plain, sparing = make(), make()
    assert recompute_activations(sparing) == 3
    grads, buffers, kept = step(plain, inputs)
    again, buffers_again, kept_again = step(sparing, inputs)

    for ours, theirs in zip(again, grads, strict=True):
        assert torch.equal(ours, theirs)
    assert all(torch.equal(buffers_again[name], value) for name, value in buffers.items())
    assert sparing.state_dict().keys() == plain.state_dict().keys()
    assert kept_again < kept / 2


def test_a_model_that_does_it_itself_is_asked_to() -> None:
    """As those of Hugging Face are."""

    class Own(nn.Module):
        asked = 0

        def gradient_checkpointing_enable(self) -> None:
            self.asked += 1

    model = Own()
    assert recompute_activations(model) == 1
    assert model.asked == 1


def test_a_run_switches_it_on(tmp_path: Path) -> None:
    """A run file's switch gives the same weights; a model without blocks is refused where the switch is set."""
    data = {"type": "characters", "path": str(Path(tmp_path, "text.txt")), "window": 16}
    Path(data["path"]).write_text("the quick brown fox jumps over the lazy dog. " * 30)
    model = {"type": "transformer", "d_model": 16, "num_layers": 2, "num_heads": 2, "d_ff": 32, "max_seq_len": 16,
             "hidden_dims": "@unset", "dropout": 0.1}  # fmt: skip
    loss = {"type": "language_modeling", "shift": False}
    ends = []
    for switch in (False, True):
        training = {"max_epochs": "@unset", "max_steps": 4, "gradient_checkpointing": switch, "test": False}
        parts = {"data": data, "model": model, "loss": loss, "metrics": {"accuracy": "@unset"}}
        outcome = run(small(tmp_path / str(switch), **parts, training=training)).check()
        ends.append({name: value for name, value in outcome.metrics.items() if name != "samples_per_second"})

    assert ends[0] == ends[1]
    with pytest.raises(ConfigError, match=r"training\.gradient_checkpointing: the model has no nn.ModuleList"):
        run(small(tmp_path, training={"gradient_checkpointing": True}))
