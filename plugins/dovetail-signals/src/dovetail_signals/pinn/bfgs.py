"""BFGS with the full inverse Hessian, for small networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Final

import torch
from torch import Tensor

from dovetail import AtLeast, MoreThan
from dovetail_signals.pinn.line_search import Trial, strong_wolfe

_MAX_PARAMETERS: Final = 20_000  # the matrix then takes 3.2 GB in double precision
_MIN_CURVATURE: Final = 1e-36  # the smallest that single precision can divide by


class BFGS(torch.optim.Optimizer):
    """Self-scaled BFGS (Broyden, Fletcher, Goldfarb, Shanno) with the inverse Hessian as a full matrix.

    L-BFGS approximates the inverse Hessian from its last steps. For a network of a thousand parameters, typical of
    PINNs, the full matrix has only a million entries, and an iteration costs less than its evaluations of the loss.
    PINNs are ill-conditioned, and the full matrix gains them digits. Use double precision, and batches with all points.

    One update evaluates the loss once, then makes ``max_iter`` iterations with one or a few evaluations each.

    Sources: Nocedal and Wright, «Numerical optimization», 2006, equation 6.17; the scaling is that of Al-Baali,
    «Numerical experience with a class of self-scaling quasi-Newton algorithms», J. Optim. Theory Appl. 96, 1998; for
    PINNs: Urbán, Stefanou and Pons, «Unveiling the optimization process of physics-informed neural networks»,
    J. Comput. Phys. 523, 2025.

    Args:
        params: the parameters, in one group; the run provides them.
        max_iter: iterations of an update.
        scaled: whether to scale the matrix, by at most 1, before each correction.
        lr: length of the first trial step of a line search.
        tolerance_grad: an update ends when no gradient is larger than this.
        max_ls: most evaluations of a line search.

    Raises:
        ValueError: there are no parameters, several groups, or more than 20,000 parameters.
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
            raise ValueError("signals.bfgs takes one group of parameters; remove no_decay")
        self._parameters: Final[list[Tensor]] = self.param_groups[0]["params"]
        count = sum(parameter.numel() for parameter in self._parameters)
        if count > _MAX_PARAMETERS:
            raise ValueError(f"signals.bfgs takes at most {_MAX_PARAMETERS:,} parameters, got {count:,}: use lbfgs")

    def step(self, closure: Callable[[], Any]) -> Tensor:  # type: ignore[override]  # the closure is required
        """Make one update.

        Args:
            closure: clears the gradients, recomputes them and returns the loss.

        Returns:
            The loss before the update, a 0-d tensor.
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
        """Make one step; return the loss and the gradient after it, or None as gradient if no step lowers the loss."""
        state = self.state[self._parameters[0]]
        matrix: Tensor | None = state.get("inverse_hessian")
        direction = -gradient if matrix is None else -(matrix @ gradient)
        slope = float(direction.dot(gradient))
        if not slope < 0:  # rounding errors made the matrix indefinite
            matrix, direction, slope = None, -gradient, -float(gradient.dot(gradient))
        origin = self._flatten(self._parameters)

        def evaluate(distance: float) -> Trial:
            self._set_parameters(origin + distance * direction)
            loss, there = self._evaluate(closure)
            return Trial(distance, float(loss), there, float(there.dot(direction)))

        start = Trial(0.0, value, gradient, slope)
        distance = options["lr"] if matrix is not None else options["lr"] * min(1.0, 1.0 / float(gradient.abs().sum()))
        found = strong_wolfe(evaluate, start, distance, options["max_ls"])
        self._set_parameters(origin + found.distance * direction)
        if found is start:
            state.pop("inverse_hessian", None)  # restart along the gradient
            return value, None
        moved, change = found.distance * direction, found.gradient - gradient
        curvature, size = float(change.dot(moved)), float(change.dot(change))
        if min(curvature, size) > _MIN_CURVATURE:
            if matrix is None:
                matrix = torch.eye(len(moved), dtype=moved.dtype, device=moved.device) * (curvature / size)
            scale = min(1.0, -curvature / (found.distance * found.distance * slope)) if options["scaled"] else 1.0
            state["inverse_hessian"] = _bfgs_update(matrix, moved, change, curvature, scale)
        return found.loss, found.gradient

    def _evaluate(self, closure: Callable[[], Any]) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            loss = torch.as_tensor(closure())  # torch allows a float
        gradients = (
            parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
            for parameter in self._parameters
        )
        return loss.detach(), self._flatten(gradients)

    @staticmethod
    def _flatten(tensors: Iterable[Tensor]) -> Tensor:
        return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])

    @torch.no_grad()
    def _set_parameters(self, values: Tensor) -> None:
        pieces = torch.split(values, [parameter.numel() for parameter in self._parameters])
        for parameter, piece in zip(self._parameters, pieces, strict=True):
            parameter.copy_(piece.view_as(parameter))


def _bfgs_update(matrix: Tensor, moved: Tensor, change: Tensor, curvature: float, scale: float) -> Tensor:
    """Return the inverse Hessian after the BFGS update for a step ``moved`` with gradient change ``change``.

    With ``H/τ`` for the scaled matrix: ``H⁺ = (I - ρsyᵀ) H/τ (I - ρysᵀ) + ρssᵀ``, ``ρ = 1/yᵀs``, expanded so that it
    takes one matrix–vector product.
    """
    image = matrix @ change / scale
    factor = (1 + float(change.dot(image)) / curvature) / curvature
    outer = torch.outer(image, moved)
    outer += outer.T.clone()
    return matrix.div(scale).sub_(outer, alpha=1 / curvature).addr_(moved, moved, alpha=factor)
