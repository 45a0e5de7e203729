"""The Python interface of the native ops in csrc, each with a fake and a plain-torch reference.

Shared objects in this folder contain the kernels; the first call of an op loads them. Without them, or with
DOVETAIL_NATIVE=0, the ops run their references. Each module is imported when one of its names is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dovetail.kernel.exports import imported_on_use

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

_HOMES = {
    "HISTOGRAM_EDGES": "dovetail.ops._grad_norms",
    "Bands": "dovetail.ops._frequency",
    "GradNorms": "dovetail.ops._grad_norms",
    "GradNormsPlan": "dovetail.ops._grad_norms",
    "Native": "dovetail.ops._loader",
    "PhysicalTerms": "dovetail.ops._physical_terms",
    "Windows": "dovetail.ops._physical_terms",
    "bands_around": "dovetail.ops._frequency",
    "consecutive": "dovetail.ops._physics",
    "count_right": "dovetail.ops._count_right",
    "frequency_consistency": "dovetail.ops._physics",
    "frequency_penalties": "dovetail.ops._frequency",
    "grad_norms": "dovetail.ops._grad_norms",
    "grad_norms_reference": "dovetail.ops._grad_norms",
    "physical_terms": "dovetail.ops._physical_terms",
    "sommerfeld_consistency": "dovetail.ops._physics",
    "sommerfeld_number": "dovetail.ops._physics",
    "sommerfeld_severity": "dovetail.ops._physics",
    "spec_augment": "dovetail.ops._spec_augment",
    "spec_augment_": "dovetail.ops._spec_augment",
    "status": "dovetail.ops._loader",
    "temporal_smoothness": "dovetail.ops._physics",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605 (the table above lists every name)

__getattr__ = imported_on_use(__name__, _HOMES)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
