"""Models, the form of their outputs, and parameter counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dovetail.kernel.exports import lazy_namespace

if TYPE_CHECKING:
    from dovetail.models.cnn import CNN as CNN
    from dovetail.models.mlp import MLP as MLP
    from dovetail.models.mlp import Encoder as Encoder
    from dovetail.models.output import ModelOutput as ModelOutput
    from dovetail.models.size import estimate_parameters as estimate_parameters
    from dovetail.models.size import num_parameters as num_parameters
    from dovetail.models.transformer import CausalTransformer as CausalTransformer
else:
    __getattr__, __dir__, __all__ = lazy_namespace(__name__)
