"""The Python face of the native ops in csrc: schema, fake, and a plain-torch reference for each.

An op's kernels live in shared objects beside this file, loaded when it is first called. Without them, or with
DOVETAIL_NATIVE=0, the references do the work.
"""

from __future__ import annotations

from dovetail.ops._frequency import Bands, bands_around, frequency_penalties
from dovetail.ops._grad_norms import HISTOGRAM_EDGES, GradNorms, GradNormsPlan, grad_norms, grad_norms_reference
from dovetail.ops._loader import Native, status
from dovetail.ops._physics import (
    PhysicalTerms,
    Windows,
    consecutive,
    frequency_consistency,
    physical_terms,
    sommerfeld_consistency,
    temporal_smoothness,
)
from dovetail.ops._sommerfeld import sommerfeld_number, sommerfeld_severity
from dovetail.ops._spec_augment import spec_augment, spec_augment_

__all__ = [
    "HISTOGRAM_EDGES",
    "Bands",
    "GradNorms",
    "GradNormsPlan",
    "Native",
    "PhysicalTerms",
    "Windows",
    "bands_around",
    "consecutive",
    "frequency_consistency",
    "frequency_penalties",
    "grad_norms",
    "grad_norms_reference",
    "physical_terms",
    "sommerfeld_consistency",
    "sommerfeld_number",
    "sommerfeld_severity",
    "spec_augment",
    "spec_augment_",
    "status",
    "temporal_smoothness",
]
