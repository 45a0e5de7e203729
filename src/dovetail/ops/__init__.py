"""The Python interface of the native ops in csrc, each with a fake and a plain-torch reference.

Shared objects in this folder contain the kernels; the first call of an op loads them. Without them, or with
DOVETAIL_NATIVE=0, the ops run their references. Each module is imported when one of its names is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dovetail.kernel.exports import lazy_namespace

if TYPE_CHECKING:
    from dovetail.ops._count_right import count_right as count_right
    from dovetail.ops._frequency import Bands as Bands
    from dovetail.ops._frequency import bands_around as bands_around
    from dovetail.ops._frequency import frequency_penalties as frequency_penalties
    from dovetail.ops._grad_norms import HISTOGRAM_EDGES as HISTOGRAM_EDGES
    from dovetail.ops._grad_norms import GradNorms as GradNorms
    from dovetail.ops._grad_norms import GradNormsPlan as GradNormsPlan
    from dovetail.ops._grad_norms import grad_norms as grad_norms
    from dovetail.ops._grad_norms import grad_norms_reference as grad_norms_reference
    from dovetail.ops._loader import Native as Native
    from dovetail.ops._loader import status as status
    from dovetail.ops._physical_terms import PhysicalTerms as PhysicalTerms
    from dovetail.ops._physical_terms import Windows as Windows
    from dovetail.ops._physical_terms import physical_terms as physical_terms
    from dovetail.ops._physics import consecutive as consecutive
    from dovetail.ops._physics import frequency_consistency as frequency_consistency
    from dovetail.ops._physics import sommerfeld_consistency as sommerfeld_consistency
    from dovetail.ops._physics import sommerfeld_number as sommerfeld_number
    from dovetail.ops._physics import sommerfeld_severity as sommerfeld_severity
    from dovetail.ops._physics import temporal_smoothness as temporal_smoothness
    from dovetail.ops._spec_augment import spec_augment as spec_augment
    from dovetail.ops._spec_augment import spec_augment_ as spec_augment_
else:
    __getattr__, __dir__, __all__ = lazy_namespace(__name__)
