"""Errors of a run, and the advice in their messages."""

from __future__ import annotations

import os
import re
import signal

import pytest
import torch
from torch import nn

from dovetail.data import Splits
from dovetail.data.errors import LoaderWorkerError
from dovetail.main import run
from dovetail.train.errors import OutOfMemoryError, TrainingError, known_error
from small_runs import Keep, small


def test_an_out_of_memory_error_says_what_to_change(tmp_path):
    """The message has the batch size and the settings that would help; the last checkpoint is intact."""

    class Hungry(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.calls = nn.Linear(4, 3), 0

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            self.calls += self.training
            if self.calls == 9:
                torch.empty(1 << 52)
            logits: torch.Tensor = self.layer(inputs)
            return logits

    keep = Keep()
    outcome = run(small(tmp_path, model=Hungry(), callbacks={"keep": keep}))

    assert isinstance(outcome.error, OutOfMemoryError)
    assert "loader.batch_size = 16" in outcome.reason
    assert "loader.batch_size = 8 with training.accumulate = 2" in outcome.reason
    assert 'training.precision = "bf16"' in outcome.reason
    assert keep.run.checkpoints.latest().step == 7


class Deadly:
    """A dataset that kills the loader worker at one sample, as a machine without memory does."""

    num_classes = 3
    input_shape = (4,)

    def __len__(self) -> int:
        """Return the number of samples."""
        return 64

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Return a sample, or kill the worker."""
        if index == 60 and torch.utils.data.get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.zeros(4), index % 3


@pytest.mark.slow
def test_a_killed_loader_worker_is_reported(tmp_path):
    """The run does not hang, and the message says what to change."""
    outcome = run(small(tmp_path, data=Splits(Deadly()), loader={"num_workers": 2}))

    assert isinstance(outcome.error, LoaderWorkerError)
    assert "loader.num_workers" in outcome.reason


@pytest.mark.parametrize(
    "twice,expected", [(False, r"parameters 2 3 did not, counted from 0"), (True, r"mark a variable ready only once")]
)
def test_torchs_errors_about_unused_parameters_are_explained(tmp_path, twice, expected):
    """Torch names an argument of its own class. A layer is in no loss, or in two."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        layers = nn.ModuleDict({"used": nn.Linear(4, 3), "other": nn.Linear(4, 3)})

        class Both(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layers = layers

            def forward(self, inputs):
                return self.layers["used"](inputs).sum() + (self.layers["other"](inputs).sum() if twice else 0)

        together = nn.parallel.DistributedDataParallel(Both())

        def train() -> None:
            for _ in range(2):
                loss = together(torch.ones(2, 4))
                if twice:
                    layers["other"](torch.ones(2, 4)).sum().backward()
                loss.backward()

        with pytest.raises(RuntimeError) as caught:
            train()
    finally:
        torch.distributed.destroy_process_group()

    error = known_error(caught.value, small(tmp_path))
    assert isinstance(error, TrainingError)
    assert "Call requires_grad_(False)" in str(error)
    assert re.search(expected, str(error)), str(error)
