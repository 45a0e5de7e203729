"""Pictures of a PINN's solution and its error."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from dovetail import Outcome, Run
from dovetail_signals.pictures.heat_map import heat_map
from dovetail_signals.pictures.svg import Array, Axis
from dovetail_signals.pinn.points import PointSamples

_CHUNK: Final = 50_000  # points in one forward pass
_ERROR_RANGE: Final = 1e-4  # smaller errors, relative to the largest, get the same colour


class SolutionMap:
    """Draw the solution and its error on the grid of the test split when the run ends.

    Of a solution with several unknowns, such as a complex one, the magnitude is drawn. Without a test split on a grid
    of two coordinates, nothing is drawn.
    """

    def dovetail_run_end(self, run: Run, outcome: Outcome) -> None:
        """Draw the pictures, unless the run failed."""
        loader = run.parts.loaders.test
        samples = None if loader is None else loader.dataset
        if outcome.status == "failed" or not isinstance(samples, PointSamples) or len(samples.axes) != 2:  # noqa: PLR2004 (a plane)
            return
        rows, columns = (
            Axis.from_values(name, axis.double().numpy())
            for name, axis in zip(samples.problem.coordinates, samples.axes.values(), strict=True)
        )
        found = self._solve(run, samples.inputs)
        several = samples.problem.unknowns > 1
        error = self._on_grid((found - samples.values).abs(), samples)
        decades = np.log10(np.maximum(error, max(_ERROR_RANGE * float(error.max()), np.finfo(float).tiny)))
        solution = "magnitude of the solution" if several else "solution"
        solved = heat_map(solution, self._on_grid(found, samples), rows, columns)
        run.store.add_picture("pde-1-solution", solved)
        title = "magnitude of the error" if several else "absolute error"
        run.store.add_picture("pde-2-error", heat_map(title, decades, rows, columns, powers=True))

    @staticmethod
    @torch.no_grad()
    def _solve(run: Run, points: Tensor) -> Tensor:
        model = run.parts.model
        was_training = model.training
        model.eval()
        try:
            pieces = [
                run.forward({"inputs": batch.to(run.device)}).logits.cpu() for batch in torch.split(points, _CHUNK)
            ]
        finally:
            model.train(was_training)
        return torch.cat(pieces)

    @staticmethod
    def _on_grid(values: Tensor, samples: PointSamples) -> Array:
        values = values[:, 0] if values.shape[1] == 1 else torch.linalg.vector_norm(values, dim=1)
        grid: Array = values.double().reshape([len(axis) for axis in samples.axes.values()]).numpy()
        return grid
