"""Training with physics terms whose factors follow a schedule and an adaptive balance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal, final

import torch
from torch import Tensor

from dovetail import AtLeast, Batch, LossResult, ModelOutput, Run, StandardTrainer

#: The loss's factors ``lambda_NAME``, and the names of its parts.
TERMS: Final = {"freq": "frequency", "sommerfeld": "sommerfeld", "temporal": "temporal"}
_SMOOTHING: Final = 0.9  # of the exponential moving average of a balance over epochs
_RATIO: Final = (0.1, 10.0)  # limits of a balance
_STEEPNESS: Final = 5.0  # of the exponential schedule

Schedule = Literal["constant", "linear", "cosine", "exponential"]


def ramp(progress: float, schedule: Schedule) -> float:
    """Return the fraction of the final factors at ``progress`` of the run; both are from 0 to 1."""
    match schedule:
        case "constant":
            return 1.0
        case "linear":
            return progress
        case "cosine":
            return (1 - math.cos(math.pi * progress)) / 2
        case "exponential":
            return math.expm1(_STEEPNESS * progress) / math.expm1(_STEEPNESS)


@final
class PhysicsInformedTrainer(StandardTrainer):
    """Set the factors of the loss `signals.physical_constraint` at the start of every epoch.

    A factor is its final value times the schedule and, with ``adaptive_lambda``, times a balance. The balance is a
    moving average, between 0.1 and 10, of the ratio that would make the term as strong as the classification;
    ``balance`` selects how strength is measured. Balances and the history of factors are in the checkpoint. Validation
    and test use the final factors without balance, so that losses of all epochs can be compared.

    Args:
        lambda_freq: final factor of the frequency consistency; by default the loss's own, 1.0 if it is not set either.
        lambda_sommerfeld: final factor of the Sommerfeld consistency; by default the loss's own, or 0.5.
        lambda_temporal: final factor of the temporal smoothness; by default the loss's own, or 0.1.
        adaptive_lambda: whether to balance the terms.
        lambda_schedule: ``constant``, or a rise from 0 to 1 over the run: ``linear``, ``cosine``, ``exponential``.
        balance: ``loss_ratio`` compares the terms' means over the last epoch, at no cost; ``gradient`` compares the
            norms of their gradients on the first batch of an epoch, which costs a few extra passes.

    Source:
        Balancing by gradients: Wang, Teng and Perdikaris, Understanding and mitigating gradient flow pathologies in
        physics-informed neural networks, SIAM Journal on Scientific Computing 43 (2021), algorithm 1, with norms
        instead of maximum and mean.
    """

    #: The sums of the terms in the current epoch are over a process's own batches.
    state_per_process: ClassVar[bool] = True

    def __init__(
        self,
        *,
        lambda_freq: Annotated[float | None, AtLeast(0)] = None,
        lambda_sommerfeld: Annotated[float | None, AtLeast(0)] = None,
        lambda_temporal: Annotated[float | None, AtLeast(0)] = None,
        adaptive_lambda: bool = True,
        lambda_schedule: Schedule = "linear",
        balance: Literal["loss_ratio", "gradient"] = "loss_ratio",
    ) -> None:
        self._configured = {"freq": lambda_freq, "sommerfeld": lambda_sommerfeld, "temporal": lambda_temporal}
        self._final: dict[str, float] = {}
        self._adaptive, self._schedule, self._rule = adaptive_lambda, lambda_schedule, balance
        self._balance = dict.fromkeys(TERMS, 1.0)
        self._sums: dict[str, Tensor | float] = {}
        #: The factors of each epoch.
        self.history: list[dict[str, float]] = []

    def dovetail_run_start(self, run: Run) -> None:
        """Raise an alert if the loss has no factors to set."""
        self._read_factors(run)
        if not any(hasattr(run.parts.loss, f"lambda_{name}") for name in TERMS):
            run.alert(
                "physics",
                f"loss '{run.config.loss.name}' has no factor lambda_freq, lambda_sommerfeld or lambda_temporal, so "
                'signals.physics_informed has no effect; set loss.type = "signals.physical_constraint"',
                cooldown=math.inf,
            )

    def batches(self, run: Run) -> Iterable[Batch]:
        """Return the batches of the epoch, after setting its factors."""
        self._read_factors(run)
        found = super().batches(run)
        if run.state.batch:  # resumed within an epoch, whose factors are in the history
            self._set_factors(run, self.history[-1])
            return found
        if self._adaptive and self._rule == "loss_ratio":
            self._balance_losses(run)
        if self._adaptive and self._rule == "gradient":
            return self._balanced_by_gradients(run, found)
        self._start_epoch(run)
        return found

    def compute_loss(self, run: Run, batch: Batch) -> LossResult:
        """Return the loss, and add its terms to the epoch's sums on the device."""
        result = super().compute_loss(run, batch)
        for name in ("classification", *TERMS.values()):
            if name in result.parts:
                self._sums[name] = self._sums.get(name, 0.0) + result.parts[name].detach()
        return result

    def evaluation_step(self, run: Run, batch: Batch) -> tuple[ModelOutput, LossResult]:
        """Return the outputs and the loss with the final factors, so that epochs can be compared."""
        self._read_factors(run)
        self._set_factors(run, self._final)
        try:
            return super().evaluation_step(run, batch)
        finally:
            if self.history:
                self._set_factors(run, self.history[-1])

    def state_dict(self) -> dict[str, Any]:
        """Return the balances, the history of factors, and the terms' sums in the current epoch."""
        return {"balance": dict(self._balance), "history": list(self.history), "sums": self._sums_as_floats()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state."""
        self._balance, self.history = dict(state["balance"]), list(state["history"])
        self._sums = dict(state["sums"])

    def merge(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Restore the states of several processes: balances and history are equal in all, sums are added."""
        self.load_state_dict({**states[0], "sums": _sum_by_name(state["sums"] for state in states)})

    def reset(self) -> None:
        """Clear the terms' sums in the current epoch."""
        self._sums = {}

    def _sums_as_floats(self) -> dict[str, float]:
        return {name: float(value) for name, value in self._sums.items()}

    def _read_factors(self, run: Run) -> None:
        """Take the final factors that are not set here from the loss, before changing any of them."""
        if not self._final:
            self._final = {
                name: float(getattr(run.parts.loss, f"lambda_{name}", 0.0) if configured is None else configured)
                for name, configured in self._configured.items()
            }

    def _start_epoch(self, run: Run) -> None:
        """Set the epoch's factors, by the fraction of the run that is complete at the end of the epoch."""
        if run.group.size > 1:  # each process measured other gradients, but all need the same factors
            found = run.group.all_gather(self._balance)
            self._balance = {name: sum(balances[name] for balances in found) / len(found) for name in TERMS}
        fraction = ramp(min(1.0, run.state.epoch / max(1, run.plan.max_epochs)), self._schedule)
        factors = {name: fraction * self._final[name] * self._balance[name] for name in TERMS}
        self.history.append(factors)
        self._sums = {}
        self._set_factors(run, factors)

    def _set_factors(self, run: Run, factors: Mapping[str, float]) -> None:
        loss: Any = run.parts.loss
        for name, factor in factors.items():
            if hasattr(loss, f"lambda_{name}"):
                setattr(loss, f"lambda_{name}", factor)

    def _update_balance(self, name: str, ratio: float) -> None:
        """Move a balance towards a ratio, if the ratio is finite and positive."""
        if math.isfinite(ratio) and ratio > 0:
            low, high = _RATIO
            self._balance[name] = _SMOOTHING * self._balance[name] + (1 - _SMOOTHING) * min(high, max(low, ratio))

    def _balance_losses(self, run: Run) -> None:
        """Update the balances from the terms' means over the last epoch, in all processes."""
        sums = _sum_by_name(run.group.all_gather(self._sums_as_floats()))
        for name, part in TERMS.items():
            if sums.get(part, 0.0) > 0:
                self._update_balance(name, sums["classification"] / sums[part])

    def _balanced_by_gradients(self, run: Run, batches: Iterable[Batch]) -> Iterator[Batch]:
        for number, batch in enumerate(batches):
            if not number:
                self._balance_gradients(run, self.prepare_batch(run, batch))
                self._start_epoch(run)
            yield batch

    def _balance_gradients(self, run: Run, batch: Batch) -> None:
        """Update the balances from each term's gradient, the total gradient's difference with and without it."""
        parameters = [parameter for parameter in run.parts.model.parameters() if parameter.requires_grad]
        with torch.random.fork_rng(devices=[run.device] if run.device.type == "cuda" else []):
            plain = self._gradient(run, batch, parameters, None)
            for name, factor in self._final.items():
                if factor > 0:
                    term = self._gradient(run, batch, parameters, name) - plain
                    self._update_balance(name, float(plain.norm() / term.norm()))

    def _gradient(self, run: Run, batch: Batch, parameters: Sequence[Tensor], only: str | None) -> Tensor:
        self._set_factors(run, {name: 1.0 if name == only else 0.0 for name in TERMS})
        torch.manual_seed(run.state.step)  # equal dropout with and without the term
        total = run.criterion(run.forward(batch), batch).total
        found = torch.autograd.grad(total, parameters, materialize_grads=True)
        return torch.cat([gradient.flatten() for gradient in found])


def _sum_by_name(sums: Iterable[Mapping[str, float]]) -> dict[str, float]:
    added: dict[str, float] = {}
    for totals in sums:
        for name, value in totals.items():
            added[name] = added.get(name, 0.0) + value
    return added
