"""What the framework defines: hooks, kinds of component, the protocols of their parts, and limits on values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dovetail.kernel.exports import lazy_namespace

if TYPE_CHECKING:
    from dovetail.kernel.kind import Provided as Provided
    from dovetail.spec.limits import AtLeast as AtLeast
    from dovetail.spec.limits import Between as Between
    from dovetail.spec.limits import MoreThan as MoreThan
    from dovetail.spec.protocols import Callback as Callback
    from dovetail.spec.protocols import Collator as Collator
    from dovetail.spec.protocols import Command as Command
    from dovetail.spec.protocols import Dataset as Dataset
    from dovetail.spec.protocols import Loss as Loss
    from dovetail.spec.protocols import Metric as Metric
    from dovetail.spec.protocols import Model as Model
    from dovetail.spec.protocols import Optimizer as Optimizer
    from dovetail.spec.protocols import Profile as Profile
    from dovetail.spec.protocols import Scheduler as Scheduler
    from dovetail.spec.protocols import Storage as Storage
    from dovetail.spec.protocols import Tracker as Tracker
    from dovetail.spec.protocols import Trainer as Trainer
    from dovetail.spec.protocols import Transform as Transform
else:
    __getattr__, __dir__, __all__ = lazy_namespace(__name__)
