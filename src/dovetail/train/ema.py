"""An exponential moving average of a model's weights: Polyak and Juditsky, 1992; Tarvainen and Valpola, 2017."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from dovetail.checkpoint.sharded import local_shard

#: The average begins as a short one: after n updates its decay is at most (1 + n) / (10 + n), else it would long be the
#: average of the weights that nobody has trained.
_BEGINNING: Final = 10


class WeightAverage:
    """Averages the trained parameters of a model, update by update; buffers and frozen parameters are the model's own.

    ``average ← decay · average + (1 − decay) · weights``, in a few operations for the whole model.
    """

    def __init__(self, model: nn.Module, decay: float, *, validated: bool = True) -> None:
        """Begin with the weights that the model has.

        Args:
            model: whose weights.
            decay: share of the average that is kept in an update, 0 to 1; reached by and by.
            validated: whether it is the average that is validated, and not the weights that are trained.
        """
        self._decay = decay
        self.validated = validated
        named = [(name, one) for name, one in model.named_parameters() if one.requires_grad]
        self._names = [name for name, _ in named]
        # Where weights are shared out over processes, so is their average; each process averages its part.
        self._kept = [one.detach().clone() for _, one in named]
        self._weights = [local_shard(one).detach() for _, one in named]
        self._averages = [local_shard(one) for one in self._kept]
        self._updates = 0

    def update(self) -> None:
        """Take in the weights after an update."""
        self._updates += 1
        decay = min(self._decay, (1 + self._updates) / (_BEGINNING + self._updates))
        torch._foreach_lerp_(self._averages, self._weights, 1 - decay)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Give the model the average, and afterwards its own weights back."""
        own = [one.clone() for one in self._weights]
        torch._foreach_copy_(self._weights, self._averages)
        try:
            yield
        finally:
            torch._foreach_copy_(self._weights, own)

    def state_dict(self) -> dict[str, Any]:
        """Return the average by the names of the parameters, of how many updates it is, and if it is validated.

        The last is for who reads the checkpoint: a run goes by its own settings.
        """
        weights: dict[str, Tensor] = dict(zip(self._names, self._kept, strict=True))
        return {"updates": self._updates, "validated": self.validated, "weights": weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved average.

        Raises:
            ValueError: it is of other parameters.
        """
        if state["weights"].keys() != set(self._names):
            odd = sorted(state["weights"].keys() ^ set(self._names))
            msg = f"the saved average is of other parameters: {', '.join(odd[:5])} are only in one of them"
            raise ValueError(msg)
        for name, average in zip(self._names, self._kept, strict=True):
            average.copy_(state["weights"][name])
        self._updates = state["updates"]
