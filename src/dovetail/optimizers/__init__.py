"""Optimizers: torch's own with Dovetail's defaults, presets, and parameter groups. Imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dovetail.kernel.exports import imported_on_use

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

_HOMES = {
    "adam": "dovetail.optimizers.factories",
    "adamw": "dovetail.optimizers.factories",
    "default": "dovetail.optimizers.presets",
    "fast_convergence": "dovetail.optimizers.presets",
    "get_parameter_groups": "dovetail.optimizers.groups",
    "lbfgs": "dovetail.optimizers.factories",
    "rmsprop": "dovetail.optimizers.factories",
    "sgd": "dovetail.optimizers.factories",
    "sgd_baseline": "dovetail.optimizers.presets",
    "split_parameters": "dovetail.optimizers.groups",
    "strong_regularization": "dovetail.optimizers.presets",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605 (built from the one table above)

__getattr__ = imported_on_use(__name__, _HOMES)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
