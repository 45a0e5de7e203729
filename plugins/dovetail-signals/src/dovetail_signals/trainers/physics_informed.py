"""Physics that comes in by a schedule, or in balance with what the labels say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal, final

import torch
from torch import Tensor

from dovetail import AtLeast, Batch, LossResult, ModelOutput, Run, StandardTrainer

#: The loss's factors, and the parts in which it reports their terms.
TERMS: Final = {"freq": "frequency", "sommerfeld": "sommerfeld", "temporal": "temporal"}
_SMOOTHING: Final = 0.9  # of a balance from one epoch to the next
_RATIO: Final = (0.1, 10.0)  # a balance never moves a factor further than this
_STEEPNESS: Final = 5.0  # of the exponential schedule

Schedule = Literal["constant", "linear", "cosine", "exponential"]


def ramp(progress: float, schedule: Schedule) -> float:
    """Return which share of its final factor the physics has, after ``progress`` of the run, from 0 to 1."""
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
    """Sets the factors of the loss `signals.physical_constraint` at the beginning of every epoch, and keeps a record.

    A factor is its value here, times the schedule, times a balance where ``adaptive_lambda`` is set: the balance moves,
    smoothed and within 0.1 and 10, towards that which would make the term as strong as the classification, by what
    ``balance`` compares. Factors, balances, and their history are in the checkpoint. Validation and test go by the
    final factors without balance, so that a loss of early epochs and one of late ones can be compared.

    Args:
        lambda_freq: final factor of the frequency consistency; what the loss has been given (1.0 there) unless set.
        lambda_sommerfeld: of the Sommerfeld consistency, likewise (0.5 there).
        lambda_temporal: of the temporal smoothness, likewise (0.1 there).
        adaptive_lambda: whether to balance.
        lambda_schedule: ``constant``, or from 0 to 1 over the run: ``linear``, ``cosine``, ``exponential``.
        balance: ``loss_ratio`` compares the terms' means over the last epoch, which costs nothing; ``gradient`` the
            norms of their gradients at an epoch's first batch, which costs a few passes.

    Source:
        Balancing by gradients: Wang, Teng and Perdikaris, Understanding and mitigating gradient flow pathologies in
        physics-informed neural networks, SIAM Journal on Scientific Computing 43 (2021), algorithm 1, with norms in
        place of a maximum and a mean.
    """

    #: The terms' sums in the epoch under way are those of a process's own batches.
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
        self._asked = {"freq": lambda_freq, "sommerfeld": lambda_sommerfeld, "temporal": lambda_temporal}
        self._final: dict[str, float] = {}
        self._adaptive, self._schedule, self._rule = adaptive_lambda, lambda_schedule, balance
        self._balance = dict.fromkeys(TERMS, 1.0)
        self._sums: dict[str, Tensor | float] = {}
        #: The factors of each epoch.
        self.history: list[dict[str, float]] = []

    def dovetail_run_start(self, run: Run) -> None:
        """Say so where the loss has no factors to set."""
        self._read(run)
        if not any(hasattr(run.parts.loss, f"lambda_{name}") for name in TERMS):
            run.alert(
                "physics",
                f"loss '{run.config.loss.name}' has no factor lambda_freq, lambda_sommerfeld or lambda_temporal, so "
                'this trainer changes nothing; set loss.type = "signals.physical_constraint"',
                cooldown=math.inf,
            )

    def batches(self, run: Run) -> Iterable[Batch]:
        """Return the batches of the epoch, the factors set before the first."""
        self._read(run)
        found = super().batches(run)
        if run.state.batch:  # taken up within an epoch, whose factors are known
            self._set(run, self.history[-1])
            return found
        if self._adaptive and self._rule == "loss_ratio":
            self._balance_losses(run)
        if self._adaptive and self._rule == "gradient":
            return self._balanced_by_gradients(run, found)
        self._begin(run)
        return found

    def compute_loss(self, run: Run, batch: Batch) -> LossResult:
        """Return the loss, its terms remembered on the device."""
        result = super().compute_loss(run, batch)
        for name in ("classification", *TERMS.values()):
            if name in result.parts:
                self._sums[name] = self._sums.get(name, 0.0) + result.parts[name].detach()
        return result

    def evaluation_step(self, run: Run, batch: Batch) -> tuple[ModelOutput, LossResult]:
        """Return the outputs, and the loss with the final factors, so that epochs can be compared."""
        self._read(run)
        self._set(run, self._final)
        try:
            return super().evaluation_step(run, batch)
        finally:
            if self.history:
                self._set(run, self.history[-1])

    def state_dict(self) -> dict[str, Any]:
        """Return the balances, the history, and the terms' sums in the epoch under way."""
        return {"balance": dict(self._balance), "history": list(self.history), "sums": self._numbers()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self._balance, self.history = dict(state["balance"]), list(state["history"])
        self._sums = dict(state["sums"])

    def merge(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Go on from what several processes have saved: balances and history are the same in all, sums add up."""
        self.load_state_dict({**states[0], "sums": _sum_by_name(state["sums"] for state in states)})

    def reset(self) -> None:
        """Forget the terms' sums in the epoch under way."""
        self._sums = {}

    def _numbers(self) -> dict[str, float]:
        return {name: float(value) for name, value in self._sums.items()}

    def _read(self, run: Run) -> None:
        """Read off the loss the factors that are not said here, before any is set."""
        if not self._final:
            self._final = {
                name: float(getattr(run.parts.loss, f"lambda_{name}", 0.0) if asked is None else asked)
                for name, asked in self._asked.items()
            }

    def _begin(self, run: Run) -> None:
        """Set the epoch's factors, by the share of the run that will be over at its end."""
        if run.group.size > 1:  # gradients were those of other batches in each; all must weigh alike
            found = run.group.gather(self._balance)
            self._balance = {name: sum(balances[name] for balances in found) / len(found) for name in TERMS}
        share = ramp(min(1.0, run.state.epoch / max(1, run.plan.max_epochs)), self._schedule)
        factors = {name: share * self._final[name] * self._balance[name] for name in TERMS}
        self.history.append(factors)
        self._sums = {}
        self._set(run, factors)

    def _set(self, run: Run, factors: Mapping[str, float]) -> None:
        loss: Any = run.parts.loss
        for name, factor in factors.items():
            if hasattr(loss, f"lambda_{name}"):
                setattr(loss, f"lambda_{name}", factor)

    def _move(self, name: str, ratio: float) -> None:
        """Move a balance towards a ratio, where it is a number."""
        if math.isfinite(ratio) and ratio > 0:
            low, high = _RATIO
            self._balance[name] = _SMOOTHING * self._balance[name] + (1 - _SMOOTHING) * min(high, max(low, ratio))

    def _balance_losses(self, run: Run) -> None:
        """Compare the terms by what all processes have found of them in their batches of the last epoch."""
        sums = _sum_by_name(run.group.gather(self._numbers()))
        for name, part in TERMS.items():
            if sums.get(part, 0.0) > 0:
                self._move(name, sums["classification"] / sums[part])

    def _balanced_by_gradients(self, run: Run, batches: Iterable[Batch]) -> Iterator[Batch]:
        for number, batch in enumerate(batches):
            if not number:
                self._balance_gradients(run, self.prepare_batch(run, batch))
                self._begin(run)
            yield batch

    def _balance_gradients(self, run: Run, batch: Batch) -> None:
        """Compare the gradient of each term, by which the total's differs with and without it."""
        parameters = [parameter for parameter in run.parts.model.parameters() if parameter.requires_grad]
        with torch.random.fork_rng(devices=[run.device] if run.device.type == "cuda" else []):
            plain = self._gradient(run, batch, parameters, None)
            for name, factor in self._final.items():
                if factor > 0:
                    term = self._gradient(run, batch, parameters, name) - plain
                    self._move(name, float(plain.norm() / term.norm()))

    def _gradient(self, run: Run, batch: Batch, parameters: Sequence[Tensor], only: str | None) -> Tensor:
        self._set(run, {name: 1.0 if name == only else 0.0 for name in TERMS})
        torch.manual_seed(run.state.step)  # the same dropout with and without the term
        total = run.criterion(run.forward(batch), batch).total
        found = torch.autograd.grad(total, parameters, materialize_grads=True)
        return torch.cat([gradient.flatten() for gradient in found])


def _sum_by_name(sums: Iterable[Mapping[str, float]]) -> dict[str, float]:
    added: dict[str, float] = {}
    for totals in sums:
        for name, value in totals.items():
            added[name] = added.get(name, 0.0) + value
    return added
