"""``training.nan_policy``: what happens after a non-finite loss or gradient: stop, skip the update, or roll back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dovetail.checkpoint.saver import join_first, nonfinite_weights
from dovetail.checkpoint.sharded import local_shard
from dovetail.data.loader import Loader
from dovetail.train.checkpoints.sharded import read_first, sharded_like
from dovetail.train.errors import NonFiniteLossError

if TYPE_CHECKING:
    from dovetail.train.context import Run
    from dovetail.train.loss_log import Faults, LossLog
    from dovetail.train.trainer import StandardTrainer


class NanPolicy:
    """Applies ``training.nan_policy`` to non-finite losses, gradients and weights.

    It acts one update late, since nothing waits for the device. By then ``"skip"`` has already skipped the update, on
    the device; ``"stop"`` and ``"roll_back"`` rely on the last checkpoint.
    """

    def __init__(self, trainer: StandardTrainer, run: Run, losses: LossLog) -> None:
        """Apply the policy of ``run`` to the losses and gradient norms in ``losses``."""
        self._trainer, self._run, self._losses = trainer, run, losses

    def check(self) -> None:
        """Wait for the device, and act on losses and gradients that were non-finite. A collective.

        Raises:
            NonFiniteLossError: the policy is to stop, or cannot be applied.
        """
        run = self._run
        several = run.group.all_gather(self._losses.take_faults())
        faults = several[0].merged(several[1:])
        if run.parts.scaler is not None and not faults.batches:
            return  # fp16 recovers from gradients that overflow with a smaller loss scale
        if not faults:
            return
        policy = run.config.training.nan_policy
        own = several[run.group.rank]
        # A process whose own loss was non-finite describes it best: gradients are those of all.
        descriptions = run.group.all_gather((bool(own.batches), self._describe(own) if own else ""))
        what = next((text for is_own, text in descriptions if is_own), descriptions[0][1])
        if policy == "stop":
            raise self._error(f"{what}, so these weights are not saved{self._last_sound()}")
        if policy == "skip":
            self._skip(what, faults)
        else:
            self._roll_back(what)

    def check_weights(self) -> None:
        """Do as :meth:`check`, and act on weights that are non-finite although no loss was.

        That happens if nothing measured the gradients. A collective; it costs a twentieth of saving the weights.

        Raises:
            NonFiniteLossError: the policy is not to roll back, or rolling back does not help.
        """
        self.check()
        run = self._run
        names = self._unsound()
        if not names:
            return
        what = f"{join_first(names)} became NaN or infinite by update {run.state.step} ({self._place()})"
        if run.config.training.nan_policy == "roll_back":
            self._roll_back(what)
        else:
            raise self._error(f"{what}, so these weights are not saved{self._last_sound()}")

    # --- the policies -----------------------------------------------------------------------------------------------

    def _skip(self, what: str, faults: Faults) -> None:
        run = self._run
        names = self._unsound()
        if names:
            # Skipping does not repair them: a batch norm, for instance, updates its statistics in the forward pass.
            raise self._error(
                f"{what}, and {join_first(names)} in the model now hold NaN or infinite values, which skipping "
                'the update cannot undo; training.nan_policy = "roll_back" can'
            )
        if run.gradients.norm is None:
            raise self._error(f"{what}, and this update cannot be skipped because no gradient norm was computed")
        done = "the update was skipped" if faults.updates else "its gradients are finite, so the update was made"
        run.alert("nan_skipped", f"{what}; {done}")

    def _roll_back(self, what: str) -> None:
        run, limit = self._run, self._run.config.training.max_roll_backs
        if run.state.roll_backs >= limit:
            raise self._error(f"{what}. The run has rolled back {limit} times, the limit of training.max_roll_backs")
        found = read_first(run, [checkpoint.path for checkpoint in reversed(run.checkpoints.list())])
        if found is None:
            raise self._error(f"{what}, and there is no sound checkpoint yet to roll back to")
        path, saved = found
        self._restore(saved)
        run.state.roll_backs += 1
        step = saved["training"]["state"]["step"]
        run.alert(
            "rolled_back",
            f"{what}; rolled back to the weights of update {step} (roll-back {run.state.roll_backs} of {limit}), "
            "continuing with the next batches",
            checkpoint=path.name,
            roll_backs=run.state.roll_backs,
        )

    def _restore(self, saved: Mapping[str, Any]) -> None:
        """Restore the weights and the optimizer's state from a checkpoint.

        The position in the data and the learning rate stay: repeating the same batches would end the same way.
        """
        run, parts = self._run, self._run.parts
        run.gradients.clear()
        for name, part in (("model", parts.model), ("loss", parts.loss), ("scaler", parts.scaler), ("ema", parts.ema)):
            if name in saved and part is not None:
                part.load_state_dict(sharded_like(run, part, saved[name]))
        if saved["training"]["state"]["phase"] == run.state.phase:
            _load_optimizer(parts.optimizer, sharded_like(run, parts.optimizer, saved["optimizer"]))
        else:
            parts.optimizer.state.clear()  # the saved state belongs to another phase's optimizer

    # --- what happened ------------------------------------------------------------------------------------------------

    def _describe(self, faults: Faults) -> str:
        """Return what is non-finite, where, and the likely cause."""
        run, state = self._run, self._run.state
        known = [state.batch - 1 - ago for ago in faults.batches] or self._batches_of(faults.updates)
        numbers = sorted({number for number in known if number >= 0})
        found = [f"the loss or its gradient became NaN or infinite by update {state.step} ({self._place(numbers)})"]
        loader = run.parts.loaders.train
        # Only the loader's own batches tell which samples they hold.
        if numbers and not self._trainer.overrides("batches") and isinstance(loader, Loader):
            found += _in_data(loader, state.epoch, numbers)
        if 0 in faults.updates or 0 in faults.batches:  # the gradients of the last update still exist
            found += self._in_gradients()
        return "; ".join(found)

    def _place(self, numbers: Sequence[int] = ()) -> str:
        """Return the epoch, and the batches with these indices in it, in words."""
        plural = "es" if len(numbers) > 1 else ""
        batches = f", batch{plural} {join_first(number + 1 for number in numbers)}" if numbers else ""
        return f"epoch {self._run.state.epoch}{batches}"

    def _unsound(self) -> list[str]:
        own = [
            name if path == "model" else f"{path}.{name}"
            for path, module in self._run.parts.modules().items()
            for name in nonfinite_weights(module)
        ]
        return [*dict.fromkeys(name for names in self._run.group.all_gather(own) for name in names)]

    def _last_sound(self) -> str:
        """Return where the run can be resumed, in words."""
        newest = next(reversed(self._run.checkpoints.list()), None)
        return f"; the checkpoint of update {newest.step} is the last sound one" if newest else ""

    def _batches_of(self, updates: Sequence[int]) -> list[int]:
        """Return the indices in the epoch of the batches of updates that are so many ago."""
        batches, each = self._run.state.batch, self._run.config.training.accumulate
        last = batches % each or each
        ends = [batches if ago == 0 else batches - last - (ago - 1) * each for ago in updates]
        return [
            number
            for ago, end in zip(updates, ends, strict=True)
            for number in range(end - (each if ago else last), end)
        ]

    def _in_gradients(self) -> Iterable[str]:
        gradients, names = self._run.gradients, self._run.parts.parameter_names()
        parameters = gradients.measured()
        norms = gradients.norms
        if norms is None or len(norms) != len(parameters):  # nothing clips, so the gradients are unchanged
            grads = [local_shard(parameter.grad) for parameter in parameters if parameter.grad is not None]
            norms = torch.stack([grad.norm() for grad in grads] or [torch.zeros(0)])
        finite = norms.isfinite().tolist()
        broken = [names[id(parameter)] for parameter, fine in zip(parameters, finite, strict=True) if not fine]
        if broken:
            yield f"the gradients of {join_first(broken)} are not finite"

    def _error(self, what: str) -> NonFiniteLossError:
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
    """Yield the samples of the batches, and those with NaN or infinite values, in words."""
    indices = [int(index) for number in numbers for index in loader.indices(epoch, number)]
    yield f"training samples {join_first(indices)}"
    broken = [index for number in numbers for index in _broken_samples(loader, epoch, number)]
    if broken:
        many = len(broken) > 1
        yield f"sample{'s' * many} {join_first(broken)} hold{'s' * (not many)} NaN or infinite values"


def _broken_samples(loader: Loader, epoch: int, number: int) -> list[int]:
    indices = loader.indices(epoch, number)
    rows = torch.zeros(len(indices), dtype=torch.bool)
    batch: Mapping[str, Any] = loader.reread(epoch, indices, whole=False)
    for key in ("inputs", "targets"):
        values = batch.get(key)
        for value in values.values() if isinstance(values, Mapping) else [values]:
            if isinstance(value, Tensor) and value.is_floating_point() and len(value) == len(rows):
                rows |= ~value.isfinite().flatten(1).all(1) if value.ndim > 1 else ~value.isfinite()
    return [int(index) for index, broken in zip(indices, rows.tolist(), strict=True) if broken]


def _load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Load the saved moments, but keep the current learning rate and whatever else a schedule sets."""
    now = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(saved)
    for group, own in zip(optimizer.param_groups, now, strict=True):
        group.update(own)
