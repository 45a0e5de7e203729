"""The network of a physics-informed neural network."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Final, Literal

import torch
from torch import Tensor, nn

from dovetail import AtLeast, MoreThan, Run
from dovetail_signals.pinn.constraints import HardConstraints
from dovetail_signals.pinn.problems import Problem, find_problem, require_same_problem

Size = Annotated[int, AtLeast(1)]
_ACTIVATIONS: Final[Mapping[str, Callable[[Tensor], Tensor]]] = {
    "tanh": torch.tanh,
    "sin": torch.sin,
    "silu": nn.functional.silu,
    "gelu": nn.functional.gelu,
}


class PINN(nn.Module):
    """A multilayer perceptron with smooth activations that maps coordinates to the unknowns of an equation.

    With a problem, coordinates are scaled to -1 … 1 first, and its conditions can be built in.

    Sources: Raissi, Perdikaris and Karniadakis, «Physics-informed neural networks», 2019; Fourier features: Tancik et
    al., NeurIPS 2020, and Wang, Wang and Perdikaris, «On the eigenvector bias of Fourier feature networks», 2021;
    adaptive activation: Jagtap, Kawaguchi and Karniadakis, J. Comput. Phys. 404, 2020, and Proc. R. Soc. A 476, 2020;
    hard conditions: Lagaris, Likas and Fotiadis, 1998; periodic features: Dong and Ni, J. Comput. Phys. 435, 2021.

    Args:
        problem: name of the problem to solve, as in ``data.problem``.
        input_shape: shape of a sample, the number of coordinates; the run provides it.
        num_outputs: number of unknowns; the problem, if there is one, overrides it.
        hidden_dims: sizes of the hidden layers.
        activation: activation of the hidden layers; all have derivatives of any order.
        adaptive: train the slope of the activations: one for each ``layer``, or for each ``neuron``.
        slope: a trained slope is this factor times a parameter and starts at 1; larger factors train it faster.
        fourier_features: number of random frequencies whose sines and cosines replace the coordinates; 0 for none.
        fourier_scale: standard deviation of the frequencies, in cycles per half of the domain.
        hard: conditions that hold for any weights: ``initial``, ``boundary`` (Dirichlet or periodic), or both.
        harmonics: with a hard periodic boundary, number of harmonics whose sines and cosines replace the position.
        dtype: of the weights; inputs are converted to it.

    Raises:
        ValueError: the problem is unknown, does not fit ``input_shape``, or its conditions cannot be built in.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        *,
        problem: str | None = None,
        num_outputs: Size = 1,
        hidden_dims: Sequence[Size] = (20, 20, 20, 20, 20, 20, 20, 20),
        activation: Literal["tanh", "sin", "silu", "gelu"] = "tanh",
        adaptive: Literal["none", "layer", "neuron"] = "none",
        slope: Annotated[float, MoreThan(0)] = 1.0,
        fourier_features: Annotated[int, AtLeast(0)] = 0,
        fourier_scale: Annotated[float, MoreThan(0)] = 1.0,
        hard: Sequence[Literal["initial", "boundary"]] = (),
        harmonics: Size = 1,
        dtype: Literal["float32", "float64"] = "float32",
    ) -> None:
        super().__init__()
        self._problem = found = None if problem is None else find_problem(problem)
        size = math.prod(input_shape)
        if found is not None and size != len(found.coordinates):
            raise ValueError(f"problem: '{problem}' has {len(found.coordinates)} coordinates, the data have {size}")
        if found is None and hard:
            raise ValueError("hard: needs a problem, whose conditions to build in; set problem")
        self._activation = _ACTIVATIONS[activation]
        self._slope = slope
        constraints = None if found is None or not hard else HardConstraints(found, hard)
        self._constrain = constraints
        periodic = constraints is not None and constraints.periodic
        self.inputs = _Inputs(size, found, harmonics if periodic else 0, fourier_features, fourier_scale)
        sizes = [self.inputs.size, *hidden_dims, num_outputs if found is None else found.unknowns]
        self.layers = nn.ModuleList(_linear(before, after) for before, after in itertools.pairwise(sizes))
        shapes = [(width,) if adaptive == "neuron" else () for width in hidden_dims]
        self.slopes = nn.ParameterList(
            [] if adaptive == "none" else [nn.Parameter(torch.full(shape, 1 / slope)) for shape in shapes]
        )
        self.to(getattr(torch, dtype))

    def dovetail_run_start(self, run: Run) -> None:
        """Check that the data are of this network's problem.

        Raises:
            ValueError: the data are of another problem.
        """
        if self._problem is not None:
            require_same_problem("model", self._problem, run, coefficients=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the unknowns, ``[points, unknowns]``, at ``[points, coordinates]``."""
        points = inputs.flatten(1).to(self.inputs.lower.dtype)
        hidden = self.inputs(points)
        for number, layer in enumerate(self.layers):
            hidden = layer(hidden)
            if number < len(self.layers) - 1:
                hidden = self._activation(self._sloped(hidden, number))
        return hidden if self._constrain is None else self._constrain(points, hidden)

    def _sloped(self, hidden: Tensor, number: int) -> Tensor:
        return hidden * (self._slope * self.slopes[number]) if len(self.slopes) else hidden


def _linear(before: int, after: int) -> nn.Linear:
    layer = nn.Linear(before, after)
    nn.init.xavier_normal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class _Inputs(nn.Module):
    """Map coordinates to the inputs of the first layer: scaling, harmonics, Fourier features."""

    lower: Tensor
    span: Tensor
    frequencies: Tensor

    def __init__(self, size: int, problem: Problem | None, harmonics: int, fourier: int, scale: float) -> None:
        super().__init__()
        lower = torch.full((size,), -1.0) if problem is None else problem.lower
        upper = torch.full((size,), 1.0) if problem is None else problem.upper
        self.register_buffer("lower", lower, persistent=False)
        self.register_buffer("span", upper - lower, persistent=False)
        self._harmonics = harmonics
        self._space = 0 if problem is None else problem.space
        self.size = size + self._space * (2 * harmonics - 1) if harmonics else size
        self.register_buffer("frequencies", scale * torch.randn(self.size, fourier))
        self.size = 2 * fourier or self.size

    def forward(self, points: Tensor) -> Tensor:
        scaled = 2 * (points - self.lower) / self.span - 1
        if self._harmonics:
            angles = [math.pi * number * scaled[:, : self._space] for number in range(1, self._harmonics + 1)]
            waves = [wave(angle) for angle in angles for wave in (torch.sin, torch.cos)]
            scaled = torch.cat([*waves, scaled[:, self._space :]], dim=1)
        if self.frequencies.shape[1]:
            angle = 2 * math.pi * scaled @ self.frequencies
            scaled = torch.cat([angle.sin(), angle.cos()], dim=1)
        return scaled
