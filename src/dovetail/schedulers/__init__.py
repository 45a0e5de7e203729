"""Learning-rate schedulers. Public names are imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dovetail.kernel.exports import imported_on_use

if TYPE_CHECKING:
    from dovetail.schedulers.annealing import cosine as cosine
    from dovetail.schedulers.annealing import warm_restarts as warm_restarts
    from dovetail.schedulers.closed_form import ClosedFormLR as ClosedFormLR
    from dovetail.schedulers.cycle import one_cycle as one_cycle
    from dovetail.schedulers.decay import exponential as exponential
    from dovetail.schedulers.decay import plateau as plateau
    from dovetail.schedulers.decay import polynomial as polynomial
    from dovetail.schedulers.decay import step as step
    from dovetail.schedulers.warmup import Epochs as Epochs
    from dovetail.schedulers.warmup import linear_warmup as linear_warmup
    from dovetail.schedulers.warmup import noam as noam
    from dovetail.schedulers.warmup import warmup_cosine as warmup_cosine
    from dovetail.schedulers.warmup import warmup_linear as warmup_linear
    from dovetail.schedulers.warmup_scheduler import WarmupPlateau as WarmupPlateau
    from dovetail.schedulers.warmup_scheduler import WarmupScheduler as WarmupScheduler
    from dovetail.schedulers.warmup_scheduler import with_warmup as with_warmup

_HOMES = {
    "ClosedFormLR": "dovetail.schedulers.closed_form",
    "Epochs": "dovetail.schedulers.warmup",
    "WarmupPlateau": "dovetail.schedulers.warmup_scheduler",
    "WarmupScheduler": "dovetail.schedulers.warmup_scheduler",
    "cosine": "dovetail.schedulers.annealing",
    "exponential": "dovetail.schedulers.decay",
    "linear_warmup": "dovetail.schedulers.warmup",
    "noam": "dovetail.schedulers.warmup",
    "one_cycle": "dovetail.schedulers.cycle",
    "plateau": "dovetail.schedulers.decay",
    "polynomial": "dovetail.schedulers.decay",
    "step": "dovetail.schedulers.decay",
    "warm_restarts": "dovetail.schedulers.annealing",
    "warmup_cosine": "dovetail.schedulers.warmup",
    "warmup_linear": "dovetail.schedulers.warmup",
    "with_warmup": "dovetail.schedulers.warmup_scheduler",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605 (built from the one table above)

__getattr__ = imported_on_use(__name__, _HOMES)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
