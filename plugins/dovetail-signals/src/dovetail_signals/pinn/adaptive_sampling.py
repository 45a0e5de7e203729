"""Residual-based adaptive sampling of the interior points."""

from __future__ import annotations

from typing import Annotated, Any, Final

import torch

from dovetail import AtLeast, Run
from dovetail_signals.pinn.loss import residual_at
from dovetail_signals.pinn.points import PointSamples, Where
from dovetail_signals.pinn.sampling import latin_hypercube, residual_weights, weighted_sample

_CHUNK: Final = 10_000  # points in one evaluation of the residual


class ResidualAdaptive:
    """Redraw the interior points at the start of epochs, with higher density where the residual is large.

    Points are drawn from ``candidates`` spread over the domain, with a probability proportional to
    ``|r|^exponent / mean |r|^exponent + offset``. With ``exponent = 0`` the residual has no influence.

    Source: Wu, Zhu, Tan, Kartha and Lu, «A comprehensive study of non-adaptive and residual-based adaptive sampling
    for physics-informed neural networks», 2023, algorithm 2 (RAD).

    Args:
        every: number of epochs between two draws.
        candidates: number of candidates; at least the number of interior points.
        exponent: k.
        offset: c.
    """

    def __init__(
        self,
        *,
        every: Annotated[int, AtLeast(1)] = 1,
        candidates: Annotated[int, AtLeast(1)] = 100_000,
        exponent: Annotated[float, AtLeast(0)] = 1.0,
        offset: Annotated[float, AtLeast(0)] = 1.0,
    ) -> None:
        self._every, self._candidates, self._exponent, self._offset = every, candidates, exponent, offset
        #: The points of the last draw, which a resumed run restores.
        self._points: torch.Tensor | None = None

    def dovetail_run_start(self, run: Run) -> None:
        """Check the dataset, and restore the points of a resumed run.

        Raises:
            ValueError: the dataset is not ``signals.pde``, or loader workers hold copies of it.
        """
        samples = run.parts.loaders.train.dataset
        if not isinstance(samples, PointSamples):
            raise ValueError('signals.residual_adaptive moves the points of a dataset; set data.type = "signals.pde"')  # noqa: TRY004 (a value from a run file)
        if run.config.loader.num_workers:
            raise ValueError(
                "signals.residual_adaptive cannot move points that loader workers copied; set loader.num_workers = 0"
            )
        if self._points is not None:
            samples.move_interior(self._points)

    def dovetail_epoch_start(self, run: Run, epoch: int) -> None:
        """Redraw the points if a draw is due."""
        if epoch > 1 and (epoch - 1) % self._every == 0:
            self._draw(run, epoch)

    def _draw(self, run: Run, epoch: int) -> None:
        samples: Any = run.parts.loaders.train.dataset
        problem, seed = samples.problem, run.config.run.seed
        count = int((samples.where == Where.INTERIOR).sum())
        spread = latin_hypercube(self._candidates, len(problem.coordinates), seed, "pinn.candidates", epoch)
        candidates = (problem.lower + (problem.upper - problem.lower) * spread).to(samples.inputs.dtype)
        residuals = torch.cat(
            [
                residual_at(lambda points: run.forward({"inputs": points}), problem, some.to(run.device))
                for some in torch.split(candidates, _CHUNK)
            ]
        )
        weights = residual_weights(residuals, self._exponent, self._offset).cpu()
        self._points = candidates[weighted_sample(weights, count, seed, "pinn.resample", epoch)]
        samples.move_interior(self._points)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the points of the last draw."""
        return {} if self._points is None else {"points": self._points}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restore the points of the last draw."""
        self._points = state.get("points")
