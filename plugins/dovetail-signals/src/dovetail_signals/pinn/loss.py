"""The loss of a physics-informed neural network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import torch
from torch import Tensor, nn

from dovetail import AtLeast, Batch, LossResult, ModelOutput, Run
from dovetail_signals.pinn.causality import Causality, CausalWeights
from dovetail_signals.pinn.field import Field
from dovetail_signals.pinn.points import Where
from dovetail_signals.pinn.problems import Problem, find_problem, require_same_problem

Weight = Annotated[float, AtLeast(0)]

#: The kind of points of each condition.
_CONDITIONS: Final = {"initial": Where.INITIAL, "boundary": Where.BOUNDARY, "data": Where.SOLUTION}


class PDELoss(nn.Module):
    """The weighted sum of the mean squares of a problem's residual and of its conditions' errors.

    ``residual`` is the residual of the equation at every point of a training batch. ``initial``, ``boundary`` and
    ``data`` are errors where values are known. ``periodic`` is the difference of the solution and its derivatives
    between the ends of a period. Each is logged as a part, without its weight. Squares of several unknowns or equations
    are added. Without gradients, as in validation and test, and for batches without ``meta.where``, the loss is the
    mean square of the error.

    Source: Raissi, Perdikaris and Karniadakis, «Physics-informed neural networks», 2019, equation 4.

    Args:
        problem: name of the problem, as in ``data.problem``.
        coefficients: coefficients of the equation to change from the problem's.
        residual_weight: weight of the equation's residual.
        initial_weight: weight of the initial condition.
        boundary_weight: weight of the boundary condition, Dirichlet or periodic.
        data_weight: weight of the error at training points with a known solution.
        causality: learn early times first; by default all times have equal weight.

    Raises:
        ValueError: the problem is unknown, or has no time for ``causality``.
    """

    def __init__(
        self,
        problem: str,
        *,
        coefficients: Mapping[str, float] | None = None,
        residual_weight: Weight = 1.0,
        initial_weight: Weight = 1.0,
        boundary_weight: Weight = 1.0,
        data_weight: Weight = 0.0,
        causality: Causality | None = None,
    ) -> None:
        super().__init__()
        self.problem = find_problem(problem, coefficients)
        self._weights: Final = {
            "residual": residual_weight,
            "initial": initial_weight,
            "boundary": boundary_weight,
            "periodic": boundary_weight,
            "data": data_weight,
        }
        self.causal = None if causality is None else CausalWeights(causality, self.problem)

    def dovetail_run_start(self, run: Run) -> None:
        """Check that the data are of this problem.

        Raises:
            ValueError: the data are of another problem or other coefficients.
        """
        require_same_problem("loss", self.problem, run, coefficients=True)

    def forward(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        """Return the weighted sum, a mean over points, with its parts.

        Raises:
            ValueError: outputs and targets differ in shape, or the inputs do not require gradients.
        """
        values, targets = outputs.logits, batch["targets"]
        if values.shape != targets.shape:
            raise ValueError(
                f"signals.pde: outputs have shape {list(values.shape)}, but targets {list(targets.shape)}; the model "
                "must return one number for each unknown of the problem"
            )
        squares = (values - targets).square()
        squares = squares.flatten(1).sum(1) if squares.ndim > 1 else squares
        where = batch.get("meta", {}).get("where")
        if not isinstance(where, Tensor):
            return LossResult(squares.sum() / max(len(values), 1), {}, float(len(values)))
        if not torch.is_grad_enabled():
            return LossResult(_mean(squares, where == Where.SOLUTION), {}, float(len(values)))
        known = {name: _mean(squares, where == kind) for name, kind in _CONDITIONS.items()}
        known |= self._physics(values, batch, where)
        parts = {name: known[name] for name in self._weights if name in known and self._is_active(name)}
        total = torch.stack([self._weights[name] * part for name, part in parts.items()]).sum()
        return LossResult(total, {name: part.detach() for name, part in parts.items()}, float(len(values)))

    def _is_active(self, name: str) -> bool:
        """Return whether a part can differ from zero."""
        if name in {"boundary", "periodic"}:
            periodic = self.problem.boundary == "periodic"
            return self.problem.boundary is not None and periodic == (name == "periodic")
        if name == "data":
            return self._weights["data"] > 0
        return name != "initial" or self.problem.initial is not None

    def _physics(self, values: Tensor, batch: Batch, where: Tensor) -> dict[str, Tensor]:
        """Return the parts with derivatives: the residual, the periodic part, and the initial part with velocity."""
        points = batch["inputs"]
        if not isinstance(points, Tensor) or not points.requires_grad:
            raise ValueError(
                "signals.pde: the equation needs derivatives by the inputs, which do not require gradients; "
                'set trainer.type = "signals.pinn"'
            )
        problem = self.problem
        u = Field(values, points, problem.coordinates)
        found = {"residual": self._residual(u, where != Where.PARTNER)}
        pair: Any = batch["meta"].get("pair")
        if problem.boundary == "periodic":
            found["periodic"] = values.new_zeros(()) if pair is None else self._periodic(u, where, pair)
        if problem.velocity is not None:
            at_start = where == Where.INITIAL
            squares = (values - batch["targets"]).square() + (u("t") - problem.velocity(points)).square()
            found["initial"] = _mean(squares.sum(1), at_start)
        return found

    def _residual(self, u: Field, holds: Tensor) -> Tensor:
        squares = self.problem.residual(u).square().sum(1)
        return _mean(squares, holds) if self.causal is None else self.causal(squares, holds, u.at("t")[:, 0])

    def _periodic(self, u: Field, where: Tensor, pair: Tensor) -> Tensor:
        space = self.problem.coordinates.removesuffix("t")
        orders = range(1, self.problem.periodic_order + 1)
        compared = [u.value, *(u(letter * order) for letter in space for order in orders)]
        squares = torch.stack([(values - values[pair]).square().sum(1) for values in compared]).sum(0)
        return _mean(squares, where == Where.PERIODIC)

    def dovetail_epoch_end(self) -> None:
        """Advance the strictness of the causal weights."""
        if self.causal is not None:
            self.causal.advance()


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean of the chosen values, 0 if there are none."""
    return values.where(chosen, 0.0).sum() / chosen.sum().clamp(min=1)


def residual_at(model: Any, problem: Problem, points: Tensor) -> Tensor:
    """Return the detached residual of the equation at points, ``[points, equations]``.

    Args:
        model: maps points to a ``ModelOutput`` or a tensor.
        problem: the problem.
        points: ``[points, coordinates]``.
    """
    with torch.enable_grad():
        points = points.detach().requires_grad_()
        values = ModelOutput.from_raw(model(points)).logits
        return problem.residual(Field(values, points, problem.coordinates)).detach()
