"""BFGS with the whole matrix, for networks that are small enough."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Final

import torch
from torch import Tensor

from dovetail import AtLeast, MoreThan
from dovetail_signals.pinn.line_search import Trial, strong_wolfe

_MOST_PARAMETERS: Final = 20_000  # whose matrix takes 3.2 GB in double precision
_SMALLEST: Final = 1e-36  # curvature that single precision can divide by


class BFGS(torch.optim.Optimizer):
    """The method of Broyden, Fletcher, Goldfarb and Shanno, with its inverse Hessian as a full matrix, self-scaled.

    L-BFGS forgets all but the last steps. A network of a thousand parameters, as PINNs often are, can afford to forget
    nothing: the matrix has a million entries, and an iteration costs less than its evaluations of the loss. PINNs are
    ill-conditioned, and gain digits by it. Use double precision, and batches that hold all points.

    One update makes ``max_iter`` iterations, each with one evaluation or a few, and asks for the loss once before.

    Sources: Nocedal and Wright, «Numerical optimization», 2006, equation 6.17; the scaling is that of Al-Baali,
    «Numerical experience with a class of self-scaling quasi-Newton algorithms», J. Optim. Theory Appl. 96, 1998; for
    PINNs: Urbán, Stefanou and Pons, «Unveiling the optimization process of physics-informed neural networks»,
    J. Comput. Phys. 523, 2025.

    Args:
        params: what to optimise, in one group; the run provides it.
        max_iter: iterations within an update.
        scaled: whether the matrix is scaled before each correction, by at most 1.
        lr: length of the first step that is tried along a direction.
        tolerance_grad: an update ends once no gradient is larger than this.
        max_ls: evaluations within a line search.

    Raises:
        ValueError: there are no parameters, several groups of them, or more than 20,000.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        max_iter: Annotated[int, AtLeast(1)] = 20,
        scaled: bool = True,
        lr: Annotated[float, MoreThan(0)] = 1.0,
        tolerance_grad: Annotated[float, AtLeast(0)] = 0.0,
        max_ls: Annotated[int, AtLeast(1)] = 25,
    ) -> None:
        super().__init__(
            params,
            {"lr": lr, "max_iter": max_iter, "scaled": scaled, "tolerance_grad": tolerance_grad, "max_ls": max_ls},
        )
        if len(self.param_groups) != 1:
            raise ValueError("bfgs takes one group of parameters: leave no_decay out")
        self._parameters: Final[list[Tensor]] = self.param_groups[0]["params"]
        count = sum(parameter.numel() for parameter in self._parameters)
        if count > _MOST_PARAMETERS:
            raise ValueError(f"bfgs keeps a matrix of {count:,} × {count:,}; above {_MOST_PARAMETERS:,} use lbfgs")

    def step(self, closure: Callable[[], Any]) -> Tensor:  # type: ignore[override]  # it cannot do without a closure
        """Make one update.

        Args:
            closure: clears the gradients, computes them anew and returns the loss.

        Returns:
            The loss that it began with, a 0-d tensor.
        """
        options = self.param_groups[0]
        loss, gradient = self._evaluate(closure)
        first, value = loss, float(loss)
        for _ in range(options["max_iter"]):
            if not gradient.isfinite().all() or gradient.abs().max() <= options["tolerance_grad"]:
                break
            value, after = self._iterate(closure, value, gradient, options)
            if after is None:
                break
            gradient = after
        return first

    def _iterate(
        self, closure: Callable[[], Any], value: float, gradient: Tensor, options: Mapping[str, Any]
    ) -> tuple[float, Tensor | None]:
        """Make one step; return loss and gradient after it, no gradient where there was no way down."""
        state = self.state[self._parameters[0]]
        matrix: Tensor | None = state.get("inverse_hessian")
        direction = -gradient if matrix is None else -(matrix @ gradient)
        slope = float(direction.dot(gradient))
        if not slope < 0:  # rounding has spoiled the matrix
            matrix, direction, slope = None, -gradient, -float(gradient.dot(gradient))
        origin = self._gather(self._parameters)

        def evaluate(distance: float) -> Trial:
            self._put(origin + distance * direction)
            loss, there = self._evaluate(closure)
            return Trial(distance, float(loss), there, float(there.dot(direction)))

        start = Trial(0.0, value, gradient, slope)
        distance = options["lr"] if matrix is not None else options["lr"] * min(1.0, 1.0 / float(gradient.abs().sum()))
        found = strong_wolfe(evaluate, start, distance, options["max_ls"])
        self._put(origin + found.distance * direction)
        if found is start:
            state.pop("inverse_hessian", None)  # begin anew, along the gradient
            return value, None
        moved, change = found.distance * direction, found.gradient - gradient
        curvature, size = float(change.dot(moved)), float(change.dot(change))
        if min(curvature, size) > _SMALLEST:
            if matrix is None:
                matrix = torch.eye(len(moved), dtype=moved.dtype, device=moved.device) * (curvature / size)
            scale = min(1.0, -curvature / (found.distance * found.distance * slope)) if options["scaled"] else 1.0
            state["inverse_hessian"] = _bfgs_update(matrix, moved, change, curvature, scale)
        return found.loss, found.gradient

    def _evaluate(self, closure: Callable[[], Any]) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            loss = torch.as_tensor(closure())  # torch allows it to return a float
        zeros = (
            parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
            for parameter in self._parameters
        )
        return loss.detach(), self._gather(zeros)

    @staticmethod
    def _gather(tensors: Iterable[Tensor]) -> Tensor:
        return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])

    @torch.no_grad()
    def _put(self, values: Tensor) -> None:
        pieces = torch.split(values, [parameter.numel() for parameter in self._parameters])
        for parameter, piece in zip(self._parameters, pieces, strict=True):
            parameter.copy_(piece.view_as(parameter))


def _bfgs_update(matrix: Tensor, moved: Tensor, change: Tensor, curvature: float, scale: float) -> Tensor:
    """Return the inverse Hessian, divided by ``scale``, corrected by what a step showed.

    With ``H/τ`` for the matrix: ``H⁺ = (I - ρsyᵀ) H/τ (I - ρysᵀ) + ρssᵀ``, ``ρ = 1/yᵀs``, multiplied out so that it
    takes one product of matrix and vector.
    """
    image = matrix @ change / scale
    factor = (1 + float(change.dot(image)) / curvature) / curvature
    outer = torch.outer(image, moved)
    outer += outer.T.clone()
    return matrix.div(scale).sub_(outer, alpha=1 / curvature).addr_(moved, moved, alpha=factor)
