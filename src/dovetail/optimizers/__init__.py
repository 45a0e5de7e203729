"""Optimizers: torch's own with Dovetail's defaults, presets, and parameter groups. Imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dovetail.kernel.exports import lazy_namespace

if TYPE_CHECKING:
    from dovetail.optimizers.factories import adam as adam
    from dovetail.optimizers.factories import adamw as adamw
    from dovetail.optimizers.factories import lbfgs as lbfgs
    from dovetail.optimizers.factories import rmsprop as rmsprop
    from dovetail.optimizers.factories import sgd as sgd
    from dovetail.optimizers.groups import get_parameter_groups as get_parameter_groups
    from dovetail.optimizers.groups import split_parameters as split_parameters
    from dovetail.optimizers.presets import default as default
    from dovetail.optimizers.presets import fast_convergence as fast_convergence
    from dovetail.optimizers.presets import sgd_baseline as sgd_baseline
    from dovetail.optimizers.presets import strong_regularization as strong_regularization
else:
    __getattr__, __dir__, __all__ = lazy_namespace(__name__)
