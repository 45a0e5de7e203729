"""A solution and its derivatives, by automatic differentiation."""

from __future__ import annotations

from typing import Final, final

import torch
from torch import Tensor


@final
class Field:
    """The values of a solution at points and its partial derivatives, as equations use them.

    ``u.value`` is ``[points, unknowns]``, and so is each derivative: ``u("x")``, ``u("xx")``, ``u("xt")``. A derivative
    is computed on first use and cached.

    Args:
        value: ``[points, unknowns]``; each row must depend on its own row of ``points`` only.
        points: ``[points, coordinates]``, in the autograd graph of ``value``.
        coordinates: the letter of each coordinate, such as ``"xt"``.
    """

    def __init__(self, value: Tensor, points: Tensor, coordinates: str) -> None:
        self.value: Final = value
        self.points: Final = points
        self.coordinates: Final = coordinates
        self._gradients: Final[dict[tuple[str, int], Tensor]] = {}

    def at(self, coordinate: str) -> Tensor:
        """Return one coordinate of the points, ``[points, 1]``.

        Raises:
            ValueError: the coordinate does not exist.
        """
        place = self._place(coordinate)
        return self.points[:, place : place + 1]

    def __call__(self, by: str) -> Tensor:
        """Return a partial derivative, ``[points, unknowns]``.

        Args:
            by: one letter for each differentiation, in any order.

        Raises:
            ValueError: a letter is not a coordinate.
        """
        *path, last = sorted(by)
        place = self._place(last)
        columns = [self._gradient("".join(path), unknown)[:, place] for unknown in range(self.value.shape[1])]
        return torch.stack(columns, dim=1)

    def _gradient(self, path: str, unknown: int) -> Tensor:
        """Return the gradient of a derivative of one unknown, ``[points, coordinates]``."""
        if (path, unknown) not in self._gradients:
            inner = self._gradient(path[:-1], unknown)[:, self._place(path[-1])] if path else self.value[:, unknown]
            self._gradients[path, unknown] = self._differentiate(inner)
        return self._gradients[path, unknown]

    def _differentiate(self, inner: Tensor) -> Tensor:
        if not inner.requires_grad:  # a constant
            return torch.zeros_like(self.points)
        # Rows are independent, so the gradient of the sum is the gradient of each row.
        (found,) = torch.autograd.grad(
            inner.sum(), self.points, create_graph=True, allow_unused=True, materialize_grads=True
        )
        return found

    def _place(self, coordinate: str) -> int:
        place = self.coordinates.find(coordinate)
        if place < 0 or len(coordinate) != 1:
            raise ValueError(f"no coordinate '{coordinate}'; there are {', '.join(self.coordinates)}")
        return place
