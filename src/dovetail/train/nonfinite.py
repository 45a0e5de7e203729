"""What to do when a loss or a gradient is NaN or infinite: end the run, leave out the update, or go back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dovetail.checkpoint.saver import join_first, nonfinite_weights
from dovetail.checkpoint.sharded import local_shard
from dovetail.data.loader import Loader
from dovetail.train.errors import NonFiniteLossError
from dovetail.train.standard import StandardTrainer
from dovetail.train.together import read_first, shared_out

if TYPE_CHECKING:
    from dovetail.train.context import Run
    from dovetail.train.tape import Faults


def _gives_its_batches(trainer: object) -> bool:
    """Say whether a trainer trains on the loader's batches, so that their numbers tell which samples those were."""
    return getattr(type(trainer), "batches", None) is StandardTrainer.batches


class Recovery:
    """Does what ``training.nan_policy`` says about losses and gradients that are no numbers.

    It hears of them an update late, since nothing waits for the device. By then ``"skip"`` has left out the update, on
    the device; ``"stop"`` and ``"roll_back"`` leave it to the last checkpoint.
    """

    def __init__(self, run: Run) -> None:
        """Act for ``run``."""
        self._run = run

    def __call__(self, faults: Faults) -> None:
        """Act on ``faults``. Several processes call this together, each with its own.

        Raises:
            NonFiniteLossError: the policy is to stop, or nothing else helps.
        """
        run = self._run
        several = run.group.gather(faults)
        faults = several[0].and_those(several[1:])
        if run.parts.scaler is not None and not faults.batches:
            return  # half precision recovers from gradients that are too large by a smaller scale
        if not faults:
            return
        policy = run.config.training.nan_policy
        own = several[run.group.rank]
        # All do the same about it. Who says what it was is one whose own loss it is: gradients are those of all.
        said = run.group.gather((bool(own.batches), self._found(own) if own else ""))
        what = next((one for mine, one in said if mine), said[0][1])
        if policy == "stop":
            raise self._refusal(f"{what}, so these weights are not saved{self._last_sound()}")
        if policy == "skip":
            self._skip(what, faults)
        else:
            self._roll_back(what)

    def look_at_weights(self) -> None:
        """Act on weights that are NaN or infinite although no loss was, since nothing measured the gradients.

        All processes call it together. It costs a twentieth of saving the weights.

        Raises:
            NonFiniteLossError: the policy is not to roll back, or nothing else helps.
        """
        run = self._run
        spoiled = self._unsound()
        if not spoiled:
            return
        what = f"{join_first(spoiled)} became NaN or infinite by update {run.state.step} ({self._place()})"
        if run.config.training.nan_policy == "roll_back":
            self._roll_back(what)
        else:
            raise self._refusal(f"{what}, so these weights are not saved{self._last_sound()}")

    # --- the policies -----------------------------------------------------------------------------------------------

    def _skip(self, what: str, faults: Faults) -> None:
        run = self._run
        spoiled = self._unsound()
        if spoiled:
            # Skipping cannot heal them: a batch norm, say, has taken the batch in while it ran forward.
            raise self._refusal(
                f"{what}, and {join_first(spoiled)} in the model now hold NaN or infinite values, which skipping the "
                'update cannot undo. training.nan_policy = "roll_back" can'
            )
        if run.gradients.norm is None:
            raise self._refusal(f"{what}, and an update whose gradients nothing measures cannot be left out")
        done = "the update was left out" if faults.updates else "its gradients are finite, so the update was made"
        run.alert("nan_skipped", f"{what}; {done}")

    def _roll_back(self, what: str) -> None:
        run, limit = self._run, self._run.config.training.max_roll_backs
        if run.state.roll_backs >= limit:
            raise self._refusal(f"{what}. The run has gone back {limit} times, which is training.max_roll_backs")
        found = read_first(run, [one.path for one in reversed(run.checkpoints.list())])
        if found is None:
            raise self._refusal(f"{what}, and there is no sound checkpoint yet to go back to")
        path, saved = found
        self._restore(saved)
        run.state.roll_backs += 1
        step = saved["training"]["state"]["step"]
        run.alert(
            "rolled_back",
            f"{what}; back to the weights of update {step}, time {run.state.roll_backs} of {limit}, and on "
            "with the batches that follow",
            checkpoint=path.name,
            roll_backs=run.state.roll_backs,
        )

    def _restore(self, saved: Mapping[str, Any]) -> None:
        """Take the weights, and what the optimizer knows, from a checkpoint.

        Where training is, and so the data to come and the learning rate, stays: the same batches once more would give
        the same end.
        """
        run, parts = self._run, self._run.parts
        run.gradients.clear()
        for name, part in (("model", parts.model), ("loss", parts.loss), ("scaler", parts.scaler), ("ema", parts.ema)):
            if name in saved and part is not None:
                part.load_state_dict(shared_out(run, part, saved[name]))
        if saved["training"]["state"]["phase"] == run.state.phase:
            _load_optimizer(parts.optimizer, shared_out(run, parts.optimizer, saved["optimizer"]))
        else:
            parts.optimizer.state.clear()  # what is saved is another one's

    # --- what happened ------------------------------------------------------------------------------------------------

    def _found(self, faults: Faults) -> str:
        """Say what is no number, where, and whose fault it may be."""
        run, state = self._run, self._run.state
        known = [state.batch - 1 - ago for ago in faults.batches] or self._batches_of(faults.updates)
        numbers = sorted({one for one in known if one >= 0})
        said = [f"the loss or its gradient became NaN or infinite by update {state.step} ({self._place(numbers)})"]
        loader = run.parts.loaders.train
        if numbers and _gives_its_batches(run.parts.trainer) and isinstance(loader, Loader):
            said += _in_data(loader, state.epoch, numbers)
        if 0 in faults.updates or 0 in faults.batches:  # those of the last update are still there
            said += self._in_gradients()
        return "; ".join(said)

    def _place(self, numbers: Sequence[int] = ()) -> str:
        """Say which epoch it is, and which of its batches, from 0, are meant."""
        batches = (
            f", batch{'es' if len(numbers) > 1 else ''} {join_first(one + 1 for one in numbers)}" if numbers else ""
        )
        return f"epoch {self._run.state.epoch}{batches}"

    def _unsound(self) -> list[str]:
        modules = self._run.parts.modules()
        own = [
            name if path == "model" else f"{path}.{name}"
            for path, one in modules.items()
            for name in nonfinite_weights(one)
        ]
        return [*dict.fromkeys(name for names in self._run.group.gather(own) for name in names)]

    def _last_sound(self) -> str:
        """Say where the run can be resumed."""
        newest = next(reversed(self._run.checkpoints.list()), None)
        return f"; the checkpoint of update {newest.step} is the last sound one" if newest else ""

    def _batches_of(self, updates: Sequence[int]) -> list[int]:
        """Return the batches of updates so many ago, among those of the epoch."""
        batches, each = self._run.state.batch, self._run.config.training.accumulate
        last = batches % each or each
        ends = [batches if ago == 0 else batches - last - (ago - 1) * each for ago in updates]
        return [
            one for ago, end in zip(updates, ends, strict=True) for one in range(end - (each if ago else last), end)
        ]

    def _in_gradients(self) -> Iterable[str]:
        gradients, names = self._run.gradients, self._run.parts.parameter_names()
        parameters = gradients.measured()
        norms = gradients.norms
        if norms is None or len(norms) != len(parameters):  # nothing clips, so they lie as they were computed
            grads = [local_shard(one.grad) for one in parameters if one.grad is not None]
            norms = torch.stack([one.norm() for one in grads] or [torch.zeros(0)])
        broken = [names[id(one)] for one, fine in zip(parameters, norms.isfinite().tolist(), strict=True) if not fine]
        if broken:
            yield f"the gradients of {join_first(broken)} are not finite"

    def _refusal(self, what: str) -> NonFiniteLossError:
        training = self._run.config.training
        advice = ["a lower optimizer.lr"]
        if training.max_grad_norm is None:
            advice.append("training.max_grad_norm = 1.0")
        if training.precision == "fp16":
            advice.append('training.precision = "bf16"')
        if training.nan_policy == "stop":
            advice.append('training.nan_policy = "skip" or "roll_back"')
        return NonFiniteLossError(f"{what}. Try {', '.join(advice)}, and look for NaN or huge values in the data")


def _in_data(loader: Loader, epoch: int, numbers: Sequence[int]) -> Iterable[str]:
    """Say which samples the batches were made of, and which of those hold what is no number."""
    indices = [int(index) for number in numbers for index in loader.indices(epoch, number)]
    yield f"training samples {join_first(indices)}"
    broken = [index for number in numbers for index in _spoiled(loader, epoch, number)]
    if broken:
        many = len(broken) > 1
        yield f"sample{'s' * many} {join_first(broken)} hold{'s' * (not many)} NaN or infinite values"


def _spoiled(loader: Loader, epoch: int, number: int) -> list[int]:
    indices = loader.indices(epoch, number)
    rows = torch.zeros(len(indices), dtype=torch.bool)
    batch: Mapping[str, Any] = loader.reread(epoch, indices, whole=False)
    for key in ("inputs", "targets"):
        values = batch.get(key)
        for value in values.values() if isinstance(values, Mapping) else [values]:
            if isinstance(value, Tensor) and value.is_floating_point() and len(value) == len(rows):
                rows |= ~value.isfinite().flatten(1).all(1) if value.ndim > 1 else ~value.isfinite()
    return [int(index) for index, spoiled in zip(indices, rows.tolist(), strict=True) if spoiled]


def _load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Give ``optimizer`` the saved moments, but leave it the learning rate, and whatever else a schedule moves."""
    now = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(saved)
    for group, own in zip(optimizer.param_groups, now, strict=True):
        group.update(own)
