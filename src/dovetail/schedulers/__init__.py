"""Learning-rate schedulers. Public names are imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dovetail.kernel.exports import lazy_namespace

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
else:
    __getattr__, __dir__, __all__ = lazy_namespace(__name__)
