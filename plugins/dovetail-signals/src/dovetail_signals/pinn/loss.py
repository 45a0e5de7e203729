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

#: Which points each condition is about.
_CONDITIONS: Final = {"initial": Where.INITIAL, "boundary": Where.BOUNDARY, "data": Where.SOLUTION}


class PDELoss(nn.Module):
    """How far a network is from solving a problem: a weighted sum of mean squares.

    ``residual`` is what the equation leaves over, at every point of a training batch; ``initial``, ``boundary`` and
    ``data`` are errors where values are known; ``periodic`` is by how much the solution and its derivatives differ
    between the ends of a period. Each is a part of its own in the logs, without its weight. Squares of several unknowns
    or equations are added. Where gradients are off, as in validation and test, and for a batch that does not say where
    its points are, it is the mean square of the error alone.

    Source: Raissi, Perdikaris and Karniadakis, «Physics-informed neural networks», 2019, equation 4.

    Args:
        problem: the problem, as the data name it.
        coefficients: those of the equation that differ from the problem's.
        residual_weight: factor of the equation.
        initial_weight: factor of the initial condition.
        boundary_weight: factor of the boundary condition, of either kind.
        data_weight: factor of the error at points of a training batch whose solution is known.
        causality: learn early times first. By default all at once.

    Raises:
        ValueError: there is no such problem, or no time to be causal in.
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
        """Look whether the data are of this problem.

        Raises:
            ValueError: they are of another, or of other coefficients.
        """
        require_same_problem("loss", self.problem, run, coefficients=True)

    def forward(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        """Return the sum and its parts, a mean over points.

        Raises:
            ValueError: outputs and targets differ in shape, or the inputs are not followed by automatic
                differentiation.
        """
        values, targets = outputs.logits, batch["targets"]
        if values.shape != targets.shape:
            raise ValueError(
                f"signals.pde: outputs have shape {list(values.shape)} but targets {list(targets.shape)}; the model "
                "gives one number for each unknown of the problem"
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
        parts = {name: known[name] for name in self._weights if name in known and self._tells(name)}
        total = torch.stack([self._weights[name] * part for name, part in parts.items()]).sum()
        return LossResult(total, {name: part.detach() for name, part in parts.items()}, float(len(values)))

    def _tells(self, name: str) -> bool:
        """Say whether a part can be other than zero."""
        if name in {"boundary", "periodic"}:
            periodic = self.problem.boundary == "periodic"
            return self.problem.boundary is not None and periodic == (name == "periodic")
        if name == "data":
            return self._weights["data"] > 0
        return name != "initial" or self.problem.initial is not None

    def _physics(self, values: Tensor, batch: Batch, where: Tensor) -> dict[str, Tensor]:
        """Return what follows from derivatives: the residual, the periodic part, and the initial one with velocity."""
        points = batch["inputs"]
        if not isinstance(points, Tensor) or not points.requires_grad:
            raise ValueError(
                "signals.pde: the equation needs derivatives by the inputs, which are not followed; "
                'set trainer.type = "signals.pinn"'
            )
        problem = self.problem
        u = Field(values, points, problem.coordinates)
        found = {"residual": self._residual(u, where != Where.PARTNER)}
        pair: Any = batch["meta"].get("pair")
        if problem.boundary == "periodic":
            found["periodic"] = values.new_zeros(()) if pair is None else self._periodic(u, where, pair)
        if problem.velocity is not None:
            begins = where == Where.INITIAL
            off = (values - batch["targets"]).square() + (u("t") - problem.velocity(points)).square()
            found["initial"] = _mean(off.sum(1), begins)
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
        """Go on to later times where the early ones are learned."""
        if self.causal is not None:
            self.causal.advance()


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean of the chosen values, 0 of none."""
    return values.where(chosen, 0.0).sum() / chosen.sum().clamp(min=1)


def residual_at(model: Any, problem: Problem, points: Tensor) -> Tensor:
    """Return what the equation leaves over at ``[points, coordinates]``: ``[points, equations]``, outside any graph.

    Args:
        model: from points to a ``ModelOutput`` or a tensor.
        problem: the problem.
        points: where.
    """
    with torch.enable_grad():
        points = points.detach().requires_grad_()
        values = ModelOutput.from_raw(model(points)).logits
        return problem.residual(Field(values, points, problem.coordinates)).detach()
