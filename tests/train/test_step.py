"""One update: accumulation, optimizers that evaluate the loss again, and no reads from the device."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dovetail.losses.adapt import as_loss
from dovetail.losses.result import LossResult
from dovetail.main import run
from dovetail.models.output import ModelOutput
from dovetail.train.gradients import Gradients
from dovetail.train.plan import Plan
from dovetail.train.trainer import StandardTrainer
from small_runs import Keep, small


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    weighted=st.booleans(),
    ignored=st.booleans(),
    seed=st.integers(0, 100),
)
def test_accumulated_gradients_are_those_of_one_large_batch(sizes, weighted, ignored, seed):
    """Ragged batches, class weights and ignored labels average to the exact gradient of all samples."""
    torch.manual_seed(seed)
    model = nn.Linear(3, 4, dtype=torch.float64)
    loss = as_loss(nn.CrossEntropyLoss(weight=torch.rand(4, dtype=torch.float64) + 0.1 if weighted else None))
    inputs, targets = torch.randn(sum(sizes), 3, dtype=torch.float64), torch.randint(0, 4, (sum(sizes),))
    if ignored:
        targets[torch.rand(len(targets)) < 0.3] = -100  # in some batches, all of them
    gradients = Gradients(torch.optim.SGD(model.parameters()))

    results = []
    for part, labels in zip(inputs.split(sizes), targets.split(sizes), strict=True):
        result = loss(ModelOutput(model(part)), {"targets": labels})
        gradients.backward(result.total * result.weight)
        results.append(LossResult(result.total.detach(), {}, result.weight))
    mean = gradients.average(results)
    accumulated = [parameter.grad for parameter in model.parameters()]
    model.zero_grad()
    whole = loss(ModelOutput(model(inputs)), {"targets": targets})
    whole.total.backward()

    torch.testing.assert_close(mean, whole.total.detach())
    for ours, theirs in zip(accumulated, model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs.grad)


def test_the_last_update_of_an_epoch_may_have_fewer_batches(tmp_path):
    """Seven batches, three per update, are three updates; every sample counts once."""
    keep = Keep()
    run(small(tmp_path, training={"max_epochs": 1, "accumulate": 3}, callbacks={"keep": keep})).check()

    assert keep.run.plan == Plan(max_epochs=1, steps_per_epoch=3, total_steps=3)
    assert (keep.run.state.step, keep.run.state.batch, keep.run.state.samples_seen) == (3, 7, 100)


def test_accumulating_an_epoch_equals_one_large_batch(tmp_path):
    """Seven ragged batches give the weights of one batch of all 100 samples, up to rounding."""
    sgd = {"type": "sgd", "lr": 0.1, "momentum": 0.0, "nesterov": False}
    first, second = Keep(), Keep()
    shared = {"optimizer": sgd, "metrics": {}}
    run(small(tmp_path / "a", **shared, training={"max_epochs": 2, "accumulate": 7}, callbacks={"keep": first})).check()
    run(small(tmp_path / "b", **shared, loader={"batch_size": 100}, callbacks={"keep": second})).check()

    assert first.run.state.step == second.run.state.step == 2
    for ours, theirs in zip(first.run.parts.model.parameters(), second.run.parts.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_an_optimizer_may_evaluate_the_loss_again(tmp_path):
    """L-BFGS needs only one line in ``update``; the first loss is logged."""

    class ClosureTrainer(StandardTrainer):
        def update(self, run: Any, closure: Any) -> torch.Tensor:
            loss: torch.Tensor = run.parts.optimizer.step(closure)
            return loss

    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=5)
    keep = Keep()
    config = small(
        tmp_path,
        model=model,
        optimizer=optimizer,
        trainer=ClosureTrainer(),
        loader={"batch_size": 100},
        callbacks={"keep": keep},
    )
    outcome = run(config).check()

    assert keep.run.state.samples_seen == 200
    assert outcome.metrics["train_loss"] < 0.1  # in two updates, thanks to the evaluations inside each
    assert outcome.metrics["val_accuracy"] > 0.9


def test_a_step_reads_nothing_back_and_calls_no_hook(tmp_path, monkeypatch):
    """Between two logs, no value is read from the device (here the CPU), and no part is called."""
    monkeypatch.setattr("dovetail.train.loss_log.HOSTS", frozenset())

    def plain(outputs: ModelOutput, batch: Any) -> LossResult:
        total = nn.functional.cross_entropy(outputs.logits, batch["targets"])
        return LossResult(total, {"double": total * 2}, float(len(batch["targets"])))

    reads: list[str] = []
    watching = False
    for name in ("item", "tolist", "__float__", "__bool__", "cpu"):
        real = getattr(torch.Tensor, name)

        def spy(self: Any, *args: Any, _name: str = name, _real: Any = real) -> Any:
            if watching:
                reads.append(_name)
            return _real(self, *args)

        monkeypatch.setattr(torch.Tensor, name, spy)

    class Watched(StandardTrainer):
        def batches(self, run: Any) -> Any:
            nonlocal watching
            for number, batch in enumerate(super().batches(run)):
                watching = number > 1  # after the trial encoding of a checkpoint
                yield batch
            watching = False

    run(small(tmp_path, trainer=Watched(), loss=plain, training={"max_epochs": 1, "max_grad_norm": None})).check()

    assert reads == []
