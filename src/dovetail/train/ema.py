"""An exponential moving average of a model's weights (Polyak and Juditsky, 1992; Tarvainen and Valpola, 2017)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from dovetail.checkpoint.sharded import local_shard

#: The decay after n updates is at most (1 + n) / (10 + n): otherwise the untrained weights would dominate the average
#: for a long time.
_WARMUP: Final = 10


class WeightAverage:
    """Averages the trained parameters of a model, update by update; buffers and frozen parameters are not averaged.

    ``average ← decay · average + (1 − decay) · weights``, with a few operations for the whole model.
    """

    def __init__(self, model: nn.Module, decay: float, *, validated: bool = True) -> None:
        """Start from the present weights of the model.

        Args:
            model: the model.
            decay: the fraction of the average that an update keeps, 0 to 1; approached gradually.
            validated: whether the average is validated, rather than the trained weights.
        """
        self._decay = decay
        self.validated = validated
        named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        self._names = [name for name, _ in named]
        # The average of sharded weights is sharded too: each process averages its own shard.
        self._kept = [parameter.detach().clone() for _, parameter in named]
        self._weights = [local_shard(parameter).detach() for _, parameter in named]
        self._averages = [local_shard(average) for average in self._kept]
        self._updates = 0

    def update(self) -> None:
        """Add the weights after an update."""
        self._updates += 1
        decay = min(self._decay, (1 + self._updates) / (_WARMUP + self._updates))
        torch._foreach_lerp_(self._averages, self._weights, 1 - decay)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average into the model, and at the end restore its own weights."""
        own = [weight.clone() for weight in self._weights]
        torch._foreach_copy_(self._weights, self._averages)
        try:
            yield
        finally:
            torch._foreach_copy_(self._weights, own)

    def state_dict(self) -> dict[str, Any]:
        """Return the average by parameter name, its number of updates, and whether it is validated.

        The last is for readers of the checkpoint: a run follows its own settings.
        """
        weights: dict[str, Tensor] = dict(zip(self._names, self._kept, strict=True))
        return {"updates": self._updates, "validated": self.validated, "weights": weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved average.

        Raises:
            ValueError: it belongs to other parameters.
        """
        if state["weights"].keys() != set(self._names):
            odd = sorted(state["weights"].keys() ^ set(self._names))
            raise ValueError(
                f"the saved average belongs to other parameters: only one of them has {', '.join(odd[:5])}"
            )
        for name, average in zip(self._names, self._kept, strict=True):
            average.copy_(state["weights"][name])
        self._updates = state["updates"]
