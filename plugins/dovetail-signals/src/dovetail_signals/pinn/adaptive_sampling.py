"""Points that move to where the equation holds least."""

from __future__ import annotations

from typing import Annotated, Any, Final

import torch

from dovetail import AtLeast, Run
from dovetail_signals.pinn.loss import residual_at
from dovetail_signals.pinn.points import PointSamples, Where
from dovetail_signals.pinn.sampling import latin_hypercube, residual_weights, weighted_sample

_CHUNK: Final = 10_000  # points whose residual is computed together


class ResidualAdaptive:
    """Draws the interior points anew, likelier where the residual is large, at the start of epochs.

    Among ``candidates`` spread over the domain, each becomes a point with a probability proportional to
    ``|r|^exponent / mean |r|^exponent + offset``. With ``exponent = 0`` the points are just drawn anew.

    Source: Wu, Zhu, Tan, Kartha and Lu, «A comprehensive study of non-adaptive and residual-based adaptive sampling
    for physics-informed neural networks», 2023, algorithm 2 (RAD).

    Args:
        every: how many epochs lie between two draws.
        candidates: among how many points is chosen; at least as many as there are interior points.
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
        #: The points of the last draw, which a resumed run goes on with.
        self._points: torch.Tensor | None = None

    def dovetail_run_start(self, run: Run) -> None:
        """Look at whether there are points to move, and move them where a run goes on.

        Raises:
            ValueError: the training data are not those of ``signals.pde``, or workers hold copies of them.
        """
        samples = run.parts.loaders.train.dataset
        if not isinstance(samples, PointSamples):
            raise ValueError('residual_adaptive moves the points of data.type = "signals.pde"; these data have none')  # noqa: TRY004 (a value from a run file)
        if run.config.loader.num_workers:
            raise ValueError("residual_adaptive moves points that loader workers hold copies of; set num_workers = 0")
        if self._points is not None:
            samples.move_interior(self._points)

    def dovetail_epoch_start(self, run: Run, epoch: int) -> None:
        """Draw anew, if it is time to."""
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
        """Take them back."""
        self._points = state.get("points")
